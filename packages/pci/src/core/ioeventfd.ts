/*
 * Eventfds that write to a BAR: whoever signals one has a value written to a register, without a request for each. A write
 * happens within the signal if it can, else in a work item that waits for the lock.
 */
import {
  copyArgsz,
  deviceIoeventfd,
  IoeventfdFlag,
  regionIndexAt,
  regionOffsetAt,
  VfioError,
  type VirqfdSlot,
} from '@vfio/core';
import { type ErrnoCode, type IoctlCall, Mutex } from '@vfio/host';
import { ResourceFlag } from '../bus/resource-tree.js';
import { type BarMapping, resourceFlags, resourceLen } from '../bus/resources.js';
import type { PciCoreDevice } from './core-device.js';
import { memoryEnabled } from './memory.js';

/** Bytes of the request that an old caller has: without the last field. */
const MIN_ARGSZ = 28;
/** Source: drivers/vfio/pci/vfio_pci_priv.h PCI_MAX_IOEVENTFD */
const MAX_IOEVENTFDS = 1000;
const LAST_BAR = 5;

/** Bytes that a flag stands for. */
const widthOf: ReadonlyMap<number, Width> = new Map([
  [IoeventfdFlag.WIDTH_8, 1],
  [IoeventfdFlag.WIDTH_16, 2],
  [IoeventfdFlag.WIDTH_32, 4],
  [IoeventfdFlag.WIDTH_64, 8],
]);

type Width = 1 | 2 | 4 | 8;

/** What is written where. */
interface Target {
  readonly bar: number;
  readonly offset: number;
  readonly data: bigint;
  readonly width: Width;
}

/** One of them. Source: drivers/vfio/pci/vfio_pci_priv.h struct vfio_pci_ioeventfd */
interface Ioeventfd extends Target {
  readonly slot: VirqfdSlot;
}

/**
 * The ioeventfds of a function.
 *
 * @source drivers/vfio/pci/vfio_pci_rdwr.c vfio_pci_ioeventfd()
 */
export class Ioeventfds {
  readonly #device: PciCoreDevice;
  readonly #lock: Mutex;
  readonly #list: Ioeventfd[] = [];

  constructor(device: PciCoreDevice) {
    this.#device = device;
    this.#lock = new Mutex(device.pdev.pciHost, 'ioeventfds_lock');
  }

  /** How many there are. */
  get size(): number {
    return this.#list.length;
  }

  /**
   * VFIO_DEVICE_IOEVENTFD.
   *
   * @throws EINVAL - a flag or the width; not inside of a BAR; the MSI-X table; eight bytes; not an eventfd
   * @throws EEXIST - the same value at the same place is written already
   * @throws ENODEV - there is none to be removed
   * @throws ENOSPC - there are 1000
   * @throws EBADF, EFAULT, ENOMEM, EBUSY
   * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_ioctl_ioeventfd()
   */
  async ioctl(call: IoctlCall): Promise<number> {
    const head = copyArgsz(call, MIN_ARGSZ);
    const bytes = new Uint8Array(deviceIoeventfd.size);
    bytes.set(head);
    const { flags, offset, data, fd } = deviceIoeventfd.decode(bytes, call.order);
    const width = widthOf.get(flags);
    if (width === undefined || fd < -1) {
      throw this.#error('EINVAL', `flags 0x${flags.toString(16)}, descriptor ${fd}`);
    }
    const position = Number(offset);
    const target = { bar: regionIndexAt(position), offset: regionOffsetAt(position), data, width };
    const mapping = this.#mappingFor(target);
    using _held = await this.#lock.lock();
    const present = this.#list.find((one) => sameTarget(one, target));
    if (fd < 0) {
      if (!present) throw this.#error('ENODEV', 'nothing is written there');
      await this.#remove(present);
      return 0;
    }
    if (present) throw this.#error('EEXIST', 'that is written there already');
    if (this.#list.length >= MAX_IOEVENTFDS) throw this.#error('ENOSPC', `${MAX_IOEVENTFDS} are there`);
    this.#add(target, mapping, call, fd);
    return 0;
  }

  /** Removes all; the device is being closed, so nobody adds any. */
  async removeAll(): Promise<void> {
    for (const one of [...this.#list]) await this.#remove(one);
  }

  /** Where a target may be. */
  #mappingFor({ bar, offset, width }: Target): BarMapping {
    const { pdev, msixBar, msixOffset, msixSize, barmap } = this.#device;
    if (bar > LAST_BAR) throw this.#error('EINVAL', `region ${bar} is no BAR`);
    if (offset + width > resourceLen(pdev, bar))
      throw this.#error('EINVAL', `0x${offset.toString(16)} is not in BAR ${bar}`);
    const inTable = offset + width > msixOffset && offset < msixOffset + msixSize;
    if (bar === msixBar && inTable) throw this.#error('EINVAL', 'that is the MSI-X table');
    if (width === 8) throw this.#error('EINVAL', 'no eight bytes at once');
    const mapping = barmap[bar];
    if (mapping === undefined) throw this.#error('ENODEV', `BAR ${bar} is not mapped`);
    if (typeof mapping === 'string') throw this.#error(mapping, `BAR ${bar} could not be mapped`);
    return mapping;
  }

  #add(target: Target, mapping: BarMapping, call: IoctlCall, fd: number): void {
    const device = this.#device;
    device.pdev.pciHost.faults.check('vfio_pci_ioeventfd:ioeventfd');
    const memory = (resourceFlags(device.pdev, target.bar) & ResourceFlag.MEM) !== 0;
    const write = () => {
      const { offset, data, width } = target;
      if (width === 8 || (memory && !memoryEnabled(device))) return;
      mapping.write(offset, width, Number(BigInt.asUintN(8 * width, data)));
    };
    const one: Ioeventfd = { ...target, slot: {} };
    device.vfio.virqfds.enable(call.process, fd, one.slot, {
      handler: () => {
        if (!memory) {
          write();
          return false;
        }
        using held = device.memoryLock.tryRead();
        if (!held) return true;
        write();
        return false;
      },
      thread: async () => {
        using _held = await device.memoryLock.read();
        write();
      },
    });
    this.#list.push(one);
  }

  async #remove(one: Ioeventfd): Promise<void> {
    await this.#device.vfio.virqfds.disable(one.slot);
    this.#list.splice(this.#list.indexOf(one), 1);
  }

  #error(code: ErrnoCode, reason: string): VfioError {
    return new VfioError(code, reason, { syscall: 'VFIO_DEVICE_IOEVENTFD', subject: this.#device.pdev.name });
  }
}

function sameTarget(a: Target, b: Target): boolean {
  return a.bar === b.bar && a.offset === b.offset && a.data === b.data && a.width === b.width;
}
