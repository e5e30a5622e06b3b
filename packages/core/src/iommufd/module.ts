/** The module `iommufd`: while it is loaded, there is /dev/iommu. */
import type { MiscDeviceOptions, ModuleSpec } from '@vfio/host';
import { IommufdFile } from './context-file.js';
import type { Iommufd } from './iommufd.js';

/** Minor of the container's node. Source: include/linux/miscdevice.h VFIO_MINOR */
const VFIO_MINOR = 196;

/**
 * What `modprobe iommufd` loads. Register it with `host.modules.define`.
 *
 * @source drivers/iommu/iommufd/main.c iommufd_init()
 */
export function iommufdModule(iommufd: Iommufd): ModuleSpec {
  const { host, options } = iommufd;
  let toldOfContainer = false;
  const iommu: MiscDeviceOptions = {
    name: 'iommu',
    nodename: 'iommu',
    mode: 0o660,
    open: (_process, flags) => new IommufdFile(iommufd, { flags, label: '/dev/iommu', accountMode: 'user' }),
  };
  const container: MiscDeviceOptions = {
    minor: VFIO_MINOR,
    name: 'vfio',
    nodename: 'vfio/vfio',
    mode: 0o666,
    open(_process, flags) {
      // programs that know containers only expect their accounting, too
      const file = new IommufdFile(iommufd, { flags, label: '/dev/vfio/vfio', accountMode: 'mm' });
      if (!toldOfContainer) host.log.info('iommufd: IOMMUFD is providing /dev/vfio/vfio, not VFIO.');
      toldOfContainer = true;
      return file;
    },
  };
  return {
    name: 'iommufd',
    importNs: ['IOMMUFD', 'IOMMUFD_INTERNAL'],
    parameters: { allow_unsafe_interrupts: { type: 'bool', default: false, mode: 0o644 } },
    async init({ undo }) {
      for (const device of options.vfioContainer === true ? [iommu, container] : [iommu]) {
        const misc = await host.misc.register(device);
        undo.add(() => misc.unregister());
      }
    },
  };
}
