/**
 * The objects of an iommufd context and their numbers. Every object that a user can name is in one table; what still uses
 * it keeps it there. Two counts decide: `users`, of which the table itself is one, says whether an object may be destroyed;
 * `shorttermUsers` counts calls under way, and whoever destroys an object waits for those.
 */
import { Completion, type Host, IdAllocator, RefCount, SmallMap, type Tracked } from '@vfio/host';
import { VfioError } from '../errors.js';

/** Highest id: 31 bits. Source: include/linux/xarray.h xa_limit_31b */
const ID_MAX = 0x7fff_ffff;
const FIRST_ID = 1;
/** How long the destruction of an object waits for calls that use it, in milliseconds. */
const SHORTTERM_TIMEOUT = 60_000;

/** The kinds of objects, as messages name them. */
export type ObjectKind = 'device' | 'hwpt' | 'ioas' | 'access';

/** Something with an id. Source: drivers/iommu/iommufd/iommufd_private.h struct iommufd_object */
export abstract class IommufdObject {
  readonly id: number;
  readonly kind: ObjectKind;
  /** The table, other objects that need this one, the kernel's user of it, and calls under way. */
  readonly users: RefCount;
  /** The table and calls under way. */
  readonly shorttermUsers: RefCount;
  /** @internal signalled when the last call under way is over and somebody waits for that */
  idle: Completion | undefined;
  readonly #tracked: Tracked;

  /**
   * Takes an id. Nobody finds the object before `ObjectTable.finalize`.
   *
   * @throws ENOMEM - no memory for it
   * @throws ENOSPC - all ids are in use
   */
  constructor(host: Host, table: ObjectTable, kind: ObjectKind) {
    host.faults.check('_iommufd_object_alloc:object');
    this.id = table.ids.alloc();
    this.kind = kind;
    this.users = new RefCount(host, `users of iommufd ${kind} ${this.id}`, 1);
    this.shorttermUsers = new RefCount(host, `short-term users of iommufd ${kind} ${this.id}`, 1);
    this.#tracked = host.tracker.track('reference', () => `iommufd ${kind} ${this.id}`);
  }

  /** Gives back what the object holds. Called once, when nobody can find it any more. */
  abstract destroy(): void | Promise<void>;

  /** As `destroy`, for an object that was never visible and whose maker still holds its locks. */
  abort(): void | Promise<void> {
    return this.destroy();
  }

  /** @internal the memory goes */
  free(): void {
    this.#tracked.release();
  }
}

/** A class of objects, to look one up by. */
export type ObjectClass<T extends IommufdObject> = abstract new (...args: never[]) => T;

/** An object that a call uses; it is put back when the scope ends. */
export interface HeldObject<T extends IommufdObject> extends Disposable {
  readonly object: T;
}

/** The objects of one context. Source: drivers/iommu/iommufd/iommufd_private.h struct iommufd_ctx objects */
export class ObjectTable {
  /** @internal numbers in use, those of unfinished objects included */
  readonly ids: IdAllocator;
  readonly #host: Host;
  readonly #objects = new SmallMap<number, IommufdObject>();
  readonly #removed: (object: IommufdObject) => void;

  /** @param removed - told of each object that leaves the table, before it is destroyed */
  constructor(host: Host, removed: (object: IommufdObject) => void) {
    this.#host = host;
    this.#removed = removed;
    this.ids = new IdAllocator(host, 'iommufd object', ID_MAX, FIRST_ID);
  }

  /** Whether no id is in use. */
  get empty(): boolean {
    return this.ids.used === 0;
  }

  /** The objects that can be found, by ascending id. */
  list(): IommufdObject[] {
    return [...this.#objects.values()].sort((a, b) => a.id - b.id);
  }

  /**
   * Lets users find an object. Nothing that can fail may follow.
   *
   * @source drivers/iommu/iommufd/main.c iommufd_object_finalize()
   */
  finalize(object: IommufdObject): void {
    this.#host.log.warnOn(this.#objects.has(object.id), `iommufd: id ${object.id} is taken`);
    this.#objects.set(object.id, object);
  }

  /**
   * Gives up an object that nobody could find, with all that it holds.
   *
   * @source drivers/iommu/iommufd/main.c iommufd_object_abort_and_destroy()
   */
  async abortAndDestroy(object: IommufdObject): Promise<void> {
    await object.abort();
    this.ids.free(object.id);
    object.free();
  }

  /**
   * Finds an object for the duration of a call.
   *
   * @param type - `IommufdObject` itself stands for any
   * @throws ENOENT - no such id, another kind, or being destroyed
   * @source drivers/iommu/iommufd/main.c iommufd_get_object()
   */
  hold<T extends IommufdObject>(id: number, type: ObjectClass<T>): HeldObject<T> {
    const object = this.#objects.get(id);
    if (!(object instanceof type) || !this.lock(object)) {
      throw new VfioError('ENOENT', `there is no such object with id ${id}`, { syscall: 'iommufd_get_object' });
    }
    return { object, [Symbol.dispose]: () => this.put(object) };
  }

  /**
   * Counts a call that uses an object.
   *
   * @returns false - it is being destroyed
   * @source drivers/iommu/iommufd/iommufd_private.h iommufd_lock_obj()
   */
  lock(object: IommufdObject): boolean {
    if (!object.users.incNotZero()) return false;
    if (object.shorttermUsers.incNotZero()) return true;
    object.users.decAndTest();
    return false;
  }

  /**
   * The call is over.
   *
   * @source drivers/iommu/iommufd/iommufd_private.h iommufd_put_object()
   */
  put(object: IommufdObject): void {
    object.users.decAndTest();
    if (object.shorttermUsers.decAndTest()) object.idle?.complete();
  }

  /**
   * Destroys the object of an id, if only the table holds it.
   *
   * @throws ENOENT - no such id
   * @throws EBUSY - another object or a call uses it
   * @source drivers/iommu/iommufd/main.c iommufd_object_remove()
   */
  async remove(id: number): Promise<void> {
    const object = this.#objects.get(id);
    if (!object) throw new VfioError('ENOENT', `there is no object with id ${id}`, { syscall: 'IOMMU_DESTROY' });
    await this.#erase(object);
  }

  /**
   * Gives back one user of an object and destroys it if that was the last besides the table.
   *
   * @returns whether it is gone
   * @source drivers/iommu/iommufd/iommufd_private.h iommufd_object_put_and_try_destroy()
   */
  async putAndTryDestroy(object: IommufdObject): Promise<boolean> {
    object.users.decAndTest();
    if (object.users.value !== 1) return false;
    await this.#erase(object);
    return true;
  }

  /**
   * The kernel's own user of an object ends, and the object with it, as soon as calls under way are over.
   *
   * @source drivers/iommu/iommufd/iommufd_private.h iommufd_object_destroy_user()
   */
  async destroyUser(object: IommufdObject): Promise<void> {
    const { log } = this.#host;
    const drained = object.shorttermUsers.decAndTest() || (await this.#drain(object));
    object.users.decAndTest();
    if (log.warnOn(!drained || object.users.value !== 1, `iommufd: ${object.kind} ${object.id} is still in use`)) {
      // a bug of its users: the object stays until the context goes
      if (drained) object.shorttermUsers.set(1);
      return;
    }
    this.#take(object);
    await this.#end(object);
  }

  /**
   * The context goes: everything is destroyed, what others use after those.
   *
   * @source drivers/iommu/iommufd/main.c iommufd_fops_release()
   */
  async destroyAll(): Promise<void> {
    while (this.#objects.size > 0) {
      let destroyed = 0;
      for (const object of this.list()) {
        if (object.users.value !== 1) continue;
        destroyed++;
        this.#take(object);
        await this.#end(object);
      }
      if (this.#host.log.warnOn(destroyed === 0, 'iommufd: objects that use each other are left')) return;
    }
  }

  async #erase(object: IommufdObject): Promise<void> {
    if (object.users.value !== 1) {
      throw new VfioError('EBUSY', `${object.kind} ${object.id} has ${object.users.value - 1} other users`, {
        syscall: 'IOMMU_DESTROY',
      });
    }
    this.#take(object);
    const drained = object.shorttermUsers.decAndTest() || (await this.#drain(object));
    if (this.#host.log.warnOn(!drained, `iommufd: ${object.kind} ${object.id} is used without a user`)) return;
    await this.#end(object);
  }

  /** Out of the table: the id can be given to another. */
  #take(object: IommufdObject): void {
    object.users.decAndTest();
    this.#objects.delete(object.id);
    this.ids.free(object.id);
    this.#removed(object);
  }

  async #end(object: IommufdObject): Promise<void> {
    try {
      await object.destroy();
    } finally {
      object.free();
    }
  }

  /**
   * Waits for the calls that use an object, of which there are some.
   *
   * @returns false - they took too long, and the object is as before
   * @source drivers/iommu/iommufd/main.c iommufd_object_dec_wait_shortterm()
   */
  async #drain(object: IommufdObject): Promise<boolean> {
    const idle = new Completion(this.#host, `iommufd ${object.kind} ${object.id} idle`);
    object.idle = idle;
    const result = await idle.waitTimeout(SHORTTERM_TIMEOUT);
    object.idle = undefined;
    if (result === 'done') return true;
    this.#host.log.crit('iommufd: Time out waiting for iommufd object to become free');
    object.shorttermUsers.inc();
    return false;
  }
}
