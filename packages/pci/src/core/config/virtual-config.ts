/*
 * Config space as the user sees it: a copy, made when the device is opened, and the hardware, mixed bit by bit. An access is cut
 * into cycles that stay inside of one dword and one capability.
 */
import { VfioError } from '@vfio/core';
import type { UserBuffer } from '@vfio/host';
import { writeConfig } from '../../bus/config.js';
import type { PciWidth } from '../../bus/function.js';
import type { PciDev } from '../../bus/pci-dev.js';
import { Command, Reg } from '../../bus/regs.js';
import type { PciCoreDevice } from '../core-device.js';
import { barFixup } from './bar.js';
import { capInit, ecapInit } from './cap-list.js';
import { Writer } from './cap-perms.js';
import { writeMsi, writePm, writeVpdCap } from './cap-writes.js';
import { Reader } from './config-map.js';
import { ConfigState, configUnblocked } from './config-state.js';
import { writeAf, writeExp } from './function-reset.js';
import { writeHeader } from './header.js';
import type { ConfigView } from './view.js';

/** Config space of an open device. */
export class VirtualConfig implements ConfigView {
  readonly #pdev: PciDev;
  readonly #state: ConfigState;

  /** Use `init`. */
  private constructor(state: ConfigState) {
    this.#pdev = state.pdev;
    this.#state = state;
  }

  /**
   * Made when a device is opened.
   *
   * @throws ENOMEM
   * @source drivers/vfio/pci/vfio_pci_config.c vfio_config_init()
   */
  static init(device: PciCoreDevice): VirtualConfig {
    const { pdev } = device;
    pdev.pciHost.faults.check('vfio_config_init:map');
    pdev.pciHost.faults.check('vfio_config_init:vconfig');
    const state = new ConfigState(device);
    replaceHeader(state);
    if (capInit(state)) ecapInit(state);
    state.map.build();
    return new VirtualConfig(state);
  }

  get commandMemory(): boolean {
    return (this.#state.vconfig.get(Reg.COMMAND, 1) & Command.MEMORY) !== 0;
  }

  get interruptPin(): number {
    return this.#state.vconfig.get(Reg.INTERRUPT_PIN, 1);
  }

  get msiQmax(): number {
    return this.#state.msiQmax;
  }

  /** Differs: the bound is that of this open; Linux keeps the last one of the device's life. */
  set msiQmax(log2: number) {
    this.#state.msiQmax = log2;
  }

  read(into: UserBuffer, offset: number): number | Promise<number> {
    this.#within(into, offset);
    return this.#readFrom(into, offset, 0);
  }

  write(from: UserBuffer, offset: number): number | Promise<number> {
    this.#within(from, offset);
    return this.#writeFrom(from, offset, 0);
  }

  virtualize(offset: number, value: number): void {
    this.#state.map.virtualize(offset, 4);
    this.#state.vconfig.set(offset, 4, value);
  }

  /** Nothing is left but memory. */
  free(): void {}

  /** Nothing is read or written of an access that is not wholly inside. */
  #within({ length }: UserBuffer, offset: number): void {
    const { cfgSize } = this.#pdev;
    if (offset + length <= cfgSize) return;
    const reason = `${length} bytes at 0x${offset.toString(16)} of ${cfgSize}`;
    throw new VfioError('EFAULT', reason, { syscall: 'read, write', subject: this.#pdev.name });
  }

  #readFrom(into: UserBuffer, offset: number, from: number): number | Promise<number> {
    const { bytes, length } = into;
    const state = this.#state;
    let done = from;
    while (done < length) {
      const at = offset + done;
      const width = state.map.width(at, length - done);
      if (this.#pdev.cfgBlocked !== undefined && state.reachesHardware(at, width)) {
        return this.#readLater(into, offset, done);
      }
      const value = readCycle(state, at, width);
      if (done + width > bytes.length) throw notAccessible(bytes.length);
      bytes[done] = value;
      if (width > 1) bytes[done + 1] = value >>> 8;
      if (width > 2) {
        bytes[done + 2] = value >>> 16;
        bytes[done + 3] = value >>> 24;
      }
      done += width;
    }
    return length;
  }

  async #readLater(into: UserBuffer, offset: number, done: number): Promise<number> {
    await configUnblocked(this.#pdev);
    return await this.#readFrom(into, offset, done);
  }

  #writeFrom(source: UserBuffer, offset: number, from: number): number | Promise<number> {
    const { bytes, length } = source;
    const state = this.#state;
    let done = from;
    while (done < length) {
      const at = offset + done;
      const width = state.map.width(at, length - done);
      const writer = state.map.writer[at];
      if (writer !== Writer.DROP) {
        if (this.#pdev.cfgBlocked !== undefined && state.reachesHardware(at, width)) {
          return this.#writeAfter(configUnblocked(this.#pdev), source, offset, done);
        }
        if (done + width > bytes.length) throw notAccessible(bytes.length);
        const pending = writeCycle(state, writer, at, width, littleEndian(bytes, done, width));
        if (pending !== undefined) return this.#writeAfter(pending, source, offset, done + width);
      }
      done += width;
    }
    return length;
  }

  async #writeAfter(pending: Promise<void>, source: UserBuffer, offset: number, done: number): Promise<number> {
    await pending;
    return await this.#writeFrom(source, offset, done);
  }
}

/** What the user finds in the header instead of what the hardware has. */
function replaceHeader({ device, pdev, vconfig }: ConfigState): void {
  if (pdev.isVirtfn) {
    vconfig.set(Reg.VENDOR_ID, 2, pdev.vendor);
    vconfig.set(Reg.DEVICE_ID, 2, pdev.deviceId);
    const pin = vconfig.get(Reg.INTERRUPT_PIN, 1);
    if (pin !== 0) pdev.pciHost.log.info('Masking broken INTx support', pdev.logName());
  }
  // A function without the bit always answers.
  if (pdev.noCommandMemory) vconfig.set(Reg.COMMAND, 2, vconfig.get(Reg.COMMAND, 2) | Command.MEMORY);
  if (pdev.isVirtfn || device.nointx || pdev.irq === 0) vconfig.set(Reg.INTERRUPT_PIN, 1, 0);
}

/** Source: drivers/vfio/pci/vfio_pci_config.c vfio_basic_config_read(), vfio_direct_config_read() */
function readCycle(state: ConfigState, at: number, width: PciWidth): number {
  switch (state.map.reader[at]) {
    case Reader.BAR:
      barFixup(state);
      return state.readBits(at, width);
    case Reader.COMMAND: {
      const value = state.readBits(at, width);
      return state.pdev.noCommandMemory ? value | (state.vconfig.get(Reg.COMMAND, 1) & Command.MEMORY) : value;
    }
    case Reader.ID: {
      const value = state.readBits(at, width);
      return width === 1 ? value : ((value & ~0xff) | state.vconfig.get(at, 1)) >>> 0;
    }
    default:
      return state.readBits(at, width);
  }
}

function writeCycle(
  state: ConfigState,
  writer: number | undefined,
  at: number,
  width: PciWidth,
  value: number,
): undefined | Promise<void> {
  switch (writer) {
    case Writer.HEADER:
      return writeHeader(state, at, width, value);
    case Writer.PM:
      return writePm(state, at, width, value);
    case Writer.VPD:
      return writeVpdCap(state, at, width, value);
    case Writer.EXP:
      return writeExp(state, at, width, value);
    case Writer.AF:
      return writeAf(state, at, width, value);
    case Writer.MSI:
      return writeMsi(state, at, width, value);
    case Writer.RAW:
      writeConfig(state.pdev, at, width, value);
      return undefined;
    default:
      state.writeBits(at, width, value);
      return undefined;
  }
}

function littleEndian(bytes: Uint8Array, at: number, width: PciWidth): number {
  let value = 0;
  for (let lane = width - 1; lane >= 0; lane--) value = ((value << 8) | (bytes[at + lane] ?? 0)) >>> 0;
  return value;
}

function notAccessible(accessible: number): VfioError {
  return new VfioError('EFAULT', `only ${accessible} bytes of the buffer are accessible`, { syscall: 'read, write' });
}
