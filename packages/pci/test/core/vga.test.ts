import { forEachFault } from '@vfio/testing';
import { describe, expect, it, vi } from 'vitest';
import type { PciWidth } from '../../src/bus/function.js';
import { VgaRsrc, vgaDecodes, vgaGet } from '../../src/bus/vga.js';
import type { FakeFunction } from '../bus/fake-function.js';
import { CoreLab, errno, type LabFunction, labBridge, labEndpoint, NAME, OTHER, VGA } from './core-lab.js';

const NORMAL = VgaRsrc.NORMAL_IO | VgaRsrc.NORMAL_MEM;
const LEGACY = VgaRsrc.LEGACY_IO | VgaRsrc.LEGACY_MEM;

/** A display adapter whose legacy registers are as tests say. */
function adapter(multifunction = false): LabFunction & { legacy: Map<number, number>; cycles: string[] } {
  const legacy = new Map<number, number>();
  const cycles: string[] = [];
  const fn = labEndpoint({ classCode: 0x03_0000, multifunction });
  return Object.assign(fn, {
    legacy,
    cycles,
    readLegacy: (space: string, address: number, width: PciWidth) => {
      cycles.push(`${space} r${width}@${address.toString(16)}`);
      return legacy.get(address) ?? 0;
    },
    writeLegacy: (space: string, address: number, width: PciWidth, value: number) => {
      cycles.push(`${space} w${width}@${address.toString(16)}`);
      legacy.set(address, value);
    },
  });
}

function behindPort(...adapters: FakeFunction[]): [number, FakeFunction][] {
  return [[8, labBridge(adapters.map((fn, at) => [at, fn]))]];
}

describe('legacy decoding', () => {
  it('PCI-021 is given up by an adapter alone behind its bridge when it is not offered', async () => {
    await using lab = await CoreLab.create({
      functions: behindPort(adapter()),
      params: { disable_vga: '1' },
      bind: [NAME],
    });
    expect(vgaDecodes(lab.pdev())).toBe(NORMAL);
    expect(lab.device().options.disableVga).toBe(true);
    await lab.unbind();
    expect(vgaDecodes(lab.pdev())).toBe(NORMAL | LEGACY);
  });

  it('PCI-022 stays with a second adapter below the same bridge', async () => {
    await using lab = await CoreLab.create({
      functions: behindPort(adapter(true), adapter()),
      params: { disable_vga: '1' },
      bind: [NAME],
    });
    expect(vgaDecodes(lab.pdev())).toBe(NORMAL | LEGACY);
    expect(lab.pdev(OTHER).driver).toBeUndefined();
    await lab.unbind();
  });

  it('stays where it is offered, and on a root bus', async () => {
    await using lab = await CoreLab.create({ functions: behindPort(adapter()), bind: [NAME] });
    expect(vgaDecodes(lab.pdev())).toBe(NORMAL | LEGACY);
    await lab.unbind();
    const name = '0000:00:01.0';
    await using root = await CoreLab.create({
      functions: [[8, adapter()]],
      params: { disable_vga: '1' },
      bind: [name],
    });
    expect(vgaDecodes(root.pdev(name))).toBe(NORMAL | LEGACY);
    await root.unbind(name);
  });

  it("PCI-013 a client that is refused undoes the virtual functions' part only", async () => {
    await using lab = await CoreLab.create({ functions: behindPort(adapter()) });
    const vga = await import('../../src/bus/vga.js');
    const pdev = lab.pdev();
    const before = pdev.pm.usageCount;
    // an arbiter that does not know the function
    vi.spyOn(lab.bus.vga, 'find').mockReturnValue(undefined);
    await expect(lab.bind()).rejects.toEqual(errno('ENODEV'));
    vi.restoreAllMocks();
    expect(pdev.pm.usageCount).toBe(before);
    expect(vga.vgaDecodes(pdev)).toBe(NORMAL | LEGACY);
    await lab.bind();
    await lab.unbind();
  });

  it('PCI-012 is as before when a step of probe fails', { timeout: 60_000 }, async () => {
    await forEachFault({
      prepare: () => CoreLab.create({ functions: behindPort(adapter()), params: { disable_vga: '1' } }),
      scenario: async (lab) => {
        await lab.bind();
        await lab.unbind();
      },
      check: async (lab) => {
        if (lab.pdev().driver) await lab.unbind();
        expect(vgaDecodes(lab.pdev())).toBe(NORMAL | LEGACY);
      },
    });
  });
});

describe('the VGA region', () => {
  it('is there with VGA, as large as the memory ends', async () => {
    await using lab = await CoreLab.create({ functions: behindPort(adapter()), bind: [NAME] });
    const open = await lab.open();
    expect(await open.region(VGA)).toMatchObject({ size: 0xc0000n, flags: 3 });
    await open.process.exit();
  });

  it('is not there when it is not offered', async () => {
    await using lab = await CoreLab.create({
      functions: behindPort(adapter()),
      params: { disable_vga: '1' },
      bind: [NAME],
    });
    const open = await lab.open();
    await expect(open.region(VGA)).rejects.toEqual(errno('EINVAL'));
    await expect(open.read(VGA, 0x3c0, 1)).rejects.toEqual(errno('EINVAL'));
    await open.process.exit();
  });

  it('PCI-092 ends its ranges where they end, and has nothing between them', async () => {
    const fn = adapter();
    await using lab = await CoreLab.create({ functions: behindPort(fn), bind: [NAME] });
    const open = await lab.open();
    for (const offset of [0, 0x3af, 0x3bc, 0x3bf, 0x3e0, 0x9ffff, 0xc0000]) {
      await expect(open.read(VGA, offset, 1), offset.toString(16)).rejects.toEqual(errno('EINVAL'));
    }
    expect(await open.read(VGA, 0x3ba, 8)).toHaveLength(2);
    expect(fn.cycles.splice(0)).toEqual(['io r2@3ba']);
    expect(await open.write(VGA, 0x3dc, [1, 2, 3, 4, 5, 6])).toBe(4);
    expect(fn.cycles.splice(0)).toEqual(['io w4@3dc']);
    expect(await open.read(VGA, 0xbfff8, 16)).toHaveLength(8);
    expect(fn.cycles.splice(0)).toEqual(['memory r4@bfff8', 'memory r4@bfffc']);
    await open.process.exit();
  });

  it('waits until the addresses are routed to it', async () => {
    await using lab = await CoreLab.create({ functions: behindPort(adapter(true), adapter()), bind: [NAME] });
    const open = await lab.open();
    const other = await vgaGet(lab.pdev(OTHER), VgaRsrc.LEGACY_IO);
    let done = false;
    const read = open.read(VGA, 0x3c0, 1).then(() => {
      done = true;
    });
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    expect(done).toBe(false);
    other[Symbol.dispose]();
    await read;
    expect(done).toBe(true);
    await open.process.exit();
  });
});
