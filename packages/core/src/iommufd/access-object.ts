/**
 * An access: how a device without hardware translation reaches an IOAS, by pinning pages or copying. It has an id like
 * every object, but only the kernel's device uses it.
 */
import { type Held, Mutex, Undo } from '@vfio/host';
import type { IommufdContext } from './context.js';
import type { Ioas } from './ioas.js';
import { ADDRESS_MAX, PAGE } from './iova-range.js';
import { IommufdObject } from './objects.js';

/** What the owner of an access provides. Source: include/linux/iommufd.h struct iommufd_access_ops */
export interface AccessOps {
  /** Pages will be pinned: everything in the IOAS has to be made of pages. */
  readonly needsPinPages: boolean;
  /**
   * A range is going away; on return nothing in it may be pinned. No lock is held. All of the address space, when the
   * access leaves its IOAS.
   *
   * @param iova - first byte
   * @param length - bytes; all ones for the whole address space
   */
  unmap?(iova: bigint, length: bigint): void | Promise<void>;
}

/** The lock of an access, which can be given up for the time of a call. */
export class IoasLock implements Disposable {
  readonly #mutex: Mutex;
  #held: Held;

  private constructor(mutex: Mutex, held: Held) {
    this.#mutex = mutex;
    this.#held = held;
  }

  /** Takes it. */
  static async take(mutex: Mutex): Promise<IoasLock> {
    return new IoasLock(mutex, await mutex.lock());
  }

  /** Runs `fn` without the lock. */
  async without(fn: () => void | Promise<void>): Promise<void> {
    this.#held.release();
    try {
      await fn();
    } finally {
      this.#held = await this.#mutex.lock();
    }
  }

  [Symbol.dispose](): void {
    this.#held.release();
  }
}

/** Source: drivers/iommu/iommufd/iommufd_private.h struct iommufd_access */
export class IommufdAccess extends IommufdObject {
  readonly context: IommufdContext;
  readonly ops: AccessOps;
  /** What starts and lengths in the IOAS are a multiple of. */
  readonly iovaAlignment: bigint;
  readonly ioasLock: Mutex;
  /** Where pages can be pinned. */
  ioas: Ioas | undefined;
  /** Where pages can be unpinned: still set while the access leaves. */
  ioasUnpin: Ioas | undefined;

  /** Use `accessCreate`. */
  constructor(context: IommufdContext, ops: AccessOps) {
    super(context.host, context.objects, 'access');
    this.context = context.get();
    this.ops = ops;
    this.iovaAlignment = ops.needsPinPages ? PAGE : 1n;
    this.ioasLock = new Mutex(context.host, 'iommufd_access.ioas_lock');
    // the device that made it, until it destroys it
    this.users.inc();
  }

  /**
   * Moves to another IOAS or out of all; the owner is asked to let go of everything in between. The lock is held.
   *
   * @throws EBUSY - it is leaving already
   * @throws EADDRINUSE - the new IOAS has mappings that are not made of pages; the old one stays
   * @throws ENOMEM - no memory for it
   * @throws whatever `unmap` throws, a bug of the owner; the access has moved all the same
   * @source drivers/iommu/iommufd/device.c iommufd_access_change_ioas()
   */
  async changeIoas(lock: IoasLock, next: Ioas | undefined, busy: () => Error): Promise<void> {
    const current = this.ioas;
    if (current !== this.ioasUnpin) throw busy();
    if (current === next) return;
    // from here on nothing is pinned any more
    this.ioas = undefined;
    if (next) {
      try {
        await next.iopt.addAccess(this);
      } catch (error) {
        this.ioas = current;
        throw error;
      }
      next.users.inc();
    }
    await using rest = new Undo();
    rest.add(() => {
      this.ioas = next;
      this.ioasUnpin = next;
    });
    if (!current) return;
    rest.add(() => void current.users.decAndTest());
    rest.add(() => current.iopt.removeAccess(this));
    await lock.without(() => this.ops.unmap?.(0n, ADDRESS_MAX));
  }

  /** Source: drivers/iommu/iommufd/device.c iommufd_access_destroy_object() */
  override async destroy(): Promise<void> {
    await using rest = new Undo();
    rest.add(() => this.context.put());
    using lock = await IoasLock.take(this.ioasLock);
    const leaving = () => new Error(`access ${this.id} is leaving its IOAS`);
    if (this.ioas) await this.changeIoas(lock, undefined, leaving);
  }
}
