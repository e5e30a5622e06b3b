/*
 * One function out of a record: its registers keep, clear and refuse what those of the real one did, its capabilities work, and
 * a known device is behind its BARs.
 */
import { BridgeReg, CapId, ExtCapId, HeaderType, Msi, Msix, Pm, Reg, Sriov, STD_HEADER_SIZE } from '../bus/regs.js';
import { type BarDevice, type BarOptions, MemoryBar } from './bar.js';
import { EmulatedBridge } from './bridge.js';
import { attachCapabilities } from './capabilities/attach.js';
import { capabilityBytes } from './capabilities/extent.js';
import { EmulatedFunction, type FunctionOptions } from './function.js';
import { modelFor } from './models/index.js';
import type { DeviceModel } from './models/model.js';
import { dword, word } from './raw-config.js';
import type { FunctionRecord, RecordedBar, RecordedContents } from './record.js';
import { VirtualFunction } from './virtual-function.js';

/** What else belongs to a function. */
export interface RecordedOptions {
  /** Bytes that were read in its BARs and its ROM. */
  readonly contents?: readonly RecordedContents[];
  /** Its virtual functions, by index, as far as they are known. */
  readonly virtual?: readonly FunctionRecord[];
}

const NO_VENDOR = 0xffff;
const CONFIG_256 = 0x100;
/** Memory that a BAR without a known device has behind it, at most; what is beyond takes nothing. */
const PLAIN_LIMIT = 0x100_0000;

/** Makes a function. Bridges have a segment that is still empty. */
export function recordedFunction(record: FunctionRecord, options: RecordedOptions = {}): EmulatedFunction {
  const header = (record.config[Reg.HEADER_TYPE] ?? 0) & HeaderType.MASK;
  const own = optionsOf(record);
  const fn = header === HeaderType.BRIDGE ? new EmulatedBridge(own) : new EmulatedFunction(own);
  const makeVf = (index: number) => virtualFunction(fn, record, options, index);
  build(fn, record, options.contents ?? [], makeVf);
  return fn;
}

/** A virtual function as it was recorded, or as its physical function describes it. */
function virtualFunction(
  pf: EmulatedFunction,
  record: FunctionRecord,
  { virtual = [], contents = [] }: RecordedOptions,
  index: number,
): VirtualFunction {
  const like = virtual[index] ?? virtual.at(-1);
  const own = optionsOf(like ?? record);
  const vf = new VirtualFunction(pf, own);
  if (like) build(vf, like, contents, undefined);
  else for (const bar of record.vfBars) vf.addBar(bar.index, barOptions(bar), plainMemory(bar.size));
  return vf;
}

function build(
  fn: EmulatedFunction,
  record: FunctionRecord,
  contents: readonly RecordedContents[],
  makeVf: ((index: number) => VirtualFunction) | undefined,
): void {
  const { config } = fn;
  for (const [offset, byte] of record.config.entries()) config.set(offset, 1, byte);
  const own = contents.filter(({ domain, bus, devfn }) => {
    return domain === record.domain && bus === record.bus && devfn === record.devfn;
  });
  addBars(fn, record, own);
  attachCapabilities(fn, makeVf ? { makeVf } : {});
  const sriov = fn.capabilities.findExtended(ExtCapId.SRIOV);
  if (sriov !== 0) allowVfBars(fn, record, sriov);
  const covered = capabilityBytes(fn);
  for (let offset = 0; offset < record.config.length; offset += 4) loadRegister(fn, record, offset, sriov, covered);
  disarm(fn);
  fn.updateDecoding();
}

/** What a register has now and after a reset, and which of its bits can be written. */
function loadRegister(
  fn: EmulatedFunction,
  record: FunctionRecord,
  offset: number,
  sriov: number,
  covered: ReadonlySet<number>,
): void {
  const { config } = fn;
  const value = dword(record.config, offset);
  if (record.writes) {
    const { ones, zeros, after } = record.writes;
    config.allow(offset, 4, (dword(ones, offset) & ~dword(zeros, offset)) >>> 0);
    const cleared = value & ~dword(ones, offset) & ~dword(zeros, offset) & ~dword(after, offset);
    if (cleared !== 0) config.clearOnOne(offset, 4, (cleared | config.clearable(offset, 4)) >>> 0);
  }
  // What firmware and kernel have set up is gone after a reset; what capabilities had is what they come with.
  const assigned = offset < STD_HEADER_SIZE || (sriov !== 0 && offset >= sriov && offset < sriov + Sriov.SIZEOF);
  config.set(offset, 4, assigned ? value & ~config.writable(offset, 4) : value);
  if (sriov !== 0 && offset === sriov + Sriov.SYS_PGSIZE) config.set(offset, 4, 1);
  config.put(offset, 4, value);
  // Nothing is known of what is in no capability; the recorded functions kept it over their resets.
  if (offset < STD_HEADER_SIZE) return;
  for (let at = offset; at < offset + 4; at++) if (!covered.has(at)) config.keep(at, 1, config.writable(at, 1));
}

/** No kernel has been there yet: it is awake, interrupts nobody, and has no virtual functions. */
function disarm(fn: EmulatedFunction): void {
  const { config, capabilities } = fn;
  const pm = capabilities.find(CapId.PM);
  if (pm !== 0) clear(fn, pm + Pm.CTRL, Pm.CTRL_STATE_MASK);
  const msi = capabilities.find(CapId.MSI);
  if (msi !== 0) clear(fn, msi + Msi.FLAGS, Msi.FLAGS_ENABLE);
  const msix = capabilities.find(CapId.MSIX);
  if (msix !== 0) clear(fn, msix + Msix.FLAGS, Msix.FLAGS_ENABLE | Msix.FLAGS_MASKALL);
  const sriov = capabilities.findExtended(ExtCapId.SRIOV);
  if (sriov === 0) return;
  clear(fn, sriov + Sriov.CTRL, Sriov.CTRL_VFE | Sriov.CTRL_MSE);
  config.put(sriov + Sriov.NUM_VF, 2, 0);
}

/** Now and after a reset. */
function clear(fn: EmulatedFunction, offset: number, bits: number): void {
  fn.config.set(offset, 2, fn.config.get(offset, 2) & ~bits);
}

function addBars(fn: EmulatedFunction, record: FunctionRecord, contents: readonly RecordedContents[]): void {
  const model = makeDevice(fn, record, contents);
  for (const bar of record.bars) {
    fn.addBar(
      bar.index,
      barOptions(bar),
      model?.bars[bar.index] ?? plainMemory(bar.size, bytesOf(contents, bar.index)),
    );
  }
  const rom = bytesOf(contents, 'rom');
  if (record.romSize > 0) fn.addRom(romDevice(rom, record.romSize), record.romSize, romRegister(fn));
  if (!model) return;
  fn.legacy = model.legacy;
  // The display's ROM is copied to where old programs look for it.
  if (model.legacy && rom.length > 0) fn.platformRom = rom;
  fn.onReset((kind) => model.reset?.(kind));
  fn.onPowerOff(() => model.powerOff?.());
}

function makeDevice(
  fn: EmulatedFunction,
  record: FunctionRecord,
  contents: readonly RecordedContents[],
): DeviceModel | undefined {
  const make = modelFor(word(record.config, Reg.VENDOR_ID), word(record.config, Reg.DEVICE_ID));
  return make?.({
    fn,
    sizeOf: (index) => record.bars.find((bar) => bar.index === index)?.size ?? 0,
    initial: (index) => bytesOf(contents, index),
  });
}

/** Without a recording of writes, sizes are all that is known of the BARs of virtual functions. */
function allowVfBars(fn: EmulatedFunction, { vfBars }: FunctionRecord, sriov: number): void {
  for (const { index, size, wide } of vfBars) {
    const register = sriov + Sriov.BAR + 4 * index;
    const mask = -BigInt(size);
    fn.config.allow(register, 4, Number(mask & 0xffff_fff0n));
    if (wide) fn.config.allow(register + 4, 4, Number((mask >> 32n) & 0xffff_ffffn));
  }
}

function bytesOf(contents: readonly RecordedContents[], where: number | 'rom'): Uint8Array<ArrayBuffer> {
  const parts = contents.filter((part) => part.where === where);
  const bytes = new Uint8Array(Math.max(0, ...parts.map((part) => part.offset + part.bytes.length)));
  for (const part of parts) bytes.set(part.bytes, part.offset);
  return bytes;
}

function plainMemory(size: number, initial = new Uint8Array()): BarDevice {
  const bytes = new Uint8Array(Math.min(size, PLAIN_LIMIT));
  bytes.set(initial.subarray(0, bytes.length));
  return new MemoryBar(bytes);
}

/** Behind the images of a ROM there are ones. */
function romDevice(images: Uint8Array, size: number): BarDevice {
  const bytes = new Uint8Array(size).fill(0xff);
  bytes.set(images.subarray(0, size));
  const memory = new MemoryBar(bytes);
  return { read: (offset, width) => memory.read(offset, width), write: () => undefined };
}

function romRegister(fn: EmulatedFunction): number {
  return fn instanceof EmulatedBridge ? BridgeReg.ROM_ADDRESS : Reg.ROM_ADDRESS;
}

function barOptions({ size, space, wide, prefetch }: RecordedBar): BarOptions {
  return { size, space, wide, prefetch };
}

function optionsOf({ config }: FunctionRecord): FunctionOptions {
  return {
    vendor: word(config, Reg.VENDOR_ID),
    device: word(config, Reg.DEVICE_ID),
    classCode: dword(config, Reg.REVISION_ID) >>> 8,
    revision: config[Reg.REVISION_ID] ?? 0,
    extended: config.length > CONFIG_256,
  };
}

/** Whether a record is one of a virtual function, which has no ids of its own. */
export function isVirtual({ config }: FunctionRecord): boolean {
  return word(config, Reg.VENDOR_ID) === NO_VENDOR;
}
