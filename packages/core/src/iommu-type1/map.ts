/**
 * New mappings. With hardware in the container their memory is pinned and shown to every domain at once, run by run; in a
 * container of emulated devices they are only written down. The same request gives a mapping its new address in an exchange.
 */
import { type ErrnoCode, type IoctlCall, IommuProt, PAGE_SIZE, type Process } from '@vfio/host';
import { VfioError } from '../errors.js';
import { DmaMapFlag, type IommuType1DmaMap, iommuType1DmaMap } from '../uapi/vfio.js';
import { copyArgsz } from '../user-args.js';
import { bitmapAlloc } from './dirty.js';
import { Dma, type MappedRun } from './dma.js';
import { changeDmaOwner } from './locked-vm.js';
import { pinPagesRemote, unpinAndUncharge } from './pin.js';
import type { Type1Domain, Type1State } from './state.js';
import { pageAddress, pageOf, rangeEnd, rangeText } from './units.js';
import { removeDma } from './unmap.js';
import { iovaDmaValid } from './windows.js';

const syscall = 'VFIO_IOMMU_MAP_DMA';
const knownFlags = DmaMapFlag.READ | DmaMapFlag.WRITE | DmaMapFlag.VADDR;

/**
 * Shows a run of pages to one domain, as one piece, or page by page without huge pages. All or nothing.
 *
 * @throws the errno of the domain
 */
export function mapRun(state: Type1State, { domain }: Type1Domain, dma: Dma, { offset, run }: MappedRun): void {
  const step = state.parameters.disableHugepages ? 1 : run.pages;
  const iova = pageAddress(dma.page + offset);
  for (let done = 0; done < run.pages; done += step) {
    try {
      const phys = (run.pfn + done) * PAGE_SIZE;
      domain.map(iova + pageAddress(done), phys, pageAddress(step), dma.prot | IommuProt.CACHE);
    } catch (error) {
      if (done > 0) domain.unmap(iova, pageAddress(done));
      throw error;
    }
  }
}

/**
 * Shows a run of pages to all domains or none.
 *
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_map()
 */
function iommuMap(state: Type1State, dma: Dma, mapped: MappedRun): void {
  const done: Type1Domain[] = [];
  try {
    for (const domain of state.domains) {
      mapRun(state, domain, dma, mapped);
      done.unshift(domain);
    }
  } catch (error) {
    for (const { domain } of done) domain.unmap(pageAddress(dma.page + mapped.offset), pageAddress(mapped.run.pages));
    throw error;
  }
}

/**
 * Pins a mapping's memory and shows it to the hardware, until it has `pages` pages. When it throws, the mapping has what
 * was done before; the caller removes it.
 *
 * @source drivers/vfio/vfio_iommu_type1.c vfio_pin_map_dma()
 */
function pinMapDma(state: Type1State, dma: Dma, pages: number): void {
  dma.iommuMapped = true;
  for (const mapped of pinPagesRemote(state, dma, 0, pages)) {
    try {
      iommuMap(state, dma, mapped);
    } catch (error) {
      unpinAndUncharge(dma, mapped);
      throw error;
    }
    dma.runs.push(mapped);
    dma.pages += mapped.run.pages;
  }
}

/**
 * A mapping whose address was taken back gets a new one, maybe in another process, which then owns it.
 *
 * @throws ENOENT - nothing is mapped there
 * @throws EINVAL - not this mapping exactly, or its address is good
 * @throws ENOMEM - the new owner may not lock as much
 */
function updateVaddr(state: Type1State, { iova, size, vaddr }: IommuType1DmaMap, caller: Process): void {
  const where = { syscall, subject: rangeText(iova, size) };
  const dma = state.dmas.find(pageOf(iova), pageOf(iova + size - 1n));
  if (!dma) throw new VfioError('ENOENT', 'no mapping to update', where);
  if (!dma.vaddrInvalid) throw new VfioError('EINVAL', 'the address was not taken back', where);
  if (dma.iova !== iova || dma.size !== size) throw new VfioError('EINVAL', 'not the whole mapping', where);
  changeDmaOwner(state, dma, caller);
  dma.vaddr = vaddr;
  dma.vaddrInvalid = false;
  state.vaddrInvalidCount--;
}

/** Makes the mapping of a request that was checked. */
function createDma(state: Type1State, args: IommuType1DmaMap, caller: Process): void {
  const { host } = state;
  const { iova, size } = args;
  host.faults.check('vfio_dma_do_map:dma');
  const dma = new Dma({
    page: pageOf(iova),
    vaddr: args.vaddr,
    prot: args.flags & (DmaMapFlag.READ | DmaMapFlag.WRITE),
    task: caller,
    lockCap: caller.credentials.capable('IPC_LOCK'),
    tracked: host.tracker.track('mapping', () => `mapping ${rangeText(iova, size)} of ${caller.comm}`),
  });
  state.dmaAvail--;
  state.dmas.link(dma);
  try {
    if (state.domains.length === 0) dma.pages = pageOf(size);
    else pinMapDma(state, dma, pageOf(size));
    if (state.dirtyPageTracking) bitmapAlloc(state, dma);
  } catch (error) {
    removeDma(state, dma);
    throw error;
  }
}

/**
 * Checks a request against the container and does it.
 *
 * @source drivers/vfio/vfio_iommu_type1.c vfio_dma_do_map()
 */
async function doMap(state: Type1State, args: IommuType1DmaMap, caller: Process): Promise<void> {
  const { flags, vaddr, iova, size } = args;
  const refuse = (code: ErrnoCode, reason: string) =>
    new VfioError(code, reason, { syscall, subject: `${rangeText(iova, size)} at 0x${vaddr.toString(16)}` });
  if (size === 0n) throw refuse('EINVAL', 'size is 0');
  const end = rangeEnd(iova, size);
  if (end === undefined || rangeEnd(vaddr, size) === undefined) {
    throw refuse('EOVERFLOW', 'iova or vaddr passes the end of the address space');
  }
  const setVaddr = (flags & DmaMapFlag.VADDR) !== 0;
  const access = (flags & (DmaMapFlag.READ | DmaMapFlag.WRITE)) !== 0;
  if (setVaddr === access) throw refuse('EINVAL', 'either VADDR, or READ or WRITE or both');

  using _held = await state.lockForRequest();
  if (((size | iova | vaddr) & (state.pgsize - 1n)) !== 0n) {
    throw refuse('EINVAL', `size, iova or vaddr is not a multiple of ${state.pgsize}`);
  }
  if (setVaddr) {
    updateVaddr(state, args, caller);
    return;
  }
  const other = state.dmas.find(pageOf(iova), pageOf(end));
  if (other) throw refuse('EEXIST', `overlaps mapping ${rangeText(other.iova, other.size)}`);
  if (state.dmaAvail === 0) throw refuse('ENOSPC', 'no mapping is left');
  if (!iovaDmaValid(state.windows, iova, end)) throw refuse('EINVAL', 'not inside of a usable range');
  createDma(state, args, caller);
}

/**
 * VFIO_IOMMU_MAP_DMA.
 *
 * @throws EFAULT - the arguments are not readable, or the memory is not there for the access
 * @throws EINVAL - argsz, flags, size, alignment, outside of the usable ranges, or an exchange of addresses that does not fit
 * @throws EOVERFLOW - a range passes the end of the address space
 * @throws EEXIST - overlaps a mapping
 * @throws ENOENT - VADDR and nothing mapped there
 * @throws ENOSPC - the container has as many mappings as it may
 * @throws ENOMEM - more locked memory than allowed
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_type1_map_dma()
 */
export async function mapDma(state: Type1State, call: IoctlCall): Promise<number> {
  const args = iommuType1DmaMap.decode(copyArgsz(call, iommuType1DmaMap.endOf('size')), call.order);
  if ((args.flags & ~knownFlags) !== 0)
    throw new VfioError('EINVAL', `flags 0x${args.flags.toString(16)}`, { syscall });
  await doMap(state, args, call.process);
  return 0;
}
