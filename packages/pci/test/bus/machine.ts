/*
 * The recorded machine in little: the same functions at the same places, for what depends on topology only.
 */
import { ExpType } from '../../src/bus/regs.js';
import { acsCap, type FakeCap, FakeFunction, pcieCap } from './fake-function.js';

const BRIDGE_CLASS = 0x06_0400;
const edu = (options = {}) =>
  new FakeFunction({
    vendor: 0x1234,
    device: 0x11e8,
    classCode: 0x00_ff00,
    pin: 1,
    bars: { 0: { size: 0x10_0000 } },
    ...options,
  });
const endpoint = (extCaps: readonly FakeCap[] = []) =>
  new FakeFunction({ pcie: true, pin: 1, caps: [pcieCap(ExpType.ENDPOINT)], extCaps, bars: { 0: { size: 0x1000 } } });

/** A root port with ACS, and what is behind it. */
export function rootPort(
  behind: [number, FakeFunction][],
  options: { slot?: boolean; ari?: boolean } = {},
): FakeFunction {
  return new FakeFunction({
    vendor: 0x1b36,
    device: 0x000c,
    classCode: BRIDGE_CLASS,
    pcie: true,
    pin: 1,
    caps: [pcieCap(ExpType.ROOT_PORT, { slot: true, ...options })],
    extCaps: [acsCap],
    behind: new Map(behind),
  });
}

/** ARI of a function that is the last one. */
export const ariCap: FakeCap = { id: 0x0e, bytes: [0, 0, 0, 0] };

/** What is on the root bus of a q35 machine, as the transcripts have it. */
export function q35(): Map<number, FakeFunction> {
  const bridge = new FakeFunction({
    vendor: 0x1b36,
    device: 0x000e,
    classCode: BRIDGE_CLASS,
    pcie: true,
    pin: 1,
    caps: [pcieCap(ExpType.PCI_BRIDGE)],
    behind: new Map([
      [0x08, edu()],
      [0x10, edu()],
    ]),
  });
  return new Map([
    [0x00, new FakeFunction({ vendor: 0x8086, device: 0x29c0, classCode: 0x06_0000 })],
    [0x10, edu({ line: 11 })],
    [0x18, new FakeFunction({ vendor: 0x1b36, device: 5, classCode: 0x00_ff00 })],
    [0x20, new FakeFunction({ vendor: 0x1234, device: 0x1111, classCode: 0x03_0000 })],
    [0x40, rootPort([[0, endpoint()]])],
    [0x48, rootPort([[0, endpoint()]])],
    [0x50, rootPort([[0, endpoint([ariCap])]], { ari: true })],
    [
      0x58,
      rootPort(
        [
          [0, edu({ multifunction: true })],
          [1, edu()],
        ],
        { slot: false },
      ),
    ],
    [0x60, rootPort([[0, bridge]])],
    [0x68, rootPort([[0, new FakeFunction({ vendor: 0x1af4, device: 0x1110, classCode: 0x05_0000 })]])],
    [0xf8, new FakeFunction({ vendor: 0x8086, device: 0x2918, classCode: 0x06_0100, multifunction: true })],
    [0xfa, new FakeFunction({ vendor: 0x8086, device: 0x2922, classCode: 0x01_0601, multifunction: true })],
    [0xfb, new FakeFunction({ vendor: 0x8086, device: 0x2930, classCode: 0x0c_0500, multifunction: true })],
  ]);
}

/** An IOMMU as that machine has it. */
export const vtd = {
  aperture: [0n, 2n ** 48n - 1n],
  pageSizes: 0x4020_1000n,
  coherent: true,
  msiIsolated: true,
  reserved: [{ start: 0xfee0_0000n, end: 0xfeef_ffffn, type: 'msi' }],
} as const;
