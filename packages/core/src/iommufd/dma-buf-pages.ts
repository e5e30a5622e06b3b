/**
 * Pages of a buffer that VFIO exports: registers of one device, to be reached by others. They are neither pinned nor charged,
 * no process and no emulated device sees them, and their owner may take them back: then they vanish from all domains, for
 * good, while their mappings stay in place.
 */
import { type DmaBufAttachment, type DmaBufFile, type Host, type IommuDomain, PAGE_SIZE } from '@vfio/host';
import { VfioError } from '../errors.js';
import type { IoptArea } from './area.js';
import { PAGE } from './iova-range.js';
import { type MapRequest, pagesInit } from './page-sources.js';
import { type FrameRun, IoptPages, type PagesInit } from './pages.js';

const syscall = 'IOMMU_IOAS_MAP_FILE';

/** Source: drivers/iommu/iommufd/io_pagetable.h struct iopt_pages_dmabuf */
export class DmaBufPages extends IoptPages {
  readonly base: bigint;
  /** First frame; undefined once the buffer was taken back. */
  #pfn: number | undefined;
  #attachment: DmaBufAttachment | undefined;
  /** Where the pages are shown. */
  readonly #shown = new Map<IoptArea, Set<IommuDomain>>();

  /** @param base - bytes from the start of the buffer to the first page */
  constructor(init: PagesInit, base: bigint) {
    super(init);
    this.base = base;
  }

  override get mmio(): boolean {
    return true;
  }

  /**
   * Attaches to the buffer.
   *
   * @throws EOPNOTSUPP - memory instead of registers, or several pieces of them
   * @throws EINVAL - past the end of the buffer
   * @throws ENODEV - the buffer is taken back
   * @source drivers/iommu/iommufd/pages.c iopt_map_dmabuf()
   */
  async attach(file: DmaBufFile): Promise<void> {
    const invalidateMappings = () => this.#revoke();
    const attachment = file.attach({ name: 'iommufd', peer2peer: true, invalidateMappings });
    try {
      this.#pfn = firstFrame(this.iommufd.host, attachment, this.base, this.npages);
    } catch (error) {
      await attachment.detach();
      throw error;
    }
    this.#attachment = attachment;
  }

  override hold(): void {}

  override unhold(): void {}

  override charge(): void {}

  override *frames(first: number, last: number): Generator<FrameRun> {
    if (this.#pfn !== undefined) yield { index: first, pfn: this.#pfn + first, pages: last - first + 1 };
  }

  override addAccess(): void {
    throw new VfioError('EINVAL', 'registers can not be pinned', { syscall: 'iommufd_access_pin_pages' });
  }

  override copyFrames(): void {
    throw new VfioError('EINVAL', 'registers can not be copied', { syscall: 'iommufd_access_rw' });
  }

  /** @source drivers/iommu/iommufd/pages.c iopt_dmabuf_track_domain() */
  override show(area: IoptArea, domain: IommuDomain): void {
    if (this.#pfn === undefined) return;
    const domains = this.#shown.get(area) ?? new Set();
    this.#shown.set(area, domains.add(domain));
  }

  /** @source drivers/iommu/iommufd/pages.c iopt_dmabuf_untrack_domain() */
  override hide(area: IoptArea, domain: IommuDomain): boolean {
    const domains = this.#shown.get(area);
    const shown = domains?.delete(domain) === true;
    if (domains?.size === 0) this.#shown.delete(area);
    return shown;
  }

  override split(area: IoptArea, parts: readonly IoptArea[]): void {
    const domains = this.#shown.get(area);
    if (!this.#shown.delete(area) || !domains) return;
    for (const part of parts) this.#shown.set(part, new Set(domains));
  }

  protected override pin(): never {
    throw new VfioError('EINVAL', 'registers can not be pinned', { syscall });
  }

  protected override async release(): Promise<void> {
    await this.#attachment?.detach();
  }

  /** The exporter takes the buffer back. Source: drivers/iommu/iommufd/pages.c iopt_revoke_notify() */
  async #revoke(): Promise<void> {
    using _held = await this.mutex.lock();
    this.#pfn = undefined;
    for (const [area, domains] of this.#shown) {
      for (const domain of domains) domain.unmap(area.start, area.length);
    }
    this.#shown.clear();
  }
}

/**
 * The frame behind the first of some pages.
 *
 * @source drivers/vfio/pci/vfio_pci_dmabuf.c vfio_pci_dma_buf_iommufd_map()
 */
function firstFrame(host: Host, attachment: DmaBufAttachment, base: bigint, pages: number): number {
  const [segment, ...others] = attachment.map();
  if (!segment || others.length > 0 || host.memory.at(segment.phys / PAGE_SIZE) !== undefined) {
    throw new VfioError('EOPNOTSUPP', 'the buffer is not one piece of registers of a VFIO device', { syscall });
  }
  const start = Number(base);
  if (start + pages * PAGE_SIZE > segment.length) {
    throw new VfioError('EINVAL', `the buffer has ${segment.length} bytes`, { syscall });
  }
  return (segment.phys + start) / PAGE_SIZE;
}

/**
 * Describes a part of a buffer, which is attached to as long as the pages are used.
 *
 * @param start - bytes from the start of the buffer
 * @throws EINVAL, EOVERFLOW, ENOMEM - as for `allocFilePages`
 * @throws EOPNOTSUPP, ENODEV - as for `DmaBufPages.attach`, and what the exporter says
 * @source drivers/iommu/iommufd/pages.c iopt_alloc_dmabuf_pages()
 */
export async function allocDmaBufPages(request: MapRequest, file: DmaBufFile, start: bigint): Promise<DmaBufPages> {
  const pages = new DmaBufPages(pagesInit(request, start), start - (start % PAGE));
  try {
    await pages.attach(file);
  } catch (error) {
    await pages.put();
    throw error;
  }
  return pages;
}
