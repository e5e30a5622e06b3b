/*
 * A small file system in memory: the root of a host, and the directories of devtmpfs. Files hold bytes, and that is
 * all; who wants memory to share maps it.
 */
import { SystemError } from '../errors.js';
import type { UserBuffer } from '../mm/user-buffer.js';
import type { Process } from '../process/process.js';
import { SmallMap } from '../small-map.js';
import { File } from './file.js';
import type { NodeKind, VfsNode } from './vfs-node.js';

/** Largest file. */
const MAX_FILE = 2 ** 30;

/** What all nodes of a tmpfs have: an owner and a mode that can be changed. */
export abstract class TmpfsNode implements VfsNode {
  abstract readonly kind: NodeKind;
  #mode: number;
  #uid: number;
  #gid: number;

  constructor(mode: number, uid = 0, gid = 0) {
    this.#mode = mode;
    this.#uid = uid;
    this.#gid = gid;
  }

  get mode(): number {
    return this.#mode;
  }

  get uid(): number {
    return this.#uid;
  }

  get gid(): number {
    return this.#gid;
  }

  setMode(mode: number): void {
    this.#mode = mode;
  }

  setOwner(uid: number, gid: number): void {
    this.#uid = uid;
    this.#gid = gid;
  }
}

/** A directory of names. */
export class TmpfsDirectory extends TmpfsNode {
  override readonly kind = 'dir';
  readonly #path: string;
  readonly #entries = new SmallMap<string, VfsNode>();

  /** @param path - where it is, `/` at the root */
  constructor(path: string, mode = 0o755, uid = 0, gid = 0) {
    super(mode, uid, gid);
    this.#path = path;
  }

  lookup(name: string): VfsNode | undefined {
    return this.#entries.get(name);
  }

  list(): string[] {
    return this.#entries.keys();
  }

  /** Whether nothing is in it. */
  get empty(): boolean {
    return this.#entries.size === 0;
  }

  /** Path of an entry. */
  pathOf(name: string): string {
    return this.#path === '/' ? `/${name}` : `${this.#path}/${name}`;
  }

  create(name: string, mode: number, process: Process): TmpfsFile {
    const { uid, gid } = process.credentials;
    return this.add(name, new TmpfsFile(this.pathOf(name), mode & 0o7777, uid, gid));
  }

  /** Makes a directory in this one. */
  mkdir(name: string, mode = 0o755): TmpfsDirectory {
    return this.add(name, new TmpfsDirectory(this.pathOf(name), mode));
  }

  /**
   * Puts a node into the directory.
   *
   * @throws EEXIST - there is one of that name
   */
  add<N extends VfsNode>(name: string, node: N): N {
    if (this.#entries.has(name)) throw new SystemError('EEXIST', `${this.pathOf(name)} exists`);
    this.#entries.set(name, node);
    return node;
  }

  /** Takes a name out; whoever has the node open keeps it. */
  remove(name: string): void {
    this.#entries.delete(name);
  }
}

/** A file of bytes. */
export class TmpfsFile extends TmpfsNode {
  override readonly kind = 'file';
  readonly #path: string;
  #bytes = new Uint8Array(0);

  constructor(path: string, mode: number, uid = 0, gid = 0) {
    super(mode, uid, gid);
    this.#path = path;
  }

  /** Bytes in the file. */
  get size(): number {
    return this.#bytes.length;
  }

  open(_process: Process, flags: number): File {
    return new OpenTmpfsFile(flags, this.#path, this);
  }

  truncate(): void {
    this.#bytes = new Uint8Array(0);
  }

  /** A view of the bytes from `position` on. */
  bytesFrom(position: number): Uint8Array {
    return this.#bytes.subarray(position);
  }

  /** Writes bytes, and fills a gap before them with zeros. */
  put(bytes: Uint8Array, position: number): void {
    const end = position + bytes.length;
    if (end > MAX_FILE) throw new SystemError('EFBIG', `${end} bytes`);
    if (end > this.#bytes.length) {
      const grown = new Uint8Array(end);
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    this.#bytes.set(bytes, position);
  }
}

class OpenTmpfsFile extends File {
  readonly #file: TmpfsFile;

  constructor(flags: number, label: string, file: TmpfsFile) {
    super({ flags, label, seek: 'normal' });
    this.#file = file;
  }

  override read(buffer: UserBuffer, position: number): number {
    const rest = this.#file.bytesFrom(position);
    const count = Math.min(rest.length, buffer.bytes.length);
    if (count === 0 && rest.length > 0 && buffer.length > 0)
      throw new SystemError('EFAULT', 'the buffer is not accessible');
    buffer.bytes.set(rest.subarray(0, count));
    return count;
  }

  override write(buffer: UserBuffer, position: number): number {
    if (buffer.bytes.length === 0 && buffer.length > 0) throw new SystemError('EFAULT', 'the bytes are not accessible');
    this.#file.put(buffer.bytes, position);
    return buffer.bytes.length;
  }

  override size(): number {
    return this.#file.size;
  }
}
