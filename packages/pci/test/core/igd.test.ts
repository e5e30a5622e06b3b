/*
 * Displays of Intel: the OpRegion with and without a second table, its address in config space, and the bridges of the chipset.
 */
import { PCI_NUM_REGIONS, regionInfoCapType } from '@vfio/core';
import { forEachFault } from '@vfio/testing';
import { describe, expect, it } from 'vitest';
import { FakeFunction, type FakeOptions } from '../bus/fake-function.js';
import { CONFIG, CoreLab, errno, LabFunction, type OpenFunction } from './core-lab.js';

const NAME = '0000:00:02.0';
const DISPLAY = 0x10;
const ADDRESS = 0x7000_0000;
const VBT = 0x7010_0000;
const SIZE = 8192;
const OPREGION = PCI_NUM_REGIONS;
const HOST_BRIDGE = OPREGION + 1;
const LPC_BRIDGE = OPREGION + 2;

const bridge = (classCode: number, options: FakeOptions = {}): FakeFunction =>
  new FakeFunction({ vendor: 0x8086, device: 0x29c0, classCode, ...options });

/** What firmware has left. */
interface Firmware {
  /** In config space; undefined: none. */
  readonly address?: number;
  readonly signature?: string;
  readonly kilobytes?: number;
  readonly version?: number;
  readonly rvda?: bigint;
  readonly rvds?: number;
  readonly hostBridge?: FakeFunction | undefined;
  readonly lpcBridge?: FakeFunction | undefined;
}

/** A machine with a display; bytes in memory count up, so that it shows where they are from. */
async function igdLab(firmware: Firmware = {}): Promise<CoreLab> {
  const { signature = 'IntelGraphicsMem', kilobytes = 8, version = 0x0200, rvda = 0n, rvds = 0 } = firmware;
  const { hostBridge = bridge(0x06_0000), lpcBridge = bridge(0x06_0100) } = firmware;
  const display = new LabFunction({
    vendor: 0x8086,
    device: 0x3e92,
    classCode: 0x03_0000,
    pin: 1,
    bars: { 0: { size: 0x4000 } },
  });
  display.set(0xfc, 4, 'address' in firmware ? (firmware.address ?? 0) : ADDRESS, 0xffff_ffff);
  const functions: [number, FakeFunction][] = [[DISPLAY, display]];
  if (!('hostBridge' in firmware) || firmware.hostBridge) functions.push([0, hostBridge]);
  if (!('lpcBridge' in firmware) || firmware.lpcBridge) functions.push([0xf8, lpcBridge]);
  const lab = await CoreLab.create({ functions, bind: [NAME] });
  const table = Uint8Array.from({ length: SIZE }, (_, at) => at % 251);
  const view = new DataView(table.buffer);
  table.set(new TextEncoder().encode(signature));
  view.setUint32(16, kilobytes, true);
  view.setUint16(0x16, version, true);
  view.setBigUint64(0x3ba, rvda, true);
  view.setUint32(0x3c2, rvds, true);
  place(lab, ADDRESS, table);
  place(
    lab,
    VBT,
    Uint8Array.from({ length: SIZE }, (_, at) => 255 - (at % 251)),
  );
  return lab;
}

/** Bytes at a physical address. */
function place({ host }: CoreLab, address: number, bytes: Uint8Array): void {
  host.memory.addMmio(address / 4096, bytes.length / 4096, {
    read: (offset, into) => into.set(bytes.subarray(offset, offset + into.length)),
    write: () => {},
  });
}

async function opened(lab: CoreLab, test: (open: OpenFunction) => Promise<void>): Promise<void> {
  const open = await lab.open(NAME);
  await test(open);
  await open.process.exit();
}

const word = (bytes: Uint8Array, at: number) => new DataView(bytes.buffer, bytes.byteOffset).getUint16(at, true);

describe('the OpRegion', () => {
  it('PCI-097 is not there without an address: the display has no more regions than others', async () => {
    for (const address of [0, 0xffff_ffff]) {
      await using lab = await igdLab({ address });
      await opened(lab, async (open) => {
        expect((await open.info()).numRegions).toBe(OPREGION);
        await expect(open.region(OPREGION)).rejects.toEqual(errno('EINVAL'));
      });
    }
  });

  it('PCI-097 with another signature, or no size, fails the open and leaves nothing', async () => {
    for (const wrong of [{ signature: 'IntelGraphicsMen' }, { kilobytes: 0 }]) {
      await using lab = await igdLab(wrong);
      await expect(lab.open(NAME)).rejects.toEqual(errno('EINVAL'));
      expect(lab.device(NAME).regions).toEqual([]);
      expect(lab.pdev(NAME).pm.status).toBe('suspended');
    }
  });

  it('is a region of its own type that can be read, as it is', async () => {
    await using lab = await igdLab();
    await opened(lab, async (open) => {
      const { size, flags, capOffset, bytes } = await open.region(OPREGION);
      expect([size, flags & 7]).toEqual([8192n, 1]);
      const { type, subtype } = regionInfoCapType.decode(bytes.subarray(capOffset), 'little');
      expect([type, subtype]).toEqual([0x8000_8086, 1]);
      const all = await open.read(OPREGION, 0, 9000);
      expect(all).toHaveLength(8192);
      expect(word(all, 0x16)).toBe(0x0200);
      expect([all[0x100], all[8191]]).toEqual([0x100 % 251, 8191 % 251]);
      expect([...(await open.read(OPREGION, 0x3f9, 3))]).toEqual([0x3f9 % 251, 0x3fa % 251, 0x3fb % 251]);
      await expect(open.read(OPREGION, 8192, 1)).rejects.toEqual(errno('EINVAL'));
      await expect(open.write(OPREGION, 0, [0])).rejects.toEqual(errno('EINVAL'));
      await expect(open.mmap(OPREGION, 0, 4096)).rejects.toEqual(errno('EINVAL'));
    });
  });

  it('PCI-098 of version 2.0 with another table is shown as 2.1, with that table right behind', async () => {
    await using lab = await igdLab({ rvda: BigInt(VBT), rvds: 6000 });
    await opened(lab, async (open) => {
      expect((await open.region(OPREGION)).size).toBe(8192n + 6000n);
      const all = await open.read(OPREGION, 0, 8192 + 6000);
      expect(word(all, 0x16)).toBe(0x0201);
      expect([...all.subarray(0x3ba, 0x3c2)]).toEqual([0, 0x20, 0, 0, 0, 0, 0, 0]);
      expect([all[8191], all[8192], all[8193], all[14191]]).toEqual([8191 % 251, 255, 254, 255 - (5999 % 251)]);
      expect([...(await open.read(OPREGION, 0x17, 1))]).toEqual([2]);
      expect([...(await open.read(OPREGION, 0x3bb, 2))]).toEqual([0x20, 0]);
      expect([...(await open.read(OPREGION, 8190, 4))]).toEqual([8190 % 251, 8191 % 251, 255, 254]);
    });
  });

  it('PCI-098 of later versions gives a distance', async () => {
    await using lab = await igdLab({ version: 0x0201, rvda: BigInt(VBT - ADDRESS), rvds: 16 });
    await opened(lab, async (open) => {
      expect([...(await open.read(OPREGION, 8192, 16))].slice(0, 2)).toEqual([255, 254]);
      expect([...(await open.read(CONFIG, 0xfc, 4))]).toEqual([0, 0, 0x10, 0x70]);
    });
  });

  it('PCI-098 of earlier versions has no other table', async () => {
    await using lab = await igdLab({ version: 0x0100, rvda: BigInt(VBT), rvds: 16 });
    await opened(lab, async (open) => {
      expect((await open.region(OPREGION)).size).toBe(8192n);
      expect([...(await open.read(OPREGION, 0x3ba, 8))]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    });
  });

  it('PCI-099 has an address that the user may change for itself', async () => {
    await using lab = await igdLab();
    const { hw } = lab.pdev(NAME);
    await opened(lab, async (open) => {
      expect([...(await open.read(CONFIG, 0xfc, 4))]).toEqual([0, 0, 0, 0x70]);
      await open.write(CONFIG, 0xfd, [0x12, 0x34]);
      expect([...(await open.read(CONFIG, 0xfc, 4))]).toEqual([0, 0x12, 0x34, 0x70]);
      expect(hw.readConfig(0xfc, 4)).toBe(ADDRESS);
    });
    await opened(lab, async (open) => {
      expect([...(await open.read(CONFIG, 0xfc, 4))]).toEqual([0, 0, 0, 0x70]);
    });
  });

  it('PCI-099 shows where the last table is', async () => {
    await using lab = await igdLab({ rvda: BigInt(VBT) + 0x5_0000_0000n, rvds: 16 });
    await opened(lab, async (open) => {
      expect([...(await open.read(CONFIG, 0xfc, 4))]).toEqual([0, 0, 0x10, 0x70]);
    });
  });
});

describe('a step of the open that fails', () => {
  it('leaves the display off, and nothing mapped', { timeout: 60_000 }, async () => {
    const { steps } = await forEachFault({
      prepare: async () => {
        const lab = await igdLab({ rvda: BigInt(VBT), rvds: 16 });
        // The IOMMU keeps its blocking domain from the first owner on.
        await (await lab.open(NAME)).process.exit();
        const program = lab.host.spawn();
        return { lab, host: lab.host, program, [Symbol.asyncDispose]: () => lab[Symbol.asyncDispose]() };
      },
      scenario: async ({ lab, program }) => {
        try {
          await lab.open(NAME, { process: program });
        } finally {
          await program.exit();
        }
      },
      check: async ({ lab }) => {
        expect(lab.device(NAME).regions).toEqual([]);
        expect(lab.pdev(NAME).enableCnt).toBe(0);
        await (await lab.open(NAME)).process.exit();
      },
    });
    const names = steps.map(({ name }) => name);
    expect(names.filter((name) => name === 'memremap:mapping')).toHaveLength(2);
    expect(names.filter((name) => name === 'vfio_pci_core_register_dev_region:region')).toHaveLength(3);
  });
});

describe('the bridges of the chipset', () => {
  it('have config spaces that can be read through', async () => {
    const hostBridge = bridge(0x06_0000);
    await using lab = await igdLab({ hostBridge });
    await opened(lab, async (open) => {
      expect((await open.info()).numRegions).toBe(OPREGION + 3);
      for (const [index, wanted] of [
        [HOST_BRIDGE, 2],
        [LPC_BRIDGE, 3],
      ] as const) {
        const { size, bytes, capOffset } = await open.region(index);
        const { subtype } = regionInfoCapType.decode(bytes.subarray(capOffset), 'little');
        expect([size, subtype]).toEqual([256n, wanted]);
      }
      const cycles: [number, number][] = [];
      const before = hostBridge.readConfig.bind(hostBridge);
      hostBridge.readConfig = (offset, width) => {
        cycles.push([offset, width]);
        return before(offset, width);
      };
      expect([...(await open.read(HOST_BRIDGE, 1, 10))]).toEqual([0x80, 0xc0, 0x29, 0, 0, 0, 0, 0x10, 0, 0]);
      expect(cycles).toEqual([
        [1, 1],
        [2, 2],
        [4, 4],
        [8, 2],
        [10, 1],
      ]);
      expect(await open.read(HOST_BRIDGE, 250, 100)).toHaveLength(6);
      await expect(open.read(HOST_BRIDGE, 256, 1)).rejects.toEqual(errno('EINVAL'));
      await expect(open.write(LPC_BRIDGE, 0, [0])).rejects.toEqual(errno('EINVAL'));
    });
  });

  it('may be missing: the display opens without them', async () => {
    await using without = await igdLab({ hostBridge: undefined });
    await opened(without, async (open) => {
      expect((await open.info()).numRegions).toBe(OPREGION + 1);
    });
    await using half = await igdLab({ lpcBridge: undefined });
    await opened(half, async (open) => {
      expect((await open.info()).numRegions).toBe(OPREGION + 2);
    });
  });

  it('fail the open when they are something else', async () => {
    for (const wrong of [
      { hostBridge: bridge(0x06_0000, { vendor: 0x1022 }) },
      { hostBridge: bridge(0x06_0100) },
      { lpcBridge: bridge(0x06_0101) },
    ]) {
      await using lab = await igdLab(wrong);
      await expect(lab.open(NAME)).rejects.toEqual(errno('EINVAL'));
      expect(lab.device(NAME).regions).toEqual([]);
    }
  });
});
