/*
 * Functions that do what registers tell them: they are reset, go to sleep, send messages and have virtual functions. For tests of
 * the services of the bus.
 */
import { Host, VirtualClock } from '@vfio/host';
import { pciInit } from '../../src/bus/bus-type.js';
import type { PciFunction, PciWidth } from '../../src/bus/function.js';
import type { PciDev } from '../../src/bus/pci-dev.js';
import { PciDriver, type PciDriverOptions, registerDriver } from '../../src/bus/pci-driver.js';
import { BridgeControl, CapId, Command, Exp, ExpType, ExtCapId, Pm, Reg, Sriov } from '../../src/bus/regs.js';
import { type FakeCap, FakeFunction, type FakeOptions, pcieCap, rootOf } from './fake-function.js';

/** Power management; `keeps` says that D3hot forgets nothing. */
export function pmCap(options: { keeps?: boolean; d1?: boolean } = {}): FakeCap {
  return {
    id: CapId.PM,
    bytes: [0x02, options.d1 ? 0x02 : 0, options.keeps ? 0x08 : 0, 0, 0, 0],
    writable: [0, 0, 0x03, 0x01, 0, 0],
  };
}

/** A PCI Express capability with or without FLR. */
export function expCap(type: number = ExpType.ENDPOINT, flr = false): FakeCap {
  const { id, bytes, writable } = pcieCap(type);
  const own = [...bytes];
  const mask = [...(writable ?? [])];
  if (flr) own[5] = (own[5] ?? 0) | 0x10;
  mask[6] = 0xff;
  mask[7] = 0xff;
  return { id, bytes: own, writable: mask };
}

/** As `expCap`, of a function that passes end-to-end prefixes on. */
export function prefixCap(type: number = ExpType.ENDPOINT, flr = false): FakeCap {
  const { bytes, ...rest } = expCap(type, flr);
  const own = [...bytes];
  const byte = Exp.DEVCAP2; // its third one, as the bytes begin behind two of the header
  own[byte] = (own[byte] ?? 0) | 0x20;
  return { ...rest, bytes: own };
}

/** PASIDs: so many bits, with rights to execute and privileges as `features` says. */
export function pasidCap(bits: number, features = 0): FakeCap {
  return { id: ExtCapId.PASID, bytes: [features, bits, 0, 0], writable: [0, 0, 0x07, 0] };
}

/** Advanced features with FLR. */
export const afCap: FakeCap = { id: CapId.AF, bytes: [6, 3, 0, 0], writable: [0, 0, 1, 0] };

/** MSI of 64 bits with masks, of 2 ** `log2` vectors. */
export function msiCap(log2: number): FakeCap {
  const bytes = new Array<number>(22).fill(0);
  bytes[0] = 0x80 | (log2 << 1);
  bytes[1] = 0x01;
  const writable = [
    0x71,
    0,
    0xfc,
    ...new Array<number>(7).fill(0xff),
    0xff,
    0xff,
    0,
    0,
    ...new Array<number>(4).fill(0xff),
  ];
  writable.length = 18;
  return { id: CapId.MSI, bytes, writable };
}

/** MSI-X with so many entries at the beginning of a BAR. */
export function msixCap(entries: number, bar: number): FakeCap {
  return { id: CapId.MSIX, bytes: [entries - 1, 0, bar, 0, 0, 0, bar, 0x08, 0, 0], writable: [0, 0xc0] };
}

/** SR-IOV: so many virtual functions, with a first BAR of 16 KiB each. */
export function sriovCap(total: number, offset: number, stride: number): FakeCap {
  const bytes = new Array<number>(0x3c).fill(0);
  const put = (at: number, value: number) => {
    bytes[at - 4] = value & 0xff;
    bytes[at - 3] = value >> 8;
  };
  put(Sriov.INITIAL_VF, total);
  put(Sriov.TOTAL_VF, total);
  put(Sriov.VF_OFFSET, offset);
  put(Sriov.VF_STRIDE, stride);
  put(Sriov.VF_DID, 0x10ca);
  put(Sriov.SUP_PGSIZE, 0x553);
  put(Sriov.BAR, 0x000c);
  const writable = new Array<number>(0x3c).fill(0);
  const allow = (at: number, mask: readonly number[]) => {
    for (const [index, byte] of mask.entries()) writable[at - 4 + index] = byte;
  };
  allow(Sriov.CTRL, [0x1f, 0]);
  allow(Sriov.NUM_VF, [0xff, 0xff]);
  allow(Sriov.SYS_PGSIZE, [0xff, 0xff, 0xff, 0xff]);
  allow(Sriov.BAR, [0, 0xc0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
  return { id: ExtCapId.SRIOV, bytes, writable };
}

/** What a test looks at after a reset. */
export type ResetKind = 'flr' | 'af' | 'pm' | 'bus';

/** A function that obeys. */
export class LabFunction extends FakeFunction {
  readonly kinds: ResetKind[] = [];
  /** The virtual functions that it could have. */
  readonly vfs: FakeFunction[] = [];
  readonly #initial: Uint8Array;
  readonly #behind: Map<number, FakeFunction> | undefined;

  constructor(options: FakeOptions = {}) {
    super(options);
    this.#behind = options.behind;
    this.#initial = Uint8Array.from(this.config);
  }

  virtualFunction(index: number): PciFunction | undefined {
    const cap = this.extCap(ExtCapId.SRIOV);
    const enabled = cap !== 0 && (this.readConfig(cap + Sriov.CTRL, 2) & Sriov.CTRL_VFE) !== 0;
    return enabled && index < this.readConfig(cap + Sriov.NUM_VF, 2) ? this.vfs[index] : undefined;
  }

  /** Offset of a capability. */
  cap(id: number): number {
    for (let at = this.config[Reg.CAPABILITY_LIST] ?? 0; at !== 0; at = this.config[at + 1] ?? 0) {
      if (this.config[at] === id) return at;
    }
    return 0;
  }

  extCap(id: number): number {
    if (this.configSize === 256) return 0;
    for (let at = 0x100; at !== 0; at = ((this.config[at + 2] ?? 0) >> 4) | ((this.config[at + 3] ?? 0) << 4)) {
      if (this.config[at] === id) return at;
    }
    return 0;
  }

  override writeConfig(offset: number, width: PciWidth, value: number): void {
    const pm = this.cap(CapId.PM);
    const before = pm === 0 ? 0 : this.readConfig(pm + Pm.CTRL, 2);
    super.writeConfig(offset, width, value);
    const exp = this.cap(CapId.EXP);
    if (exp !== 0 && offset === exp + Exp.DEVCTL && (value & Exp.DEVCTL_BCR_FLR) !== 0) this.#reset('flr');
    const af = this.cap(CapId.AF);
    if (af !== 0 && offset === af + 4 && (value & 1) !== 0) this.#reset('af');
    if (pm !== 0 && offset === pm + Pm.CTRL && (before & 3) === 3 && (value & 3) === 0 && (before & 8) === 0) {
      this.#reset('pm');
    }
    if (this.#behind && offset === 0x3e && (value & BridgeControl.BUS_RESET) !== 0) {
      for (const fn of this.#behind.values()) fn.busReset();
    }
  }

  override busReset(): void {
    this.resets++;
    this.#reset('bus');
  }

  #reset(kind: ResetKind): void {
    this.kinds.push(kind);
    this.config.set(this.#initial);
    if (!this.#behind) return;
    for (const fn of this.#behind.values()) if (kind === 'bus') fn.busReset();
  }
}

/** A bridge, with what is behind it. */
export function labBridge(
  behind: [number, FakeFunction][],
  type: number = ExpType.ROOT_PORT,
  caps: FakeCap[] = [],
): LabFunction {
  return new LabFunction({
    vendor: 0x1b36,
    device: 0x000c,
    classCode: 0x06_0400,
    pcie: true,
    caps: [expCap(type), ...caps],
    behind: new Map(behind),
  });
}

/** An endpoint that can be reset in every way, with memory. */
export function labEndpoint(options: FakeOptions = {}): LabFunction {
  return new LabFunction({
    pcie: true,
    pin: 1,
    bars: { 0: { size: 0x4000 } },
    caps: [expCap(ExpType.ENDPOINT, true), pmCap()],
    ...options,
  });
}

/** A host whose root bus has these functions. */
export async function labHost(
  functions: [number, FakeFunction][],
  options: { iommu?: boolean; maxPasids?: number } = {},
) {
  const iommu = {
    aperture: [0n, 2n ** 39n - 1n] as const,
    pageSizes: 0x1000n,
    coherent: true,
    msiIsolated: true,
    reserved: [],
    ...(options.maxPasids === undefined ? {} : { maxPasids: options.maxPasids }),
  };
  const host = new Host({ checked: true, clock: new VirtualClock(), ...(options.iommu ? { iommu } : {}) });
  const bus = await pciInit(host);
  const domain = await bus.addRoot(rootOf(new Map(functions)));
  const at = (number: number, devfn: number): PciDev => {
    const found = bus.find(0, number, devfn);
    if (!found) throw new Error(`nobody at ${number}:${devfn}`);
    return found;
  };
  return { host, bus, domain, at };
}

/** Registers a driver for functions with the ids of the laboratory. */
export async function labDriver(bus: Awaited<ReturnType<typeof pciInit>>, options: Partial<PciDriverOptions> = {}) {
  const anything = {
    vendor: 0x1234,
    device: 0x5678,
    subvendor: 0xffff_ffff,
    subdevice: 0xffff_ffff,
    class: 0,
    classMask: 0,
  };
  const driver = new PciDriver({ name: 'lab', bus, idTable: [anything], probe: () => {}, ...options });
  await registerDriver(driver);
  return driver;
}

/** What the command register has. */
export const command = (pdev: PciDev): number => pdev.hw.readConfig(Reg.COMMAND, 2);

/** Sets bits of the command register. */
export function decode(pdev: PciDev, bits: number = Command.MEMORY): void {
  pdev.hw.writeConfig(Reg.COMMAND, 2, command(pdev) | bits);
}
