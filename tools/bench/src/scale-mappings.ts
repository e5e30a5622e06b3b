// Mappings by the million, in a container and in an address space of an iommufd: pages with holes between them, so that
// nothing joins.

import { createLab, type Lab, type LabOptions } from './lab.js';
import { compatIoas, ioasMapper, type Mapper, mapper, memory } from './mapper.js';
import type { Costs } from './scale.js';

const base = 0x1_0000_0000n;
const page = 4096;
const distance = 2n * BigInt(page);
/** Mappings that are timed in a round, and rounds of which the fastest counts. */
const sample = 1000;
const rounds = 15;
/** A step through all mappings that meets each once: a prime. */
const stride = 7919;

async function timed(count: number, work: () => void | Promise<void>): Promise<number> {
  const start = performance.now();
  await work();
  return ((performance.now() - start) / count) * 1e6;
}

/** Finds what a device would find. */
function translate({ parent }: Lab, iova: bigint): void {
  const found = parent.iommuGroup?.domain?.translate(iova, page);
  if (found?.length !== page) throw new Error(`0x${iova.toString(16)} is not mapped`);
}

async function costs(lab: Lab, count: number, at: (iova: bigint) => Mapper): Promise<Costs> {
  const iovaOf = (i: number) => base + BigInt(i) * distance;
  for (let i = 0; i < count; i++) await at(iovaOf(i)).map();
  const times = { map: Number.POSITIVE_INFINITY, translate: Number.POSITIVE_INFINITY, unmap: Number.POSITIVE_INFINITY };
  for (let round = 0; round < rounds; round++) {
    const iovas = Array.from({ length: sample }, (_, i) => iovaOf(((round * sample + i) * stride) % count));
    const mappers = iovas.map(at);
    const found = await timed(sample, () => {
      for (const iova of iovas) translate(lab, iova);
    });
    const unmapped = await timed(sample, async () => {
      for (const { unmap } of mappers) await unmap();
    });
    const mapped = await timed(sample, async () => {
      for (const { map } of mappers) await map();
    });
    times.translate = Math.min(times.translate, found);
    times.unmap = Math.min(times.unmap, unmapped);
    times.map = Math.min(times.map, mapped);
  }
  return times;
}

async function manyMappings(
  count: number,
  behind: NonNullable<LabOptions['behind']>,
  prepare: (lab: Lab, fd: number) => Promise<(iova: bigint) => Mapper>,
): Promise<Costs> {
  await using lab = await createLab({ checked: false, behind, mappings: 2 * count });
  const device = await lab.register();
  const path = await lab.open();
  try {
    return await costs(lab, count, await prepare(lab, path.container));
  } finally {
    await lab.close(path);
    await lab.unregister(device);
  }
}

/** In a container. */
export function type1Mappings(count: number): Promise<Costs> {
  return manyMappings(count, 'container', async (lab, container) => {
    const vaddr = memory(lab, page);
    return (iova) => mapper(lab, container, page, iova, vaddr);
  });
}

/** In an address space. */
export function ioasMappings(count: number): Promise<Costs> {
  return manyMappings(count, 'iommufd', async (lab, iommufd) => {
    const vaddr = memory(lab, page);
    const ioas = await compatIoas(lab, iommufd);
    return (iova) => ioasMapper(lab, iommufd, ioas, iova, vaddr);
  });
}
