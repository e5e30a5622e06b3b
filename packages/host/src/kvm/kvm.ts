/*
 * /dev/kvm, as far as devices that are given to a guest need it: machines can be made, and in-kernel devices in them.
 */
import { SystemError } from '../errors.js';
import { File, type IoctlCall } from '../fs/file.js';
import { O } from '../fs/flags.js';
import type { MiscDevices } from '../misc.js';
import type { ModuleSpec } from '../modules/module.js';
import type { Process } from '../process/process.js';
import type { Seams } from '../seams.js';
import { KvmVm } from './vm.js';

/** Requests, as include/uapi/linux/kvm.h numbers them. */
const KvmRequest = {
  GET_API_VERSION: 0xae00,
  CREATE_VM: 0xae01,
  CHECK_EXTENSION: 0xae03,
  CREATE_DEVICE: 0xc00caee0,
  SET_DEVICE_ATTR: 0x4018aee1,
  GET_DEVICE_ATTR: 0x4018aee2,
  HAS_DEVICE_ATTR: 0x4018aee3,
} as const;

const API_VERSION = 12;
/** The extension that says that in-kernel devices can be made. */
const CAP_DEVICE_CTRL = 89;
/** `flags` of CREATE_DEVICE: only ask whether it could be made. */
const CREATE_DEVICE_TEST = 1;
/** `struct kvm_create_device`: type, fd, flags. */
const CREATE_DEVICE_SIZE = 12;
/** `struct kvm_device_attr`: flags, group, attr, addr. */
const DEVICE_ATTR_SIZE = 24;
const KVM_MINOR = 232;

/** An attribute of an in-kernel device. Source: include/uapi/linux/kvm.h struct kvm_device_attr */
export interface KvmDeviceAttr {
  readonly group: number;
  readonly attr: bigint;
  /** Address of the value in the caller's memory. */
  readonly addr: bigint;
}

/** An in-kernel device of a virtual machine. */
export interface KvmDevice {
  /** @throws ENXIO - there is no such attribute */
  hasAttr(attr: KvmDeviceAttr): number;
  /** @throws ENXIO - there is no such attribute, or what the device says */
  setAttr(call: IoctlCall, attr: KvmDeviceAttr): number | Promise<number>;
  /** Its file was closed. */
  release(): void | Promise<void>;
}

/** A kind of in-kernel device. Source: include/linux/kvm_host.h struct kvm_device_ops */
export interface KvmDeviceOps {
  /** `kvm-vfio` */
  readonly name: string;
  /** @throws EBUSY - the machine has one, and there is one at most */
  create(vm: KvmVm): KvmDevice;
}

/** What KVM needs of a host. */
export interface KvmHost extends Seams {
  readonly misc: MiscDevices;
}

/** The virtual machines of a host, and the kinds of device that they can have. */
export class Kvm {
  readonly #host: KvmHost;
  readonly #deviceOps = new Map<number, KvmDeviceOps>();

  constructor(host: KvmHost) {
    this.#host = host;
  }

  /** The module that makes /dev/kvm. */
  module(): ModuleSpec {
    return {
      name: 'kvm',
      init: async ({ undo }) => {
        const device = await this.#host.misc.register({
          name: 'kvm',
          minor: KVM_MINOR,
          open: (_process, flags) => new KvmFile(this, flags),
        });
        undo.add(() => device.unregister());
      },
    };
  }

  /**
   * Makes a kind of in-kernel device known.
   *
   * @param type - KVM_DEV_TYPE_*
   * @throws EEXIST - the type is known
   * @source virt/kvm/kvm_main.c kvm_register_device_ops()
   */
  registerDeviceOps(type: number, ops: KvmDeviceOps): void {
    if (this.#deviceOps.has(type)) throw new SystemError('EEXIST', `device type ${type} is known`);
    this.#deviceOps.set(type, ops);
  }

  /** Source: virt/kvm/kvm_main.c kvm_unregister_device_ops() */
  unregisterDeviceOps(type: number): void {
    this.#deviceOps.delete(type);
  }

  /** @internal the kind of a type */
  opsOf(type: number): KvmDeviceOps {
    const ops = this.#deviceOps.get(type);
    if (!ops) throw new SystemError('ENODEV', `no in-kernel device of type ${type}`);
    return ops;
  }

  /** @internal */
  get seams(): Seams {
    return this.#host;
  }
}

/** An open /dev/kvm. */
class KvmFile extends File {
  readonly #kvm: Kvm;

  constructor(kvm: Kvm, flags: number) {
    super({ flags, label: '/dev/kvm', seek: 'none' });
    this.#kvm = kvm;
  }

  override ioctl(call: IoctlCall): number | Promise<number> {
    switch (call.request) {
      case KvmRequest.GET_API_VERSION:
        if (call.arg !== 0n) throw new SystemError('EINVAL', 'the version takes no argument');
        return API_VERSION;
      case KvmRequest.CREATE_VM:
        if (call.arg !== 0n) throw new SystemError('EINVAL', `no machine type ${call.arg}`);
        this.#kvm.seams.faults.check('kvm_create_vm:memory');
        return install(call, new KvmVmFile(this.#kvm, call.process));
      case KvmRequest.CHECK_EXTENSION:
        return call.arg === BigInt(CAP_DEVICE_CTRL) ? 1 : 0;
      default:
        throw new SystemError('ENOTTY', `no request 0x${call.request.toString(16)}`);
    }
  }
}

/** The file of a virtual machine. */
export class KvmVmFile extends File {
  readonly vm: KvmVm;
  readonly #kvm: Kvm;

  constructor(kvm: Kvm, { mm }: Process) {
    super({ flags: O.RDWR, label: 'anon_inode:kvm-vm', seek: 'none' });
    this.#kvm = kvm;
    this.vm = new KvmVm(kvm.seams, mm);
  }

  override ioctl(call: IoctlCall): number | Promise<number> {
    checkOwner(this.vm, call);
    switch (call.request) {
      case KvmRequest.CREATE_DEVICE:
        return this.#createDevice(call);
      case KvmRequest.CHECK_EXTENSION:
        return call.arg === BigInt(CAP_DEVICE_CTRL) ? 1 : 0;
      default:
        throw new SystemError('ENOTTY', `no request 0x${call.request.toString(16)}`);
    }
  }

  override release(): void {
    this.vm.put();
  }

  /** Source: virt/kvm/kvm_main.c kvm_ioctl_create_device() */
  async #createDevice(call: IoctlCall): Promise<number> {
    const bytes = call.copyIn(CREATE_DEVICE_SIZE);
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const little = call.order === 'little';
    const ops = this.#kvm.opsOf(view.getUint32(0, little));
    if (view.getUint32(8, little) & CREATE_DEVICE_TEST) return 0;
    this.#kvm.seams.faults.check('kvm_ioctl_create_device:memory');
    view.setUint32(4, await install(call, new KvmDeviceFile(this.vm, ops)), little);
    call.copyOut(bytes);
    return 0;
  }
}

/** The file of an in-kernel device. It keeps its virtual machine. */
class KvmDeviceFile extends File {
  readonly #vm: KvmVm;
  readonly #device: KvmDevice;
  readonly #name: string;

  constructor(vm: KvmVm, ops: KvmDeviceOps) {
    super({ flags: O.RDWR, label: `anon_inode:${ops.name}`, seek: 'none' });
    if (vm.devices.has(ops.name)) throw new SystemError('EBUSY', `the machine has a ${ops.name} device`);
    this.#device = ops.create(vm);
    vm.getSafe();
    vm.devices.add(ops.name);
    this.#vm = vm;
    this.#name = ops.name;
  }

  override ioctl(call: IoctlCall): number | Promise<number> {
    checkOwner(this.#vm, call);
    switch (call.request) {
      case KvmRequest.SET_DEVICE_ATTR:
        return this.#device.setAttr(call, readAttr(call));
      case KvmRequest.HAS_DEVICE_ATTR:
        return this.#device.hasAttr(readAttr(call));
      case KvmRequest.GET_DEVICE_ATTR:
        throw new SystemError('EPERM', 'the device has nothing to read');
      default:
        throw new SystemError('ENOTTY', `no request 0x${call.request.toString(16)}`);
    }
  }

  override async release(): Promise<void> {
    await this.#device.release();
    this.#vm.devices.delete(this.#name);
    this.#vm.put();
  }
}

/** Gives a file to the caller, close-on-exec; one that finds no room is closed again. */
async function install(call: IoctlCall, file: File): Promise<number> {
  try {
    return call.process.files.add(file, { cloexec: true });
  } catch (error) {
    await file.put();
    throw error;
  }
}

/**
 * The machine is that of the process that made it: no other one gets anything from its files.
 *
 * @throws EIO - the caller has other memory
 */
function checkOwner(vm: KvmVm, { process }: IoctlCall): void {
  if (vm.mm !== process.mm) throw new SystemError('EIO', 'the machine is that of another process');
}

/** Source: virt/kvm/kvm_main.c kvm_device_ioctl_attr() */
function readAttr(call: IoctlCall): KvmDeviceAttr {
  const bytes = call.copyIn(DEVICE_ATTR_SIZE);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const little = call.order === 'little';
  // Its flags have no meaning yet, and nobody looks whether there are some.
  return {
    group: view.getUint32(4, little),
    attr: view.getBigUint64(8, little),
    addr: view.getBigUint64(16, little),
  };
}
