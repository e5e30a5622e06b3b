/**
 * A new domain learns all mappings. What hardware has pinned already is shown to it as it is; what only emulated devices
 * used so far is pinned now.
 */
import type { Dma, MappedRun } from './dma.js';
import { mapRun } from './map.js';
import { pinPagesRemote, unpinAndUncharge } from './pin.js';
import type { Type1Domain, Type1State } from './state.js';
import { pageAddress } from './units.js';

/** A mapping as far as the new domain knows it. */
interface Replayed {
  readonly dma: Dma;
  readonly runs: MappedRun[];
  /** The runs were pinned for this domain. */
  readonly fresh: boolean;
}

/**
 * Shows all mappings to a domain that is not in the container yet, or none.
 *
 * Differs: the kernel pins from the memory of whoever attaches the group, here it is the memory of the mapping's owner.
 *
 * @throws EFAULT, ENOMEM, ENODEV - memory that is not there, too much of it, or its owner is gone
 * @throws the errno of the domain
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_replay()
 */
export function replay(state: Type1State, domain: Type1Domain): void {
  const done: Replayed[] = [];
  try {
    for (const dma of state.dmas) {
      const entry: Replayed = { dma, runs: [], fresh: !dma.iommuMapped };
      done.push(entry);
      replayDma(state, domain, entry);
    }
  } catch (error) {
    for (const entry of done.reverse()) forget(domain, entry);
    throw error;
  }
  for (const { dma, runs, fresh } of done) {
    if (!fresh) continue;
    dma.runs = runs;
    dma.iommuMapped = true;
  }
}

function replayDma(state: Type1State, domain: Type1Domain, { dma, runs, fresh }: Replayed): void {
  for (const mapped of fresh ? pinPagesRemote(state, dma, 0, dma.pages) : dma.runs) {
    try {
      mapRun(state, domain, dma, mapped);
    } catch (error) {
      if (fresh) unpinAndUncharge(dma, mapped);
      throw error;
    }
    runs.push(mapped);
  }
}

function forget({ domain }: Type1Domain, { dma, runs, fresh }: Replayed): void {
  const last = runs.at(-1);
  if (last) domain.unmap(dma.iova, pageAddress(last.offset + last.run.pages));
  if (fresh) for (const mapped of runs) unpinAndUncharge(dma, mapped);
}
