// The in-kernel device by which a VMM tells KVM of its VFIO files: KVM_DEV_TYPE_VFIO.

import {
  type File,
  type IoctlCall,
  type KvmDevice,
  type KvmDeviceAttr,
  type KvmDeviceOps,
  type KvmVm,
  Mutex,
  type Seams,
} from '@vfio/host';
import { VfioError } from './errors.js';
import { fileEnforcedCoherent, fileIsValid, fileSetKvm } from './files.js';

/** Its number as an in-kernel device. Source: include/uapi/linux/kvm.h KVM_DEV_TYPE_VFIO */
export const KVM_DEV_TYPE_VFIO = 4;

/** Its attribute group: files of groups and devices. Source: include/uapi/linux/kvm.h KVM_DEV_VFIO_FILE */
const fileGroup = 1;
/** Attributes of that group. Source: include/uapi/linux/kvm.h KVM_DEV_VFIO_FILE_* */
const FileAttr = { ADD: 1n, DEL: 2n } as const;

/** Source: virt/kvm/vfio.c struct kvm_vfio */
class KvmVfio implements KvmDevice {
  readonly #vm: KvmVm;
  readonly #lock: Mutex;
  readonly #files: File[] = [];
  #noncoherent = false;

  constructor(seams: Seams, vm: KvmVm) {
    this.#vm = vm;
    this.#lock = new Mutex(seams, 'kvm_vfio.lock');
  }

  hasAttr({ group, attr }: KvmDeviceAttr): number {
    if (group === fileGroup && (attr === FileAttr.ADD || attr === FileAttr.DEL)) return 0;
    throw unknown({ group, attr });
  }

  async setAttr(call: IoctlCall, attribute: KvmDeviceAttr): Promise<number> {
    const { group, attr, addr } = attribute;
    if (group !== fileGroup) throw unknown(attribute);
    if (attr !== FileAttr.ADD && attr !== FileAttr.DEL) throw unknown(attribute);
    const bytes = call.copyInAt(addr, 4);
    const fd = new DataView(bytes.buffer, bytes.byteOffset).getInt32(0, call.order === 'little');
    // held over the wait for the lock: the descriptor may be closed meanwhile
    const file = call.process.files.get(fd).get();
    try {
      using _held = await this.#lock.lock();
      if (attr === FileAttr.ADD) await this.#add(file, fd);
      else await this.#remove(file, fd);
    } finally {
      await file.put();
    }
    return 0;
  }

  /** Source: virt/kvm/vfio.c kvm_vfio_file_add() */
  async #add(file: File, fd: number): Promise<void> {
    if (!fileIsValid(file)) throw new VfioError('EINVAL', `descriptor ${fd} is no file of VFIO`);
    if (this.#files.includes(file)) throw new VfioError('EEXIST', `descriptor ${fd} was added already`);
    this.#files.push(file.get());
    fileSetKvm(file, this.#vm);
    await this.#updateCoherency();
  }

  /** Source: virt/kvm/vfio.c kvm_vfio_file_del() */
  async #remove(file: File, fd: number): Promise<void> {
    const at = this.#files.indexOf(file);
    if (at < 0) throw new VfioError('ENOENT', `descriptor ${fd} was not added`);
    this.#files.splice(at, 1);
    fileSetKvm(file, undefined);
    await file.put();
    await this.#updateCoherency();
  }

  /** The machine must know whether any of the files stands for DMA that does not snoop. */
  async #updateCoherency(): Promise<void> {
    let noncoherent = false;
    // one after the other: each takes a lock of the same class
    for (const file of this.#files) {
      noncoherent = !(await fileEnforcedCoherent(file));
      if (noncoherent) break;
    }
    if (noncoherent === this.#noncoherent) return;
    this.#noncoherent = noncoherent;
    if (noncoherent) this.#vm.registerNoncoherentDma();
    else this.#vm.unregisterNoncoherentDma();
  }

  /** Source: virt/kvm/vfio.c kvm_vfio_release() */
  async release(): Promise<void> {
    for (const file of this.#files.splice(0)) {
      fileSetKvm(file, undefined);
      await file.put();
    }
    await this.#updateCoherency();
  }
}

function unknown({ group, attr }: Pick<KvmDeviceAttr, 'group' | 'attr'>): VfioError {
  return new VfioError('ENXIO', `kvm-vfio has no attribute ${attr} in group ${group}`);
}

/** What `host.kvm` registers as {@link KVM_DEV_TYPE_VFIO}. */
export function kvmVfioOps(seams: Seams): KvmDeviceOps {
  return { name: 'kvm-vfio', create: (vm) => new KvmVfio(seams, vm) };
}
