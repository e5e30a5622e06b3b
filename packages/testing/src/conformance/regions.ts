/* Regions: VFIO_DEVICE_GET_REGION_INFO, and what read, write and mmap of the device file do with them. */
import type { Device, Region } from '@vfio/client';
import { Request, regionInfo } from '@vfio/core';
import { ends, keeps, outcomeOf } from './promise.js';
import { type CaseSpec, padded, type Subject, writtenPast } from './subject.js';

const PAGE = 4096;
const U32_MAX = 0xffff_ffff;

function described(subject: Subject, device: Device, index: number): Promise<Uint8Array> {
  const bytes = regionInfo.encode({ argsz: regionInfo.size, index }, subject.order);
  return subject.ioctl(device, Request.DEVICE_GET_REGION_INFO, bytes).then(() => bytes);
}

/** Reads one byte, or as many as fit; the data are thrown away. */
function peek({ process }: Subject, device: Device, at: bigint, length = 1): number | Promise<number> {
  return process.pread(device.fd, new Uint8Array(length), at);
}

const hasRegions = ({ regions }: { readonly regions: number }) => regions > 0;

/** Region info. */
const descriptions: readonly CaseSpec[] = [
  {
    name: 'regions: argsz below 32 is EINVAL',
    when: hasRegions,
    async run(subject) {
      await using device = await subject.open();
      for (const argsz of [0, regionInfo.size - 1]) {
        const bytes = regionInfo.encode({ argsz, index: 0 }, subject.order);
        await ends(
          () => subject.ioctl(device, Request.DEVICE_GET_REGION_INFO, bytes),
          'EINVAL',
          `GET_REGION_INFO refuses argsz ${argsz}: the struct has ${regionInfo.size} bytes`,
        );
      }
    },
  },
  {
    name: 'regions: 32 bytes are enough, and nothing is written past argsz',
    when: hasRegions,
    async run(subject) {
      await using device = await subject.open();
      for (const { index } of await device.regions()) {
        const bytes = padded(regionInfo.encode({ argsz: regionInfo.size, index }, subject.order), regionInfo.size, 128);
        await ends(
          () => subject.ioctl(device, Request.DEVICE_GET_REGION_INFO, bytes),
          0,
          `GET_REGION_INFO of region ${index} takes argsz ${regionInfo.size}`,
        );
        const at = writtenPast(bytes, regionInfo.size);
        keeps(
          at === undefined,
          `GET_REGION_INFO of region ${index} writes nothing past argsz`,
          `byte ${at} was written`,
        );
      }
    },
  },
  {
    name: 'regions: an index past the last is EINVAL',
    async run(subject) {
      await using device = await subject.open();
      const { regions } = subject.options;
      for (const index of [regions, regions + 1, U32_MAX]) {
        await ends(
          () => described(subject, device, index).then(() => 0),
          'EINVAL',
          `GET_REGION_INFO refuses region ${index} of ${regions}`,
        );
      }
    },
  },
  {
    name: 'regions: each index is described or EINVAL',
    when: hasRegions,
    async run(subject) {
      await using device = await subject.open();
      for (let index = 0; index < subject.options.regions; index++) {
        const promised = `GET_REGION_INFO describes region ${index}, or there is none`;
        const outcome = await ends(() => described(subject, device, index).then(() => 0), [0, 'EINVAL'], promised);
        if (outcome !== 0) continue;
        const told = regionInfo.decode(await described(subject, device, index), subject.order).index;
        keeps(told === index, `GET_REGION_INFO answers for the region that it was asked for, ${index}`, `${told}`);
      }
    },
  },
  {
    name: 'regions: sizes are what they should be',
    when: ({ regionSizes }) => regionSizes !== undefined,
    async run(subject) {
      await using device = await subject.open();
      const { regions, regionSizes = {} } = subject.options;
      const found = new Map((await device.regions()).map(({ index, size }) => [index, size]));
      for (let index = 0; index < regions; index++) {
        const size = found.get(index) ?? 0n;
        const expected = BigInt(regionSizes[index] ?? 0);
        keeps(size === expected, `region ${index} has ${expected} bytes`, `${size}`);
      }
    },
  },
  {
    name: 'regions: they do not overlap in the device file',
    when: hasRegions,
    async run(subject) {
      await using device = await subject.open();
      const present = (await device.regions()).filter(({ size }) => size > 0n);
      present.sort((a, b) => (a.offset < b.offset ? -1 : 1));
      for (const [i, region] of present.entries()) {
        const next = present[i + 1];
        if (!next) continue;
        const end = region.offset + region.size;
        keeps(
          end <= next.offset,
          `regions ${region.index} and ${next.index} lie apart in the device file`,
          `the first ends at 0x${end.toString(16)}, the second begins at 0x${next.offset.toString(16)}`,
        );
      }
    },
  },
];

/** Access by read, write and mmap. */
const accesses: readonly CaseSpec[] = [
  {
    name: 'regions: what is absent or not readable can not be read',
    when: hasRegions,
    async run(subject) {
      await using device = await subject.open();
      for (const region of await device.regions()) {
        if (region.size > 0n && region.readable) continue;
        await ends(
          () => peek(subject, device, region.offset),
          'any error',
          `a read of region ${region.index} (${region.size} bytes, flags ${region.flags}) is refused`,
        );
      }
    },
  },
  {
    name: 'regions: what is absent or not writable can not be written',
    when: hasRegions,
    async run(subject) {
      await using device = await subject.open();
      for (const region of await device.regions()) {
        if (region.size > 0n && region.writable) continue;
        await ends(
          () => subject.process.pwrite(device.fd, new Uint8Array(1), region.offset),
          'any error',
          `a write to region ${region.index} (${region.size} bytes, flags ${region.flags}) is refused`,
        );
      }
    },
  },
  {
    name: 'regions: a read of no bytes is 0',
    when: hasRegions,
    async run(subject) {
      await using device = await subject.open();
      for (const { index, offset } of await readable(device)) {
        const promised = `a read of no bytes of region ${index} answers 0`;
        await ends(() => peek(subject, device, offset, 0), 0, promised);
      }
    },
  },
  {
    name: 'regions: nothing is read past the end',
    when: hasRegions,
    async run(subject) {
      await using device = await subject.open();
      for (const { index, offset, size } of await readable(device)) {
        const end = offset + size;
        const at = await outcomeOf(() => peek(subject, device, end));
        keeps(typeof at === 'string' || at === 0, `region ${index} has nothing to read at its end`, `${at} byte`);
        const across = await outcomeOf(() => peek(subject, device, end - 1n, 2));
        const cut = typeof across === 'string' || across <= 1;
        keeps(cut, `a read across the end of region ${index} is cut or refused`, `${across} bytes`);
      }
    },
  },
  {
    name: 'regions: nothing is written past the end',
    when: hasRegions,
    async run(subject) {
      await using device = await subject.open();
      for (const { index, offset, size, writable } of await device.regions()) {
        if (size === 0n || !writable) continue;
        const at = await outcomeOf(() => subject.process.pwrite(device.fd, new Uint8Array(1), offset + size));
        keeps(typeof at === 'string' || at === 0, `region ${index} takes nothing at its end`, `${at} byte`);
      }
    },
  },
  {
    name: 'regions: a buffer that is not there is EFAULT',
    when: hasRegions,
    async run(subject) {
      await using device = await subject.open();
      for (const { index, offset } of await readable(device)) {
        // a device may have reasons of its own to refuse: memory that is switched off
        if (typeof (await outcomeOf(() => peek(subject, device, offset, 4))) === 'string') continue;
        await ends(
          () => subject.process.pread(device.fd, { addr: 0n, length: 4 }, offset),
          'EFAULT',
          `a read of region ${index} into memory that is not there is refused`,
        );
      }
    },
  },
  {
    name: 'regions: those with flag MMAP can be mapped, the others not',
    when: hasRegions,
    async run(subject) {
      await using device = await subject.open();
      for (const region of await device.regions()) {
        if (region.mappable) await mapAll(region);
        else {
          await ends(
            () => region.mmap(0, PAGE).then(() => 0),
            'EINVAL',
            `mmap of region ${region.index}, which has not flag MMAP, is refused`,
          );
        }
      }
    },
  },
];

async function readable(device: Device): Promise<Region[]> {
  return (await device.regions()).filter((region) => region.size > 0n && region.readable);
}

async function mapAll(region: Region): Promise<void> {
  const areas = region.sparseAreas ?? [{ offset: 0n, size: region.size }];
  for (const { offset, size } of areas) {
    if (size === 0n) continue;
    const inside = offset + size <= region.size;
    keeps(inside, `the mappable areas of region ${region.index} lie in it`, `${size} bytes at ${offset}`);
    await ends(
      async () => {
        (await region.mmap(offset, Number(size))).unmap();
        return 0;
      },
      0,
      `mmap of ${size} bytes at ${offset} of region ${region.index}, as its info offers`,
    );
  }
}

/** Regions. */
export const regionCases: readonly CaseSpec[] = [...descriptions, ...accesses];
