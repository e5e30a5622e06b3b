import { describe, expect, it } from 'vitest';
import {
  enableAtomicOpsToRoot,
  pcieGetMps,
  pcieGetReadrq,
  pcieReadDword,
  pcieReadWord,
  pcieSetReadrq,
  pcieWriteWord,
} from '../../src/bus/pcie.js';
import { Exp, ExpType } from '../../src/bus/regs.js';
import { expCap, LabFunction, labBridge, labEndpoint, labHost } from './service-lab.js';

const code = (value: string) => expect.objectContaining({ code: value });
const COMP64 = Exp.DEVCAP2_ATOMIC_COMP64;

describe('PCI Express registers', () => {
  it('that a function does not have are zero, and lost when written', async () => {
    const { host, at } = await labHost([
      [0x10, labEndpoint()],
      [0x18, new LabFunction()],
    ]);
    await using _ = host;
    const [pdev, plain] = [at(0, 0x10), at(0, 0x18)];
    expect(pcieReadWord(pdev, Exp.FLAGS)).toBe(2);
    pdev.hw.writeConfig(pdev.pcieCap + Exp.SLTCTL, 2, 0x1234);
    pcieWriteWord(pdev, Exp.SLTCTL, 0x1234);
    expect([pcieReadWord(pdev, Exp.SLTCTL), pcieReadWord(plain, Exp.DEVCTL)]).toEqual([0, 0]);
    expect(pcieReadDword(plain, Exp.DEVCAP)).toBe(0);
  });

  it('have sizes of requests in them, from 128 to 4096 bytes', async () => {
    const { host, at } = await labHost([[0x10, labEndpoint()]]);
    await using _ = host;
    const pdev = at(0, 0x10);
    pcieWriteWord(pdev, Exp.DEVCTL, 0x2810 | (2 << 5));
    expect([pcieGetReadrq(pdev), pcieGetMps(pdev)]).toEqual([512, 512]);
    pcieSetReadrq(pdev, 4096);
    expect([pcieGetReadrq(pdev), pcieReadWord(pdev, Exp.DEVCTL)]).toEqual([4096, 0x5850]);
    for (const bytes of [0, 64, 1000, 8192]) expect(() => pcieSetReadrq(pdev, bytes)).toThrow(code('EINVAL'));
    expect(pcieGetReadrq(pdev)).toBe(4096);
  });
});

describe('atomic operations', () => {
  const withCaps = (fn: LabFunction, devcap2: number, devctl2 = 0) => {
    const at = fn.cap(0x10);
    fn.set(at + Exp.DEVCAP2, 4, devcap2);
    fn.set(at + Exp.DEVCTL2, 2, devctl2);
    return fn;
  };

  async function tree(root: number, up: readonly [number, number], down: number) {
    const card = labEndpoint();
    const downstream = withCaps(labBridge([[0, card]], ExpType.DOWNSTREAM), down);
    const upstream = withCaps(labBridge([[0, downstream]], ExpType.UPSTREAM), ...up);
    const port = withCaps(labBridge([[0, upstream]]), root);
    const { host, at } = await labHost([[0x08, port]]);
    return { host, pdev: at(3, 0) };
  }

  it('reach the root when every port on the way passes them on, and the root completes them', async () => {
    const route = Exp.DEVCAP2_ATOMIC_ROUTE;
    const good = await tree(COMP64, [route, 0], route);
    await using _good = good.host;
    enableAtomicOpsToRoot(good.pdev, COMP64);
    expect(pcieReadWord(good.pdev, Exp.DEVCTL2) & Exp.DEVCTL2_ATOMIC_REQ).not.toBe(0);
    expect(() => enableAtomicOpsToRoot(good.pdev, COMP64 | Exp.DEVCAP2_ATOMIC_COMP128)).toThrow(code('EINVAL'));
    for (const [root, up, down] of [
      [0, [route, 0], route],
      [COMP64, [0, 0], route],
      [COMP64, [route, 0], 0],
      [COMP64, [route, Exp.DEVCTL2_ATOMIC_EGRESS_BLOCK], route],
    ] as const) {
      const bad = await tree(root, up, down);
      await using _ = bad.host;
      expect(() => enableAtomicOpsToRoot(bad.pdev, COMP64)).toThrow(code('EINVAL'));
      expect(pcieReadWord(bad.pdev, Exp.DEVCTL2) & Exp.DEVCTL2_ATOMIC_REQ).toBe(0);
    }
  });

  it('are not for conventional and virtual functions, nor for ports', async () => {
    const { host, at } = await labHost([
      [0x08, labBridge([[0, labEndpoint()]])],
      [0x10, new LabFunction()],
      [0x18, labEndpoint({ caps: [expCap()] })],
    ]);
    await using _ = host;
    for (const pdev of [at(0, 0x08), at(0, 0x10)])
      expect(() => enableAtomicOpsToRoot(pdev, COMP64)).toThrow(code('EINVAL'));
    const virtual = at(0, 0x18);
    virtual.isVirtfn = true;
    expect(() => enableAtomicOpsToRoot(virtual, 0)).toThrow(code('EINVAL'));
    virtual.isVirtfn = false;
    enableAtomicOpsToRoot(virtual, 0);
  });
});
