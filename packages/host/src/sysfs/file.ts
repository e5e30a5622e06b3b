/*
 * A file of sysfs, and who is busy in it. Removing a file makes it unreachable at once; whoever removes it can then
 * wait until the running calls of its owner's show and store have returned, so that the owner may go away.
 */
import { SystemError } from '../errors.js';
import type { File } from '../fs/file.js';
import { O } from '../fs/flags.js';
import type { VfsNode } from '../fs/vfs-node.js';
import type { Process } from '../process/process.js';
import type { Seams } from '../seams.js';
import { WaitQueue } from '../sync/waiters.js';
import type { Attribute, BinAttribute } from './attribute.js';
import type { SysfsDir } from './dir.js';
import { SysfsBinFile, SysfsTextFile } from './open-file.js';

/** What `stat` says of a file whose size is not known before it is read. */
const ATTRIBUTE_SIZE = 4096;

/** A file. */
export class SysfsFile implements VfsNode {
  readonly kind = 'file';
  readonly name: string;
  readonly parent: SysfsDir;
  readonly attribute: Attribute | BinAttribute;
  mode: number;
  uid = 0;
  gid = 0;
  readonly #seams: Seams;
  readonly #idle = new WaitQueue();
  #active = 0;
  #removed = false;
  #selfRemoval: 'none' | 'running' | 'done' = 'none';

  constructor(seams: Seams, parent: SysfsDir, attribute: Attribute | BinAttribute, mode: number) {
    this.#seams = seams;
    this.parent = parent;
    this.name = attribute.name;
    this.attribute = attribute;
    this.mode = mode & 0o7777;
  }

  /** Bytes. */
  get size(): number {
    return 'size' in this.attribute ? this.attribute.size : ATTRIBUTE_SIZE;
  }

  /** Whether it was taken out of its directory. */
  get removed(): boolean {
    return this.#removed;
  }

  /** Whether a show or store runs in it that somebody who removes it has to wait for. */
  get busy(): boolean {
    return this.#active > 0 && this.#selfRemoval !== 'done';
  }

  /** Where it is, or was. */
  path(): string {
    return `${this.parent.path()}/${this.name}`;
  }

  /**
   * Opens it.
   *
   * @throws ENODEV - it was removed
   * @throws EACCES - no bit of its mode lets anybody do that, be it root
   * @source fs/kernfs/file.c kernfs_fop_open()
   */
  open(process: Process, flags: number): File {
    this.assertPresent();
    const access = flags & O.ACCMODE;
    const forbidden =
      (access !== O.RDONLY && (this.mode & 0o222) === 0) || (access !== O.WRONLY && (this.mode & 0o444) === 0);
    if (forbidden) throw new SystemError('EACCES', `mode ${this.mode.toString(8)}`, { subject: this.path() });
    return 'size' in this.attribute
      ? new SysfsBinFile(this.#seams, this, this.attribute, process, flags)
      : new SysfsTextFile(this.#seams, this, this.attribute, process, flags);
  }

  /** For chmod. */
  setMode(mode: number): void {
    this.mode = mode & 0o7777;
  }

  /** For chown. */
  setOwner(uid: number, gid: number): void {
    this.uid = uid;
    this.gid = gid;
  }

  /** O_TRUNC: there is nothing to cut. */
  truncate(): void {}

  /** @throws ENODEV - it was removed */
  assertPresent(): void {
    if (this.#removed) throw new SystemError('ENODEV', 'the attribute is gone', { subject: this.path() });
  }

  /**
   * Calls into its owner, who cannot be gone before this ends.
   *
   * @throws ENODEV - it was removed
   */
  async whilePresent<T>(call: () => T | Promise<T>): Promise<T> {
    this.assertPresent();
    this.#active++;
    try {
      return await call();
    } finally {
      this.#leave();
    }
  }

  /** Nobody gets in any more. Who is inside stays. */
  deactivate(): void {
    this.#removed = true;
  }

  /** Waits until nobody is inside any more, the one who removes it himself aside. */
  async drained(): Promise<void> {
    const turn = this.#seams.scheduler.switchPoint(`sysfs drain ${this.name}`);
    if (turn !== undefined) await turn;
    while (this.busy) await this.#idle.wait(undefined, `users of ${this.path()}`);
  }

  /**
   * Removes the file from within its own store, which must not wait for itself. Of several that try at the same time
   * one does it; the others wait until that one's store has returned.
   *
   * @param remove - takes it out of its directory
   * @returns true for the one
   * @source fs/kernfs/dir.c kernfs_remove_self()
   */
  async removeSelf(remove: () => void): Promise<boolean> {
    this.#leave();
    try {
      if (this.#selfRemoval === 'none') {
        this.#selfRemoval = 'running';
        remove();
        await this.drained();
        this.#selfRemoval = 'done';
        return true;
      }
      // Several may be woken at once; each goes on alone, as the one before it has left.
      while (this.#selfRemoval === 'running' || this.#active > 0) {
        await this.#idle.wait(undefined, `removal of ${this.path()}`);
      }
      return false;
    } finally {
      this.#active++;
    }
  }

  #leave(): void {
    this.#active--;
    if (this.#active === 0) this.#idle.wakeAll();
  }
}
