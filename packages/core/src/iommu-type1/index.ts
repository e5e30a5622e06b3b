/**
 * Type1: the IOMMU driver of x86 and arm containers. A mapping connects IOVA with the memory of the process that makes it;
 * hardware groups see it through their domains, emulated ones through pins.
 */
import type { Host, Module, ModuleSpec } from '@vfio/host';
import { VfioError } from '../errors.js';
import type { IommuDriver } from '../iommu-driver.js';
import { Extension } from '../uapi/vfio.js';
import { Type1Backend, type1Extension } from './backend.js';
import { type Type1Parameters, Type1State } from './state.js';

/** Where the driver lives: a `Vfio`. */
export interface Type1Home {
  readonly host: Host;
  registerIommuDriver(driver: IommuDriver): Promise<void>;
  unregisterIommuDriver(driver: IommuDriver): Promise<void>;
}

const moduleName = 'vfio_iommu_type1';
const moduleVersion = '0.2';
const defaultDmaEntryLimit = 65535;

/** As the module shows them, read anew each time: changing a file has effect at once where the kernel looks again. */
class ModuleParameters implements Type1Parameters {
  readonly #module: Module;

  constructor(module: Module) {
    this.#module = module;
  }

  get allowUnsafeInterrupts(): boolean {
    return this.#module.paramOf('allow_unsafe_interrupts', 'bool');
  }

  get disableHugepages(): boolean {
    return this.#module.paramOf('disable_hugepages', 'bool');
  }

  get dmaEntryLimit(): number {
    return this.#module.paramOf('dma_entry_limit', 'uint');
  }
}

/**
 * Makes the driver, to be registered with `vfio`.
 *
 * @param module - whose parameters are in force, and which is held while a container uses the driver
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_driver_ops_type1
 */
export function createType1Driver({ host }: Pick<Type1Home, 'host'>, module: Module): IommuDriver {
  const parameters = new ModuleParameters(module);
  return {
    name: 'vfio-iommu-type1',
    module,
    checkExtension: type1Extension,
    open(arg) {
      if (arg !== Extension.TYPE1_IOMMU && arg !== Extension.TYPE1v2_IOMMU) {
        throw new VfioError('EINVAL', `IOMMU type ${arg} is not type1`, { syscall: 'VFIO_SET_IOMMU' });
      }
      host.faults.check('vfio_iommu_type1_open:memory');
      return new Type1Backend(new Type1State(host, parameters, arg === Extension.TYPE1v2_IOMMU));
    },
  };
}

/**
 * The module `vfio_iommu_type1`: while it is loaded, containers of `vfio` can choose type1.
 *
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_type1_init()
 */
export function type1Module(vfio: Type1Home): ModuleSpec {
  let driver: IommuDriver | undefined;
  return {
    name: moduleName,
    version: moduleVersion,
    depends: ['vfio'],
    parameters: {
      allow_unsafe_interrupts: { type: 'bool', default: false, mode: 0o644 },
      disable_hugepages: { type: 'bool', default: false, mode: 0o644 },
      dma_entry_limit: { type: 'uint', default: defaultDmaEntryLimit, mode: 0o644 },
    },
    async init({ module }) {
      driver = createType1Driver(vfio, module);
      await vfio.registerIommuDriver(driver);
    },
    async exit() {
      if (driver) await vfio.unregisterIommuDriver(driver);
      driver = undefined;
    },
  };
}
