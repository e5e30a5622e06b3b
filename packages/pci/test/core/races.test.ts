import { iommuType1DmaMap, Request } from '@vfio/core';
import { explore, forEachFault } from '@vfio/testing';
import { describe, expect, it } from 'vitest';
import { Reg } from '../../src/bus/regs.js';
import type { FakeFunction } from '../bus/fake-function.js';
import { CoreLab, everyBar, isolatingPort, labBridge, NAME, OTHER, physical } from './core-lab.js';

function pair(): [number, FakeFunction][] {
  const first = everyBar();
  first.set(Reg.HEADER_TYPE, 1, 0x80);
  return [
    [
      0x08,
      labBridge([
        [0, first],
        [1, everyBar()],
      ]),
    ],
  ];
}

/** Lets an operation fail with one of these. */
async function unless(codes: readonly string[], operation: () => Promise<unknown>): Promise<void> {
  try {
    await operation();
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && codes.includes(String(error.code)))) throw error;
  }
}

describe('in every order', { timeout: 120_000 }, () => {
  it('a hot reset, a read of another member and its close leave no lock and no power behind', async () => {
    await explore({ preemptions: 1, maxRuns: 200 }, async (seams) => {
      const lab = await CoreLab.create({ functions: pair(), bind: [NAME, OTHER], host: seams });
      const open = await lab.open();
      const other = await lab.openBeside(open, OTHER);
      await open.enableMemory();
      await other.enableMemory();
      return {
        tasks: {
          reset: () => unless(['EBUSY', 'EAGAIN'], () => open.hotReset([open.group])),
          read: () => unless(['EIO'], () => other.read(0, 0x1000, 4)),
          off: () => other.command(0),
        },
        async check() {
          for (const name of [NAME, OTHER]) {
            expect(lab.device(name).memoryLock.locked).toBe(false);
            expect(lab.pdev(name).pm.usageCount).toBe(1);
          }
          await open.process.exit();
          for (const name of [NAME, OTHER]) {
            expect(lab.pdev(name).pm.status).toBe('suspended');
            expect(lab.pdev(name).enableCnt).toBe(0);
            await lab.unbind(name);
          }
          await lab[Symbol.asyncDispose]();
        },
      };
    });
  });

  it('an unbind and the last close of its user end with neither waiting for the other', async () => {
    await explore({ preemptions: 1, maxRuns: 200 }, async (seams) => {
      const lab = await CoreLab.create({ bind: [NAME], host: seams });
      const open = await lab.open();
      return {
        tasks: {
          unbind: () => lab.unbind(),
          close: () => open.process.close(open.fd),
        },
        async check() {
          expect(lab.pdev().driver).toBeUndefined();
          expect(lab.pdev().pm.usageCount).toBe(1);
          expect(lab.pdev().enableCnt).toBe(0);
          await open.process.exit();
          await lab[Symbol.asyncDispose]();
        },
      };
    });
  });
});

describe('every step fails once', { timeout: 120_000 }, () => {
  it('PCI-012 of the probe of a physical function: no token and no listener is left', async () => {
    const { steps } = await forEachFault({
      prepare: () => CoreLab.create({ functions: [[8, isolatingPort([[0, physical()]])]] }),
      scenario: async (lab) => {
        await lab.bind();
        await lab.unbind();
      },
      check: async (lab) => {
        if (lab.pdev().driver) await lab.unbind();
        expect(lab.bus.record?.notifiers.size).toBe(listeners);
        expect(lab.pdev().pm.usageCount).toBe(1);
        await lab.bind();
        expect(lab.bus.record?.notifiers.size).toBe(listeners + 1);
        await lab.unbind();
      },
    });
    expect(steps.map(({ name }) => name)).toContain('vfio_pci_vf_init:token');
  });

  it('of requests: nothing that they take is kept', async () => {
    await forEachFault({
      prepare: async () => {
        const lab = await CoreLab.create({ functions: pair(), bind: [NAME, OTHER] });
        const open = await lab.open();
        await open.enableMemory();
        const close = async () => {
          await open.process.exit();
          await lab[Symbol.asyncDispose]();
        };
        return { host: lab.host, lab, open, [Symbol.asyncDispose]: close };
      },
      scenario: async ({ open }) => {
        await open.info(64);
        await open.region(0);
        await open.hotResetInfo(4);
        await open.hotReset([open.group]);
        await open.reset();
      },
      check: ({ lab }) => {
        for (const name of [NAME, OTHER]) expect(lab.device(name).memoryLock.locked).toBe(false);
        expect(lab.pdev(OTHER).pm.status).toBe('suspended');
      },
    });
  });
});

describe('memory of the device', () => {
  it('can be mapped for DMA of others, by its own frames', async () => {
    await using lab = await CoreLab.create({ bind: [NAME] });
    const open = await lab.open();
    await open.enableMemory();
    const address = await open.mmap(4, 0x1000, 0x2000);
    open.process.mm.load(address, 4);
    const map = { argsz: 32, flags: 3, vaddr: address, iova: 0x10_0000n, size: 0x2000n };
    const request = iommuType1DmaMap.encode(map, 'little');
    expect(await open.process.ioctl(open.container, Request.IOMMU_MAP_DMA, request)).toBe(0);
    const start = lab.pdev().resource[4]?.start ?? 0;
    const domain = lab.pdev().iommuGroup?.domain;
    expect(domain?.iovaToPhys(0x10_1004n)).toBe(start + 0x2004);
    await open.process.exit();
  });
});

/** Those who listen to the bus by themselves. */
const listeners = 2;
