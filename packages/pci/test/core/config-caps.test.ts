/*
 * Capabilities of config space: which of them the user sees, and what of their registers.
 */
import { describe, expect, it } from 'vitest';
import { CapId, ExpType, ExtCapId, Reg, Status } from '../../src/bus/regs.js';
import type { FakeCap } from '../bus/fake-function.js';
import { expCap, LabFunction, labBridge, msiCap, msixCap, pmCap, sriovCap } from '../bus/service-lab.js';
import { ConfigLab } from './config-lab.js';
import { CONFIG, CoreLab, errno, NAME } from './core-lab.js';

const exp = expCap(ExpType.ENDPOINT, true);
const PCIX_VERSION_1 = 0x10;

/** A capability whose bytes can all be written. */
function soft(id: number, bytes: readonly number[]): FakeCap {
  return { id, bytes, writable: bytes.map(() => 0xff) };
}

/** Bytes, zero except for some, offsets as from the start of the capability. */
function filled(id: number, size: number, at: Readonly<Record<number, number>> = {}, header = 2): FakeCap {
  return soft(
    id,
    Array.from({ length: size - header }, (_, index) => at[index + header] ?? 0),
  );
}

const ext = (id: number, size: number, at: Readonly<Record<number, number>> = {}) => filled(id, size, at, 4);

/** Ids of the list as the user reads it. */
async function listOf(lab: ConfigLab): Promise<number[]> {
  const ids: number[] = [];
  for (let at = await lab.read(Reg.CAPABILITY_LIST, 1); at !== 0 && ids.length < 48; at = await lab.read(at + 1, 1)) {
    ids.push(await lab.read(at, 1));
  }
  return ids;
}

async function extListOf(lab: ConfigLab): Promise<number[]> {
  const ids: number[] = [];
  for (let at = 0x100; at !== 0 && ids.length < 48; ) {
    const header = await lab.read(at, 4);
    ids.push(header & 0xffff);
    at = header >>> 20;
  }
  return ids;
}

/** Bytes that a capability has as the user sees it: those where writing changes nothing, though the hardware would. */
async function readOnlyBytes(lab: ConfigLab, from: number, to: number): Promise<number> {
  let count = 0;
  for (let at = from; at < to; at++) {
    const before = lab.fn.config[at] ?? 0;
    await lab.write(at, 1, ~before & 0xff);
    if (lab.fn.config[at] !== before) break;
    count++;
  }
  return count;
}

/** PCI-X, fast enough to have extended config space. */
const pcix = (version: number) => filled(CapId.PCIX, 24, { 3: version, 7: 0x40 });

/** Tests make its list of capabilities by hand: a reset leaves it. */
class Steady extends LabFunction {
  override busReset(): void {
    this.resets++;
  }
}

const steady = (caps: readonly FakeCap[]) => new Steady({ pcie: true, pin: 1, bars: { 0: { size: 0x4000 } }, caps });

describe('the list of capabilities', () => {
  it('PCI-113 leaves out those that are hidden, whose bytes are the hardware', async () => {
    const caps = [
      soft(CapId.SLOTID, [1, 2]),
      pmCap(),
      soft(CapId.SHPC, [3, 4, 5, 6, 7, 8]),
      exp,
      soft(CapId.EA, [9, 9]),
    ];
    await using lab = await ConfigLab.open({ caps });
    expect(await listOf(lab)).toEqual([CapId.PM, CapId.EXP]);
    const hidden = lab.fn.cap(CapId.SHPC);
    expect(await lab.read(hidden, 4)).toBe(lab.fn.readConfig(hidden, 4));
    expect(await lab.probe(hidden + 2, 2, 0x1234)).toBe(0x1234);
    expect(lab.fn.readConfig(hidden + 2, 2)).toBe(0x1234);
  });

  it('PCI-113 and one of kind 0 or beyond those that are known', async () => {
    await using lab = await ConfigLab.open({ caps: [exp, soft(0, [0, 0]), soft(0x77, [0, 0]), pmCap()] });
    expect(await listOf(lab)).toEqual([CapId.EXP, CapId.PM]);
  });

  it('PCI-114 is not there when all are hidden', async () => {
    await using lab = await ConfigLab.open({ caps: [soft(CapId.SLOTID, [1, 2])] });
    expect((await lab.read(Reg.STATUS, 2)) & Status.CAP_LIST).toBe(0);
    expect(await lab.read(Reg.CAPABILITY_LIST, 1)).toBe(0);
    expect(lab.fn.readConfig(Reg.STATUS, 2) & Status.CAP_LIST).toBe(Status.CAP_LIST);
  });

  it('PCI-118 leaves out one of a vendor without a length', async () => {
    await using lab = await ConfigLab.open({ caps: [soft(CapId.VNDR, [0, 0]), exp, soft(CapId.VNDR, [4, 0])] });
    expect(await listOf(lab)).toEqual([CapId.EXP, CapId.VNDR]);
  });

  it('ends after as many as there is room for', async () => {
    const vendor = soft(CapId.VNDR, [4, 0]);
    const fn = steady([expCap(ExpType.ENDPOINT, false), vendor]);
    // Who looks for a capability that is not there would look for ever.
    const at = fn.cap(CapId.VNDR);
    fn.cap = () => 0;
    fn.set(at + 1, 1, 0x40);
    await using lab = await ConfigLab.open(fn);
    expect(await lab.read(at + 1, 1)).toBe(0x40);
    expect(await lab.read(0x41, 1)).toBe(at);
  });

  it('hazard 28: a capability ends with its part of config space', async () => {
    const fn = steady([expCap(ExpType.ENDPOINT, false)]);
    fn.set(fn.cap(CapId.EXP) + 1, 1, 0xf8);
    fn.set(0xf8, 4, CapId.VNDR | (0xfc << 8) | (0xff << 16));
    fn.set(0xfc, 4, CapId.MSI);
    fn.set(0x100, 4, 0x0001_0000 | ExtCapId.VNDR | (0xffc << 20));
    fn.set(0x104, 4, 0xfff << 20);
    fn.set(0xffc, 4, 0x0001_0000 | ExtCapId.DSN, 0xffff_ffff);
    await using lab = await ConfigLab.open(fn);
    expect([...(await lab.user.read(CONFIG, 0xf8, 8))]).toEqual([9, 0xfc, 0xff, 0, 5, 0, 0, 0]);
    // The later one has taken its bytes from the long one, and can not be written.
    expect(await lab.probe(0xffc, 4, 0xffff_ffff)).toBe(0x0001_0000 | ExtCapId.DSN);
    expect(lab.log.filter((text) => text.includes('PCI config conflict')).length).toBeGreaterThan(0);
    for (let at = 0xf8; at < 0x104; at++) await lab.write(at, 1, 0xff);
  });

  it('whose length is at an odd address keeps the device from being opened', async () => {
    const fn = steady([]);
    fn.set(Reg.STATUS, 2, Status.CAP_LIST);
    fn.set(Reg.CAPABILITY_LIST, 1, 0x81);
    fn.set(0x81, 1, CapId.PM);
    fn.set(0x82, 1, 0x91);
    fn.cap = () => 0;
    fn.set(0x91, 1, CapId.MSI);
    await using lab = await CoreLab.create({ functions: [[0x08, labBridge([[0, fn]])]], bind: [NAME] });
    const process = lab.host.spawn();
    await expect(lab.open(NAME, { process })).rejects.toEqual(errno('EFAULT'));
    await process.exit();
    // One of a fixed length may be anywhere.
    fn.set(0x91, 1, CapId.VPD);
    const user = await lab.open();
    expect([...(await user.read(CONFIG, 0x81, 2))]).toEqual([CapId.PM, 0x91]);
    await user.close();
  });

  it('PCI-119 two of a kind without a gap are one', async () => {
    await using lab = await ConfigLab.open({ caps: [exp, soft(CapId.VNDR, [4, 1]), soft(CapId.VNDR, [6, 2, 3, 4])] });
    const first = lab.fn.cap(CapId.VNDR);
    const second = first + 4;
    // What is the link of the second to others is a byte like any other here.
    lab.fn.set(second + 1, 1, 0, 0xff);
    lab.fn.set(first + 1, 1, second, 0xff);
    expect(await lab.probe(second + 1, 1, 0x5a)).toBe(0x5a);
    expect(await lab.probe(first + 1, 1, 0x5a)).toBe(second);
  });

  it('a later capability takes bytes of an earlier one', async () => {
    await using lab = await ConfigLab.open({ caps: [exp, soft(CapId.VNDR, [12, 0]), pmCap()] });
    expect(lab.log).toContainEqual(expect.stringContaining('vfio_cap_init: PCI config conflict @0x'));
    const pm = lab.fn.cap(CapId.PM);
    expect((await lab.read(pm + 2, 2)) & 0xf800).toBe(0);
    expect(await lab.probe(pm + 1, 1, 0xff)).toBe(0);
  });

  // biome-ignore format: a table reads in columns
  const lengths: [string, number, number, FakeCap][] = [
    ['AGP', 12, 20, filled(CapId.AGP, 20)],
    ['HyperTransport, long', 28, 32, filled(CapId.HT, 32)],
    ['HyperTransport, short', 24, 32, filled(CapId.HT, 32, { 3: 0x20 })],
    ['SATA', 8, 20, filled(CapId.SATA, 20)],
    ['SATA with its registers', 16, 20, filled(CapId.SATA, 20, { 4: 0xf })],
    ['MSI-X', 12, 20, filled(CapId.MSIX, 20)],
  ];

  for (const [name, length, size, cap] of lengths) {
    it(`has ${name} of ${length} bytes`, async () => {
      await using lab = await ConfigLab.open({ caps: [exp, cap], bars: { 0: { size: 0x4000 } } });
      const at = lab.fn.cap(cap.id);
      expect(await readOnlyBytes(lab, at, at + size)).toBe(length);
    });
  }

  it('PCI Express is as long as its version says, and shorter inside of the root complex', async () => {
    const lengthOf = async (version: number, type: number) => {
      const cap = filled(CapId.EXP, 0x3c, { 2: version | (type << 4) });
      await using lab = await ConfigLab.open({ caps: [cap] });
      const at = lab.fn.cap(CapId.EXP);
      // Behind it all is the hardware's; inside, status registers are read-only.
      for (let offset = 0x3a; offset > 0; offset--) {
        const before = lab.fn.config[at + offset] ?? 0;
        await lab.write(at + offset, 1, ~before & 0xff);
        if (lab.fn.config[at + offset] === before) return offset + 1;
      }
      return 0;
    };
    expect(await lengthOf(1, ExpType.ENDPOINT)).toBe(20);
    expect(await lengthOf(1, ExpType.RC_END)).toBe(12);
    expect(await lengthOf(2, ExpType.ENDPOINT)).toBe(0x34);
    expect(await lengthOf(2, ExpType.RC_END)).toBe(0x2c);
  });
});

describe('the list of extended capabilities', () => {
  it('PCI-115 has a link at its start when the first is hidden', async () => {
    await using lab = await ConfigLab.open({ caps: [exp], extCaps: [ext(ExtCapId.PASID, 8), ext(ExtCapId.DSN, 12)] });
    expect(await lab.read(0x100, 4)).toBe((0x108 << 20) >>> 0);
    expect(await extListOf(lab)).toEqual([0, ExtCapId.DSN]);
    // Its header is read-only, the rest is the hardware's.
    expect(await lab.probe(0x100, 4, 0)).toBe((0x108 << 20) >>> 0);
    expect(await lab.probe(0x104, 4, 0x1234_5678)).toBe(0x1234_5678);
  });

  it('PCI-115 a first one of a kind that nobody knows is hidden as well', async () => {
    await using lab = await ConfigLab.open({ caps: [exp], extCaps: [ext(0x2e, 8), ext(ExtCapId.DSN, 12)] });
    expect(await extListOf(lab)).toEqual([0, ExtCapId.DSN]);
    expect(await lab.probe(0x100, 4, 0)).toBe((0x108 << 20) >>> 0);
  });

  it('PCI-115 is zero when there is none to show', async () => {
    await using lab = await ConfigLab.open({ caps: [exp], extCaps: [ext(ExtCapId.PASID, 8), ext(ExtCapId.DPC, 8)] });
    expect(await lab.read(0x100, 4)).toBe(0);
    expect(lab.fn.readConfig(0x100, 4)).not.toBe(0);
  });

  it('PCI-116 leaves PASID, L1 substates and DOE out; SR-IOV, ATS and PRI can only be read', async () => {
    const extCaps = [
      ext(ExtCapId.DSN, 12),
      ext(ExtCapId.PASID, 8),
      ext(ExtCapId.ATS, 8),
      ext(ExtCapId.L1SS, 16),
      ext(ExtCapId.PRI, 16),
      ext(ExtCapId.DOE, 24),
      sriovCap(2, 0x80, 2),
    ];
    await using lab = await ConfigLab.open({ caps: [exp], extCaps });
    expect(await extListOf(lab)).toEqual([ExtCapId.DSN, ExtCapId.ATS, ExtCapId.PRI, ExtCapId.SRIOV]);
    for (const [id, size] of [
      [ExtCapId.ATS, 8],
      [ExtCapId.PRI, 16],
      [ExtCapId.SRIOV, 0x40],
    ] as const) {
      const at = lab.fn.extCap(id);
      expect(await readOnlyBytes(lab, at, at + size)).toBe(size);
    }
    const hidden = lab.fn.extCap(ExtCapId.PASID);
    expect(await lab.probe(hidden + 4, 2, 7)).toBe(7);
  });

  it('PCI-130 is raw without a capability that says that there is one', async () => {
    await using lab = await ConfigLab.open({ caps: [pcix(0)], extCaps: [ext(ExtCapId.PASID, 8)] });
    lab.fn.set(0x100, 4, lab.fn.readConfig(0x100, 4), 0xffff_ffff);
    expect(await lab.read(0x100, 4)).toBe(0x0001_001b);
    expect(await lab.probe(0x100, 4, 0xabcd_0012)).toBe(0xabcd_0012);
    expect(lab.fn.readConfig(0x100, 4)).toBe(0xabcd_0012);
  });

  it('is there with PCI-X of a later version', async () => {
    const extCaps = [ext(ExtCapId.DSN, 12)];
    await using old = await ConfigLab.open({ caps: [pcix(0)], extCaps });
    await using later = await ConfigLab.open({ caps: [pcix(PCIX_VERSION_1)], extCaps });
    expect(await old.probe(0x104, 4, 0x55)).toBe(0x55);
    expect(await later.probe(0x104, 4, 0x55)).toBe(0);
  });

  // biome-ignore format: a table reads in columns
  const lengths: [string, number, number, FakeCap][] = [
    ['VC', 0x10 + 12, 64, ext(ExtCapId.VC, 64)],
    ['VC with more channels', 0x10 + 36, 96, ext(ExtCapId.VC, 96, { 4: 2 })],
    ['VC with 64 phases', 0x20 + 32, 128, ext(ExtCapId.VC9, 128, { 8: 4 })],
    ['MFVC with 128 phases', 0x20 + 64, 128, ext(ExtCapId.MFVC, 128, { 8: 0xe })],
    ['serial number', 12, 20, ext(ExtCapId.DSN, 20)],
    ['ARI', 8, 20, ext(ExtCapId.ARI, 20)],
    ['LTR', 8, 20, ext(ExtCapId.LTR, 20)],
    ['multicast', 40, 64, ext(ExtCapId.MCAST, 64)],
    ['ACS', 8, 64, ext(ExtCapId.ACS, 64)],
    ['ACS with egress control of 33 ports', 16, 64, ext(ExtCapId.ACS, 64, { 4: 0x20, 5: 33 })],
    ['ACS with egress control of 256 ports', 40, 64, ext(ExtCapId.ACS, 64, { 4: 0x20 })],
    ['resizable BARs', 20, 64, ext(ExtCapId.REBAR, 64, { 8: 0x40 })],
    ['DPA', 20, 64, ext(ExtCapId.DPA, 64, { 4: 0x03 })],
    ['TPH', 12, 64, ext(ExtCapId.TPH, 64)],
    ['TPH with its table', 22, 64, ext(ExtCapId.TPH, 64, { 5: 0x02, 6: 4 })],
  ];

  for (const [name, length, size, cap] of lengths) {
    it(`has ${name} of ${length} bytes`, async () => {
      await using lab = await ConfigLab.open({ caps: [exp], extCaps: [cap] });
      expect(await readOnlyBytes(lab, 0x100, 0x100 + size)).toBe(length);
    });
  }

  it('PCI-117 those of vendors are written to the hardware; the link stays the user’s', async () => {
    const extCaps = [ext(ExtCapId.VNDR, 12, { 6: 0xc0 }), ext(ExtCapId.PASID, 8), ext(ExtCapId.DVSEC, 12, { 6: 0xc0 })];
    await using lab = await ConfigLab.open({
      caps: [exp, soft(CapId.VNDR, [8, 1, 2, 3, 4, 5]), soft(0x0c, [1, 1]), pmCap()],
      extCaps,
    });
    const vendor = lab.fn.cap(CapId.VNDR);
    const link = await lab.read(vendor + 1, 1);
    expect(link).toBe(lab.fn.cap(CapId.PM));
    expect(link).not.toBe(lab.fn.config[vendor + 1]);
    lab.fn.set(vendor + 1, 1, lab.fn.config[vendor + 1] ?? 0, 0xff);
    expect(await lab.probe(vendor, 2, 0xaa09)).toBe(CapId.VNDR | (link << 8));
    expect(await lab.read(vendor + 1, 1)).toBe(link);
    expect(await lab.probe(vendor + 4, 4, 0x1234_5678)).toBe(0x1234_5678);
    expect(lab.fn.readConfig(vendor + 4, 4)).toBe(0x1234_5678);
    expect(await lab.probe(0x108, 4, 0x55)).toBe(0x55);
    const dvsec = lab.fn.extCap(ExtCapId.DVSEC);
    expect((await lab.read(0x100, 4)) >>> 20).toBe(dvsec);
    expect(await lab.probe(dvsec + 8, 4, 0x66)).toBe(0x66);
  });
});

describe('registers', () => {
  it('PCI-120 of MSI-X can not be written', async () => {
    await using lab = await ConfigLab.open({ caps: [exp, msixCap(8, 0)] });
    const at = lab.fn.cap(CapId.MSIX);
    expect(await lab.probe(at + 2, 2, 0xffff)).toBe(7);
    expect(lab.fn.readConfig(at + 2, 2)).toBe(7);
  });

  it('hazard 21: PCI-122 of wake events read as zero', async () => {
    const pm: FakeCap = { id: CapId.PM, bytes: [0x03, 0xfe, 0, 0x81, 0, 0], writable: [0, 0, 3, 0x7f, 0, 0xff] };
    await using lab = await ConfigLab.open({ caps: [exp, pm] });
    const at = lab.fn.cap(CapId.PM);
    lab.fn.set(at + 4, 2, 0x8100);
    expect(await lab.read(at + 2, 2)).toBe(0x0603);
    expect(await lab.read(at + 4, 2)).toBe(0);
    expect(await lab.probe(at + 4, 2, 0xff00)).toBe(0x7e00);
    expect(lab.fn.readConfig(at + 4, 2)).toBe(0xff00);
  });

  it('PCI-127 ARI and phantom functions stay as they are', async () => {
    await using lab = await ConfigLab.open({ caps: [filled(CapId.EXP, 0x3c, { 2: 2, 4: 0x18 })] });
    const at = lab.fn.cap(CapId.EXP);
    expect((await lab.probe(at + 8, 2, 0x0f1f)) & 0x0200).toBe(0);
    expect(lab.fn.readConfig(at + 8, 2) & 0x0f1f).toBe(0x0d1f);
    await lab.write(at + 0x28, 2, 0xffff);
    expect(lab.fn.readConfig(at + 0x28, 2)).toBe(0xffdf);
    expect(await lab.probe(at + 0x10, 2, 0xffff)).toBe(0);
  });

  it('PCI-129 of error reporting can be written as far as their masks go', async () => {
    await using lab = await ConfigLab.open({ caps: [exp], extCaps: [ext(ExtCapId.ERR, 0x2c), ext(ExtCapId.PWR, 16)] });
    const masks: [number, number][] = [
      [0x04, 0x03ff_f031],
      [0x08, 0x03ff_f031],
      [0x0c, 0x03ff_f031],
      [0x10, 0x0000_f1c1],
      [0x14, 0x0000_f1c1],
      [0x18, 0x0000_0140],
      [0x1c, 0],
    ];
    for (const [register, mask] of masks) {
      lab.fn.set(0x100 + register, 4, 0);
      await lab.write(0x100 + register, 4, 0xffff_ffff);
      expect(lab.fn.readConfig(0x100 + register, 4), `register ${register}`).toBe(mask);
    }
    const power = lab.fn.extCap(ExtCapId.PWR);
    expect(await lab.probe(power + 4, 1, 3)).toBe(0);
    expect(await lab.probe(power + 8, 4, 0xffff_ffff)).toBe(0xff);
  });

  it('of MSI are where its flags say', async () => {
    await using wide = await ConfigLab.open({ caps: [exp, msiCap(3)] });
    const at = wide.fn.cap(CapId.MSI);
    expect(await wide.probe(at + 8, 4, 0xffff_ffff)).toBe(0xffff_ffff);
    expect(wide.fn.readConfig(at + 8, 4)).toBe(0);
    expect(await wide.probe(at + 12, 4, 0xffff_ffff)).toBe(0xffff);
    await wide.write(at + 16, 4, 0xffff_ffff);
    expect(wide.fn.readConfig(at + 16, 4)).toBe(wide.fn.writable[at + 16] === 0 ? 0 : 0xffff_ffff);
    await using narrow = await ConfigLab.open({ caps: [exp, soft(CapId.MSI, new Array<number>(8).fill(0))] });
    const low = narrow.fn.cap(CapId.MSI);
    expect(await narrow.probe(low + 8, 2, 0xffff)).toBe(0xffff);
    expect(narrow.fn.readConfig(low + 8, 2)).toBe(0);
  });
});
