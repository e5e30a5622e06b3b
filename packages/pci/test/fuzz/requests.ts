/*
 * The requests of a random program: structures as it fills them, right or wrong.
 */
import {
  deviceFeature,
  deviceInfo,
  deviceIoeventfd,
  Feature,
  IrqSetFlag,
  irqInfo,
  irqSet,
  pciDependentDevice,
  pciHotReset,
  pciHotResetInfo,
  Request,
  regionInfo,
  regionStart,
} from '@vfio/core';
import { type FuzzLab, int32 } from './fuzz-lab.js';
import { RAW, type StepOf } from './program.js';

const U32 = 2 ** 32;
/** More than that nobody gives descriptors for. */
const MOST_FDS = 64;

const infos = [
  { size: deviceInfo.size, request: Request.DEVICE_GET_INFO },
  { size: regionInfo.size, request: Request.DEVICE_GET_REGION_INFO },
  { size: irqInfo.size, request: Request.DEVICE_GET_IRQ_INFO },
] as const;

/** A step that is a request. */
export type RequestStep = StepOf<
  'reset' | 'setIrqs' | 'info' | 'hotResetInfo' | 'hotReset' | 'ioeventfd' | 'feature' | 'ioctl'
>;

/** Makes the requests of one process. */
export class Requests {
  readonly #lab: FuzzLab;
  readonly #events: readonly number[];
  readonly #indexes: readonly number[];

  /** @param indexes - of interrupts that there are */
  constructor(lab: FuzzLab, events: readonly number[], indexes: readonly number[]) {
    this.#lab = lab;
    this.#events = events;
    this.#indexes = indexes;
  }

  /** Makes one request. @throws what it says */
  async ioctl(step: RequestStep): Promise<number> {
    const { process, fd } = this.#lab;
    return await process.ioctl(fd, ...this.#argument(step));
  }

  #argument(step: RequestStep): [request: number, argument?: Uint8Array] {
    switch (step.do) {
      case 'setIrqs':
        return [Request.DEVICE_SET_IRQS, this.#irqSet(step)];
      case 'info':
        return infoArgument(step);
      case 'hotResetInfo':
        return [Request.DEVICE_GET_PCI_HOT_RESET_INFO, hotResetInfo(step.room)];
      case 'hotReset':
        return [Request.DEVICE_PCI_HOT_RESET, this.#hotReset(step)];
      case 'ioeventfd':
        return [Request.DEVICE_IOEVENTFD, this.#ioeventfd(step)];
      case 'feature':
        return [Request.DEVICE_FEATURE, this.#feature(step)];
      case 'ioctl':
        return [step.request, Uint8Array.from(step.argument)];
      default:
        return [Request.DEVICE_RESET];
    }
  }

  #irqSet({ flags, index, start, count, fds, argszError }: StepOf<'setIrqs'>): Uint8Array {
    const entries = Array.from({ length: Math.min(count, MOST_FDS) }, (_, at) => this.#fd(fds[at % fds.length] ?? -1));
    const data =
      (flags & IrqSetFlag.DATA_EVENTFD) !== 0
        ? Buffer.concat(entries.map(int32))
        : Uint8Array.from((flags & IrqSetFlag.DATA_BOOL) !== 0 ? entries : []);
    const argsz = wrapped(irqSet.size + data.length + argszError);
    const own = index >= RAW ? index - RAW : (this.#indexes[index % this.#indexes.length] ?? 0);
    return Buffer.concat([irqSet.encode({ argsz, flags, index: own, start, count }, 'little'), data]);
  }

  #hotReset({ flags, groups, extra, argszError }: StepOf<'hotReset'>): Uint8Array {
    const fds = [...[...this.#lab.groups.values()].slice(0, groups), ...extra.map((one) => this.#fd(one))];
    const argsz = wrapped(pciHotReset.size + 4 * fds.length + argszError);
    const head = pciHotReset.encode({ argsz, flags, count: fds.length }, 'little');
    return Buffer.concat([head, ...fds.map(int32)]);
  }

  #ioeventfd({ flags, region, at, data, fd }: StepOf<'ioeventfd'>): Uint8Array {
    const offset = regionStart(region >= RAW ? region - RAW : region) + BigInt(Math.max(at, 0));
    const { size: argsz } = deviceIoeventfd;
    return deviceIoeventfd.encode({ argsz, flags, offset, data: BigInt(data), fd: this.#fd(fd) }, 'little');
  }

  #feature({ flags, data, argszError }: StepOf<'feature'>): Uint8Array {
    const argument = new Uint8Array(deviceFeature.size + data.length);
    argument.set(deviceFeature.encode({ argsz: wrapped(argument.length + argszError), flags }, 'little'));
    argument.set(data, deviceFeature.size);
    // Whoever wants to be woken gives an eventfd.
    const wakes = (flags & 0xffff) === Feature.LOW_POWER_ENTRY_WITH_WAKEUP && data.length >= 4;
    if (wakes) argument.set(int32(this.#fd(data[0] ?? 0)), deviceFeature.size);
    return argument;
  }

  #fd(one: number): number {
    return this.#events[one] ?? one;
  }
}

function infoArgument({ kind, argsz, index }: StepOf<'info'>): [number, Uint8Array] {
  const { size, request } = infos[kind] ?? infos[0];
  const argument = new Uint8Array(Math.max(argsz, size));
  const view = new DataView(argument.buffer);
  view.setUint32(0, argsz, true);
  view.setUint32(8, index, true);
  return [request, argument];
}

/** @param room - entries that there is room for; -1: not even for what comes before them */
function hotResetInfo(room: number): Uint8Array {
  const argsz = pciHotResetInfo.size + pciDependentDevice.size * room;
  const argument = new Uint8Array(Math.max(argsz, pciHotResetInfo.size));
  argument.set(pciHotResetInfo.encode({ argsz }, 'little'));
  return argument;
}

function wrapped(value: number): number {
  return ((value % U32) + U32) % U32;
}
