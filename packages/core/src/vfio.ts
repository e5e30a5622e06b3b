// VFIO on a host: what the kernel keeps in file-level variables and module parameters, and the switches it was built with.

import {
  DeviceClass,
  type Host,
  IdAllocator,
  type IommuGroup,
  type ModuleContext,
  Mutex,
  SmallMap,
  type SysfsDir,
} from '@vfio/host';
import { buildOptions, type VfioOptions } from './build-options.js';
import { ContainerFile } from './container-file.js';
import { debugfsRoot } from './debugfs.js';
import type { VfioDevice } from './device.js';
import type { DeviceSet, SetId } from './device-set.js';
import { VfioError } from './errors.js';
import type { Group } from './group.js';
import type { IommuDriver } from './iommu-driver.js';
import { type1Module } from './iommu-type1/index.js';
import { Iommufd } from './iommufd/iommufd.js';
import { iommufdModule } from './iommufd/module.js';
import { KVM_DEV_TYPE_VFIO, kvmVfioOps } from './kvm-vfio.js';
import { createNoiommuDriver } from './noiommu-driver.js';
import { PseudoFs } from './pseudo-fs.js';
import { Virqfds } from './virqfd.js';

/** Most devices and groups: minors of a char device. Source: include/linux/kdev_t.h MINORMASK */
const minors = 1 << 20;
const miscMinor = 196;
const moduleVersion = '0.3';

/** What exists while the module is loaded. */
interface Loaded {
  readonly deviceClass: DeviceClass;
  readonly groups: { readonly class: DeviceClass; readonly major: number } | undefined;
  readonly deviceMajor: number | undefined;
  readonly virqfds: Virqfds;
  readonly debugRoot: SysfsDir | undefined;
}

/** VFIO on one host. Two of them know nothing of each other. */
export class Vfio {
  readonly host: Host;
  readonly options: Required<VfioOptions>;
  /** Present when VFIO was built with it. */
  readonly iommufd: Iommufd | undefined;

  /** @internal */ readonly indexes: IdAllocator;
  /** @internal */ readonly pseudoFs: PseudoFs;
  /** @internal sets by their key */ readonly deviceSets = new SmallMap<SetId, DeviceSet>();
  /** @internal oldest first */ readonly groupOf = new SmallMap<IommuGroup, Group>();
  /** @internal protects the list of groups, their making and their end */ readonly groupListLock: Mutex;
  /** @internal */ readonly groupMinors: IdAllocator;
  /** @internal registered devices of a kernel without groups */ readonly ungrouped = new Set<VfioDevice>();
  /** @internal newest first */ readonly iommuDrivers: IommuDriver[] = [];
  /** @internal */ readonly iommuDriversLock: Mutex;
  /** @internal present when built with no-IOMMU */ noiommuDriver: IommuDriver | undefined;
  #loaded: Loaded | undefined;

  constructor(host: Host, options: VfioOptions = {}) {
    this.host = host;
    this.options = buildOptions(options);
    this.indexes = new IdAllocator(host, 'vfio device index', minors - 1);
    this.groupMinors = new IdAllocator(host, 'vfio group minor', minors - 1);
    this.pseudoFs = new PseudoFs(host);
    this.groupListLock = new Mutex(host, 'vfio.group_lock');
    this.iommuDriversLock = new Mutex(host, 'vfio.iommu_drivers_lock');
    const { iommufd, iommufdVfioContainer: vfioContainer, noiommu } = this.options;
    const hardware = typeof iommufd === 'object' ? iommufd : {};
    this.iommufd = iommufd ? new Iommufd(host, { ...hardware, noiommu, vfioContainer }) : undefined;
    this.#defineModules();
  }

  /** Class `vfio-dev`, while the module is loaded. */
  get deviceClass(): DeviceClass {
    return this.#whileLoaded().deviceClass;
  }

  /**
   * Class `vfio`: the groups.
   *
   * @throws TypeError - the kernel has none
   */
  get groupClass(): DeviceClass {
    return this.#whileGrouped().class;
  }

  /** The groups, newest first. */
  get groups(): readonly Group[] {
    return [...this.groupOf.values()].reverse();
  }

  /**
   * Major number of the groups' nodes.
   *
   * @throws TypeError - the kernel has none
   */
  get groupMajor(): number {
    return this.#whileGrouped().major;
  }

  /** Major number of the devices' own nodes; undefined where they have none. */
  get deviceMajor(): number | undefined {
    return this.#whileLoaded().deviceMajor;
  }

  /** VFIO's directory in debugfs; undefined on a kernel without. */
  get debugRoot(): SysfsDir | undefined {
    return this.#whileLoaded().debugRoot;
  }

  /** The eventfds that drivers listen to. */
  get virqfds(): Virqfds {
    return this.#whileLoaded().virqfds;
  }

  /** The registered devices, group by group. */
  devices(): VfioDevice[] {
    return [...this.groups.flatMap((group) => group.devices), ...this.ungrouped];
  }

  /** Whether devices without an IOMMU may be registered: the module's parameter. */
  noiommuEnabled(): boolean {
    return (
      this.options.noiommu && this.host.modules.get('vfio')?.paramOf('enable_unsafe_noiommu_mode', 'bool') === true
    );
  }

  /**
   * Keeps the module loaded while a file is open.
   *
   * @param references - how many the open file counts for in `refcnt`
   * @returns what gives them back
   * @throws ENXIO - the module is going
   */
  pinModule(references = 1): () => void {
    const module = this.host.modules.get('vfio');
    for (let taken = 0; taken < references; taken++) {
      // nothing runs in between: the first one decides
      if (!module?.tryGet()) throw new VfioError('ENXIO', 'module vfio is not loaded', { syscall: 'open' });
    }
    return () => {
      for (let given = 0; given < references; given++) module?.put();
    };
  }

  /**
   * Offers an IOMMU driver to containers; the newest is asked first.
   *
   * @throws EINVAL - it is registered already
   * @source drivers/vfio/container.c vfio_register_iommu_driver()
   */
  async registerIommuDriver(driver: IommuDriver): Promise<void> {
    using _held = await this.iommuDriversLock.lock();
    if (this.iommuDrivers.includes(driver)) throw new VfioError('EINVAL', `${driver.name} is registered already`);
    this.iommuDrivers.unshift(driver);
  }

  /** Source: drivers/vfio/container.c vfio_unregister_iommu_driver() */
  async unregisterIommuDriver(driver: IommuDriver): Promise<void> {
    using _held = await this.iommuDriversLock.lock();
    const at = this.iommuDrivers.indexOf(driver);
    if (at >= 0) this.iommuDrivers.splice(at, 1);
  }

  #whileLoaded(): Loaded {
    if (!this.#loaded) throw new TypeError("module vfio is not loaded: host.modules.modprobe('vfio'), or depend on it");
    return this.#loaded;
  }

  #whileGrouped(): NonNullable<Loaded['groups']> {
    const { groups } = this.#whileLoaded();
    if (!groups) throw new TypeError('VFIO was built without groups');
    return groups;
  }

  #defineModules(): void {
    const { modules } = this.host;
    modules.define({
      name: 'vfio',
      version: moduleVersion,
      importNs: ['IOMMUFD'],
      ...(this.iommufd ? { depends: ['iommufd'] } : {}),
      softPost: ['vfio_iommu_type1'],
      ...(this.options.noiommu
        ? { parameters: { enable_unsafe_noiommu_mode: { type: 'bool', default: false, mode: 0o644 } } }
        : {}),
      init: ({ undo }) => this.#init(undo),
    });
    if (this.iommufd) modules.define(iommufdModule(this.iommufd));
    if (this.options.container) modules.define(type1Module(this));
  }

  /** Source: drivers/vfio/vfio_main.c vfio_init() */
  async #init(undo: ModuleContext['undo']): Promise<void> {
    const { host } = this;
    if (this.options.container) {
      const misc = await host.misc.register({
        minor: miscMinor,
        name: 'vfio',
        nodename: 'vfio/vfio',
        mode: 0o666,
        open: (_process, flags) => new ContainerFile(this, flags),
      });
      undo.add(() => misc.unregister());
    }
    if (this.options.noiommu && this.options.container) {
      const driver = createNoiommuDriver(this);
      this.noiommuDriver = driver;
      await this.registerIommuDriver(driver);
      undo.add(async () => {
        await this.unregisterIommuDriver(driver);
        this.noiommuDriver = undefined;
      });
    }
    undo.add(() => {
      host.log.warnOn(this.groupOf.size > 0, 'module vfio goes although there are groups');
      host.log.warnOn(this.ungrouped.size > 0, 'module vfio goes although there are devices');
    });
    const groups = this.options.group ? this.#initGroups(undo) : undefined;
    if (this.options.kvm) {
      host.kvm.registerDeviceOps(KVM_DEV_TYPE_VFIO, kvmVfioOps(host));
      undo.add(() => host.kvm.unregisterDeviceOps(KVM_DEV_TYPE_VFIO));
    }
    const virqfds = new Virqfds(host);
    undo.add(() => virqfds.destroy());
    const deviceClass = new DeviceClass(host, 'vfio-dev', { devnode: (dev) => ({ name: `vfio/devices/${dev.name}` }) });
    undo.add(() => deviceClass.destroy());
    const deviceMajor = this.options.deviceCdev ? host.chrdevs.registerMajor('vfio-dev') : undefined;
    undo.add(() => {
      if (deviceMajor !== undefined) host.chrdevs.unregisterMajor(deviceMajor);
    });
    const debugRoot = this.options.debugfs ? host.debugfs.root.mkdir(debugfsRoot) : undefined;
    undo.add(() => debugRoot?.remove());
    this.#loaded = { deviceClass, groups, deviceMajor, virqfds, debugRoot };
    undo.add(() => {
      this.#loaded = undefined;
    });
    host.log.info(`VFIO - User Level meta-driver version: ${moduleVersion}`);
  }

  /** Source: drivers/vfio/group.c vfio_group_init() */
  #initGroups(undo: ModuleContext['undo']): NonNullable<Loaded['groups']> {
    const { chrdevs } = this.host;
    const deviceClass = new DeviceClass(this.host, 'vfio', { devnode: (dev) => ({ name: `vfio/${dev.name}` }) });
    undo.add(() => deviceClass.destroy());
    const major = chrdevs.registerMajor('vfio');
    undo.add(() => chrdevs.unregisterMajor(major));
    return { class: deviceClass, major };
  }
}
