// The IOMMU driver of containers whose groups have no IOMMU: it maps nothing and knows one extension.

import type { IoctlCall, Process } from '@vfio/host';
import { VfioError } from './errors.js';
import type { IommuBackend, IommuDriver } from './iommu-driver.js';
import { Extension } from './uapi/vfio.js';
import type { Vfio } from './vfio.js';

/**
 * Makes the driver. It is built into the core and registered as long as no-IOMMU mode is.
 *
 * @source drivers/vfio/container.c vfio_noiommu_ops
 */
export function createNoiommuDriver(vfio: Vfio): IommuDriver {
  const checkExtension = (extension: number) =>
    extension === Extension.NOIOMMU_IOMMU && vfio.noiommuEnabled() ? 1 : 0;
  const backend: IommuBackend = {
    checkExtension,
    async ioctl(call: IoctlCall): Promise<number> {
      throw new VfioError('ENOTTY', `request 0x${call.request.toString(16)} means nothing without an IOMMU`, {
        syscall: 'ioctl',
      });
    },
    async attachGroup() {},
    async detachGroup() {},
    async release() {},
  };
  return {
    name: 'vfio-noiommu',
    checkExtension,
    open(kind: number, caller: Process): IommuBackend {
      const syscall = 'VFIO_SET_IOMMU';
      if (kind !== Extension.NOIOMMU_IOMMU) throw new VfioError('EINVAL', `type ${kind} is not no-IOMMU`, { syscall });
      if (!caller.credentials.capable('SYS_RAWIO')) throw new VfioError('EPERM', 'needs CAP_SYS_RAWIO', { syscall });
      return backend;
    },
  };
}
