// Eventfds in the place of writes to a region: GET_REGION_IO_FDS, and who rings the device.

import { eventfd, type Fd, PollEvent, type Watcher } from '@vfio/sys';
import { IoeventfdEntryFlag, IoFdType, ioeventfdEntry, regionIoFdsMessage } from '../wire/messages.js';
import type { Call } from './call.js';
import type { IrqContext } from './irqs.js';
import { invalid } from './refusal.js';
import type { Doorbell, SocketDevice } from './socket-device.js';

/** An eventfd that the client has been given. */
interface Wire {
  readonly fd: Fd;
  readonly watcher: Watcher;
}

const { DATAMATCH } = IoeventfdEntryFlag;

/** The eventfds of one open device. */
export class IoFds {
  readonly #context: IrqContext;
  readonly #device: SocketDevice | undefined;
  /** By region and number. */
  readonly #wires = new Map<string, Wire>();

  /** @param device - undefined for one that would rather be written to, as all of VFIO are */
  constructor(context: IrqContext, device: SocketDevice | undefined) {
    this.#context = context;
    this.#device = device;
  }

  /**
   * DEVICE_GET_REGION_IO_FDS: entries if there is room for all of them, otherwise how many there are.
   *
   * @param sizeOf - bytes of a region; 0 of one that is not there
   */
  answer(call: Call, sizeOf: (region: number) => number): void {
    const head = regionIoFdsMessage;
    if (call.length < head.size) throw invalid(`${call.length} bytes do not hold a request`);
    const { argsz, flags, index, count } = head.decode(call.payload(0, head.size), 'little');
    if (argsz < head.size) throw invalid(`argsz is ${argsz}`);
    if (flags !== 0 || count !== 0) throw invalid(`flags ${flags}, count ${count}`);
    if (sizeOf(index) === 0) throw invalid(`region ${index} does not exist`);
    const doorbells = this.#device?.doorbells(index) ?? [];
    const needed = head.size + doorbells.length * ioeventfdEntry.size;
    const whole = argsz >= needed && doorbells.length > 0;
    const wires = [...new Set(doorbells.map(({ wire }) => wire))];
    const fds = whole ? wires.map((wire) => this.#wire(index, wire).fd.number) : [];
    const at = call.openReply(whole ? needed : head.size);
    call.replyBytes.set(head.encode({ argsz: needed, flags: 0, index, count: doorbells.length }, 'little'), at);
    if (!whole) return;
    const entries = doorbells.map((doorbell) => entryOf(doorbell, wires.indexOf(doorbell.wire)));
    call.replyBytes.set(ioeventfdEntry.encodeArray(entries, 'little'), at + head.size);
    call.attachFds(fds);
  }

  /** Nobody is rung any more. */
  close(): void {
    for (const { fd, watcher } of this.#wires.values()) {
      watcher.stop();
      fd.close();
    }
    this.#wires.clear();
  }

  #wire(region: number, number: number): Wire {
    const key = `${region}:${number}`;
    const known = this.#wires.get(key);
    if (known !== undefined) return known;
    const { linux, reactor, events } = this.#context;
    const fd = eventfd(linux);
    const ring = () => {
      if (events.take(fd.number) > 0n) this.#device?.ring(region, number);
    };
    try {
      const wire = { fd, watcher: reactor.watch(fd.number, PollEvent.IN, ring) };
      this.#wires.set(key, wire);
      return wire;
    } catch (error) {
      fd.close();
      throw error;
    }
  }
}

function entryOf({ offset, size, datamatch }: Doorbell, fdIndex: number) {
  return {
    offset: BigInt(offset),
    size: BigInt(size),
    fdIndex,
    type: IoFdType.IOEVENTFD,
    flags: datamatch === undefined ? 0 : DATAMATCH,
    datamatch: datamatch ?? 0n,
  };
}
