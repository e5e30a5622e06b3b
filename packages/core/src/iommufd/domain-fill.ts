/**
 * How areas come into domains and out again: their pages are held once for all domains of the address space, and shown to
 * each of them in pieces as large as the frames allow.
 */
import { type IommuDomain, IommuProt, PAGE_SIZE } from '@vfio/host';
import type { IoptArea } from './area.js';
import type { IoPagetable } from './io-pagetable.js';
import { PAGE } from './iova-range.js';
import type { IoptPages } from './pages.js';

/**
 * Shows frames to a domain: as one piece, or page by page where mappings may be cut later. All or nothing.
 *
 * @source drivers/iommu/iommufd/pages.c batch_to_domain(), batch_iommu_map_small()
 */
function mapPiece(domain: IommuDomain, iova: bigint, phys: number, size: bigint, prot: number, small: boolean): void {
  const step = small ? PAGE : size;
  for (let done = 0n; done < size; done += step) {
    const part = size - done < step ? size - done : step;
    try {
      domain.map(iova + done, phys + Number(done), part, prot);
    } catch (error) {
      if (done > 0n) domain.unmap(iova, done);
      throw error;
    }
  }
}

/** Shows an area, whose pages are held, to one domain. All or nothing. */
function mapArea(iopt: IoPagetable, area: IoptArea, pages: IoptPages, domain: IommuDomain): void {
  const end = area.startByte + area.length;
  const prot = area.prot | (pages.mmio ? IommuProt.MMIO : IommuProt.CACHE);
  let from = area.startByte;
  for (const { index, pfn, pages: count } of pages.frames(area.firstIndex, area.lastIndex)) {
    const first = BigInt(index) * PAGE;
    const runEnd = first + BigInt(count) * PAGE;
    const to = runEnd < end ? runEnd : end;
    const done = from - area.startByte;
    try {
      const phys = pfn * PAGE_SIZE + Number(from - first);
      mapPiece(domain, area.start + done, phys, to - from, prot, iopt.largePagesDisabled);
    } catch (error) {
      if (done > 0n) domain.unmap(area.start, done);
      throw error;
    }
    from = to;
  }
  pages.show(area, domain);
}

/** Takes an area out of one domain. Source: drivers/iommu/iommufd/pages.c iommu_unmap_nofail() */
function unmapArea(iopt: IoPagetable, area: IoptArea, pages: IoptPages, domain: IommuDomain): void {
  if (!pages.hide(area, domain)) return;
  const unmapped = domain.unmap(area.start, area.length);
  iopt.host.log.warnOn(unmapped !== area.length, `iommufd: unmapped ${unmapped} of ${area.length} bytes`);
}

/**
 * Shows a new area to all domains.
 *
 * @param pages - of the area, which does not have them yet
 * @throws EFAULT, ENOMEM, the errno of a domain - all domains and pins are as before
 * @source drivers/iommu/iommufd/pages.c iopt_area_fill_domains()
 */
export async function fillDomains(iopt: IoPagetable, area: IoptArea, pages: IoptPages): Promise<void> {
  iopt.domainsRwsem.assertHeld();
  if (iopt.domains.length === 0) return;
  using _held = await pages.mutex.lock();
  fill(iopt, area, pages, iopt.domains);
  area.filled = true;
}

/** Pins, maps and charges, in this order; what fails first is reported. */
function fill(iopt: IoPagetable, area: IoptArea, pages: IoptPages, domains: readonly IommuDomain[]): void {
  pages.hold(area.firstIndex, area.lastIndex);
  const done: IommuDomain[] = [];
  try {
    for (const domain of domains) {
      mapArea(iopt, area, pages, domain);
      done.push(domain);
    }
    pages.charge();
  } catch (error) {
    for (const domain of done) unmapArea(iopt, area, pages, domain);
    pages.unhold(area.firstIndex, area.lastIndex);
    pages.charge();
    throw error;
  }
}

/**
 * Takes an area out of all domains, and lets its pages go.
 *
 * @source drivers/iommu/iommufd/pages.c iopt_area_unfill_domains()
 */
export async function unfillDomains(iopt: IoPagetable, area: IoptArea, pages: IoptPages): Promise<void> {
  iopt.domainsRwsem.assertHeld();
  using _held = await pages.mutex.lock();
  if (!area.filled) return;
  for (const domain of iopt.domains) unmapArea(iopt, area, pages, domain);
  letGo(area, pages);
}

function letGo(area: IoptArea, pages: IoptPages): void {
  area.filled = false;
  pages.unhold(area.firstIndex, area.lastIndex);
  pages.charge();
}

/**
 * Shows all areas to a domain that is not of the table yet.
 *
 * @throws EFAULT, ENOMEM, the errno of the domain - the domain is empty again
 * @source drivers/iommu/iommufd/io_pagetable.c iopt_fill_domain()
 */
export async function fillDomain(iopt: IoPagetable, domain: IommuDomain): Promise<void> {
  const done: IoptArea[] = [];
  try {
    for (const area of iopt.areas) {
      const { pages } = area;
      if (!pages) continue;
      using _held = await pages.mutex.lock();
      if (area.filled) mapArea(iopt, area, pages, domain);
      else fill(iopt, area, pages, [domain]);
      area.filled = true;
      done.push(area);
    }
  } catch (error) {
    await empty(iopt, domain, done);
    throw error;
  }
}

/**
 * Takes all areas out of a domain that is not of the table any more.
 *
 * @source drivers/iommu/iommufd/io_pagetable.c iopt_unfill_domain()
 */
export async function unfillDomain(iopt: IoPagetable, domain: IommuDomain): Promise<void> {
  await empty(iopt, domain, iopt.areas);
}

/** Pages stay held while another domain has them. */
async function empty(iopt: IoPagetable, domain: IommuDomain, areas: Iterable<IoptArea>): Promise<void> {
  for (const area of areas) {
    const { pages } = area;
    if (!pages) continue;
    using _held = await pages.mutex.lock();
    unmapArea(iopt, area, pages, domain);
    if (iopt.domains.length === 0) letGo(area, pages);
  }
}
