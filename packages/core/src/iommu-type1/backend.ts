/**
 * The type1 side of a container: which request goes to which room, and what extensions there are.
 */
import type { AddressSpace, IoctlCall, IommuDomain, IommuGroup } from '@vfio/host';
import { VfioError } from '../errors.js';
import type { DmaUnmapListener, GroupType, IommuBackend, PinnedPage } from '../iommu-driver.js';
import { Extension, Request } from '../uapi/vfio.js';
import { dirtyPages } from './dirty.js';
import { dmaRw } from './dma-rw.js';
import { attachGroup, detachGroup, groupIommuDomain, releaseAll } from './domains.js';
import { getInfo } from './info.js';
import { mapDma } from './map.js';
import { registerDevice, unregisterDevice } from './notify.js';
import { pinPages, unpinPages } from './pin.js';
import type { Type1State } from './state.js';
import { unmapDma } from './unmap.js';

/**
 * What type1 offers of itself, in a container or not.
 *
 * @param arg - extension number
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_type1_check_extension()
 */
export function type1Extension(arg: number): number {
  return arg === Extension.TYPE1_IOMMU || arg === Extension.TYPE1v2_IOMMU || arg === Extension.UNMAP_ALL ? 1 : 0;
}

/** The mappings of one container, made by SET_IOMMU. Source: drivers/vfio/vfio_iommu_type1.c struct vfio_iommu */
export class Type1Backend implements IommuBackend {
  readonly #state: Type1State;

  constructor(state: Type1State) {
    this.#state = state;
  }

  /**
   * As `type1Extension`, and what depends on the groups: addresses can be exchanged while no group is emulated, and DMA is
   * coherent when every domain enforces it.
   */
  async checkExtension(arg: number): Promise<number> {
    if (arg !== Extension.UPDATE_VADDR && arg !== Extension.DMA_CC_IOMMU) return type1Extension(arg);
    using _held = await this.#state.lock.lock();
    const { domains, emulatedGroups } = this.#state;
    const answer =
      arg === Extension.UPDATE_VADDR
        ? emulatedGroups.length === 0
        : domains.every(({ enforceCacheCoherency }) => enforceCacheCoherency);
    return answer ? 1 : 0;
  }

  /**
   * The mapping requests; each room says what it throws.
   *
   * @throws ENOTTY - none of them
   * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_type1_ioctl()
   */
  async ioctl(call: IoctlCall): Promise<number> {
    switch (call.request) {
      case Request.IOMMU_GET_INFO:
        return await getInfo(this.#state, call);
      case Request.IOMMU_MAP_DMA:
        return await mapDma(this.#state, call);
      case Request.IOMMU_UNMAP_DMA:
        return await unmapDma(this.#state, call);
      case Request.IOMMU_DIRTY_PAGES:
        return await dirtyPages(this.#state, call);
      default:
        throw new VfioError('ENOTTY', `type1 knows no request 0x${call.request.toString(16)}`, { syscall: 'ioctl' });
    }
  }

  async attachGroup(group: IommuGroup, type: GroupType): Promise<void> {
    await attachGroup(this.#state, group, type);
  }

  async detachGroup(group: IommuGroup): Promise<void> {
    await detachGroup(this.#state, group);
  }

  async release(): Promise<void> {
    await releaseAll(this.#state);
  }

  async registerDevice(device: DmaUnmapListener): Promise<void> {
    await registerDevice(this.#state, device);
  }

  async unregisterDevice(device: DmaUnmapListener): Promise<void> {
    await unregisterDevice(this.#state, device);
  }

  async pinPages(group: IommuGroup, iova: bigint, npage: number, prot: number): Promise<PinnedPage[]> {
    return await pinPages(this.#state, group, iova, npage, prot);
  }

  async unpinPages(iova: bigint, npage: number): Promise<void> {
    await unpinPages(this.#state, iova, npage);
  }

  async dmaRw(iova: bigint, bytes: Uint8Array, write: boolean, caller?: AddressSpace): Promise<void> {
    await dmaRw(this.#state, iova, bytes, write, caller);
  }

  async groupDomain(group: IommuGroup): Promise<IommuDomain> {
    return await groupIommuDomain(this.#state, group);
  }
}
