/*
 * A virtual machine as the rest of a kernel sees one: something with a life time that devices may be connected with.
 * It runs nothing.
 */
import type { AddressSpace } from '../mm/address-space.js';
import type { Seams } from '../seams.js';
import { Kref } from '../sync/kref.js';

/** A virtual machine, from KVM_CREATE_VM until the last reference goes. Source: include/linux/kvm_host.h struct kvm */
export class KvmVm {
  /** The memory of the process that made it, which its guest has. */
  readonly mm: AddressSpace;
  readonly #users: Kref;
  /** Devices whose DMA does not snoop the caches: the machine must honour what its guest says of caching. */
  #noncoherent = 0;
  /** Names of the in-kernel devices that it has. */
  readonly devices = new Set<string>();

  constructor(seams: Seams, mm: AddressSpace) {
    this.mm = mm;
    this.#users = new Kref(seams, { describe: () => 'virtual machine', released: () => {} }, 'reference');
  }

  /** References: its file and whoever took one. */
  get users(): number {
    return this.#users.count;
  }

  /**
   * Takes a reference unless the machine is on its way out.
   *
   * @source virt/kvm/kvm_main.c kvm_get_kvm_safe()
   */
  getSafe(): boolean {
    return this.#users.getUnlessZero();
  }

  /** Source: virt/kvm/kvm_main.c kvm_put_kvm() */
  put(): void {
    this.#users.put();
  }

  /** Whether some device makes DMA that does not snoop. */
  get hasNoncoherentDma(): boolean {
    return this.#noncoherent > 0;
  }

  /** Source: arch/x86/kvm/x86.c kvm_arch_register_noncoherent_dma() */
  registerNoncoherentDma(): void {
    this.#noncoherent++;
  }

  /** Source: arch/x86/kvm/x86.c kvm_arch_unregister_noncoherent_dma() */
  unregisterNoncoherentDma(): void {
    this.#noncoherent--;
  }
}
