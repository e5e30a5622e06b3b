/*
 * A directory of sysfs: where the kernel's objects show up. Whoever owns an object makes its directory, and the files
 * and links in it; what is removed is unreachable at once, and its name is free again when nobody is busy in it.
 */
import { SystemError } from '../errors.js';
import type { VfsNode } from '../fs/vfs-node.js';
import type { Seams } from '../seams.js';
import { SmallMap } from '../small-map.js';
import type { Attribute, AttributeGroup, BinAttribute } from './attribute.js';
import { SysfsFile } from './file.js';
import { isFile, isLazyEntry, type LazyEntry } from './lazy.js';
import { SysfsLink } from './link.js';

/** What is in a directory. */
export type SysfsNode = SysfsDir | SysfsFile | SysfsLink;

/**
 * How a directory keeps an entry: the node, or what it will be made of when somebody asks for it. An attribute becomes
 * a file, a directory that belongs elsewhere the target of a link.
 */
type Entry = SysfsNode | Attribute | BinAttribute | LazyEntry;

/** A directory. */
export class SysfsDir implements VfsNode {
  readonly name: string;
  readonly parent: SysfsDir | undefined;
  mode = 0o755;
  uid = 0;
  gid = 0;
  readonly #seams: Seams;
  /** Made with the first entry, as many directories stay empty. */
  #entries: SmallMap<string, Entry> | undefined;
  /** Files that were removed while somebody was busy in them, by the entry of this directory that they were or were below. */
  #leaving: Map<string, SysfsFile[]> | undefined;
  #removed = false;

  /** Only for the root; use `mkdir`. */
  constructor(seams: Seams, parent: SysfsDir | undefined, name: string) {
    this.#seams = seams;
    this.parent = parent;
    this.name = name;
  }

  get kind(): 'dir' {
    return 'dir';
  }

  /** Whether it was removed. */
  get removed(): boolean {
    return this.#removed;
  }

  /** Whether nothing is in it. */
  get empty(): boolean {
    return this.#entries === undefined || this.#entries.size === 0;
  }

  /** Where it is, or was: `/sys/devices/virtual/mtty`. */
  path(): string {
    return this.parent ? `${this.parent.path()}/${this.name}` : this.name;
  }

  /** As `path`, without `/sys`: what uevents and links in /dev call it. */
  devpath(): string {
    return this.parent ? `${this.parent.devpath()}/${this.name}` : '';
  }

  /**
   * Makes a directory.
   *
   * @throws EEXIST - the name is taken
   * @throws ENOENT - this directory was removed
   * @throws ENOMEM
   * @source fs/sysfs/dir.c sysfs_create_dir_ns()
   */
  mkdir(name: string): SysfsDir {
    this.#seams.faults.check(`sysfs_create_dir:${name}`);
    const dir = new SysfsDir(this.#seams, this, name);
    this.#link(name, dir);
    return dir;
  }

  /**
   * Makes a file of text or, for an attribute with a size, of bytes.
   *
   * @param mode - permission bits, when not those of the attribute
   * @throws EEXIST, ENOENT, ENOMEM - as `mkdir`
   * @source fs/sysfs/file.c sysfs_create_file_ns(), sysfs_create_bin_file()
   */
  addFile(attribute: Attribute | BinAttribute, mode: number = attribute.mode): SysfsFile {
    this.#seams.faults.check(`sysfs_create_file:${attribute.name}`);
    const file = new SysfsFile(this.#seams, this, attribute, mode);
    this.#link(attribute.name, file);
    return file;
  }

  /**
   * As `addFile`, with a description that is asked for when somebody looks at the file.
   *
   * @throws EEXIST, ENOENT, ENOMEM - as `mkdir`
   */
  addLazyFile(name: string, entry: LazyEntry): void {
    this.#seams.faults.check(`sysfs_create_file:${name}`);
    this.#link(name, entry);
  }

  /**
   * As `addGroup` for a group with a name, with a description that is asked for when somebody looks at the directory.
   *
   * @param files - names of the files that will be in it, all of them visible
   * @throws EEXIST, ENOENT, ENOMEM - as `mkdir`
   */
  addLazyGroup(name: string, files: readonly string[], entry: LazyEntry): void {
    this.#seams.faults.check(`sysfs_create_dir:${name}`);
    for (const file of files) this.#seams.faults.check(`sysfs_create_file:${file}`);
    this.#link(name, entry);
  }

  /**
   * Makes a link to a directory, relative.
   *
   * @throws ENOENT - the target was removed, or this directory was
   * @throws EEXIST, ENOMEM - as `mkdir`
   * @source fs/sysfs/symlink.c sysfs_create_link()
   */
  addLink(name: string, target: SysfsDir | (() => SysfsDir)): void {
    const now = target instanceof SysfsDir ? target : target();
    if (now.removed) throw new SystemError('ENOENT', `no directory ${now.path()}`, { subject: this.path() });
    this.#seams.faults.check(`sysfs_create_link:${name}`);
    // What is below this directory could be taken for itself.
    const plain = target instanceof SysfsDir && target.parent !== this;
    this.#link(name, plain ? target : new SysfsLink(this, name, typeof target === 'function' ? target : () => target));
  }

  /**
   * Makes the files of a group, all or none, in a directory of their own if the group has a name.
   *
   * @throws EEXIST, ENOENT, ENOMEM - as `mkdir`
   * @source fs/sysfs/group.c sysfs_create_group()
   */
  addGroup(group: AttributeGroup): void {
    const visible = visibleAttributes(group);
    const dir = group.name === undefined ? this : this.mkdir(group.name);
    const added: string[] = [];
    try {
      for (const [attribute, mode] of visible) {
        dir.#addAttribute(attribute, mode);
        added.push(attribute.name);
      }
    } catch (error) {
      if (dir === this) for (const name of added.reverse()) this.removeEntry(name);
      else dir.remove();
      throw error;
    }
  }

  /**
   * Makes the files of several groups, all or none.
   *
   * @throws EEXIST, ENOENT, ENOMEM - as `mkdir`
   * @source fs/sysfs/group.c sysfs_create_groups()
   */
  addGroups(groups: readonly AttributeGroup[]): void {
    const added: AttributeGroup[] = [];
    try {
      for (const group of groups) {
        this.addGroup(group);
        added.push(group);
      }
    } catch (error) {
      for (const group of added.reverse()) this.removeGroup(group);
      throw error;
    }
  }

  /**
   * Takes an entry out, with all that is below it. Nothing happens if there is none of that name.
   * Who is busy in it stays so: see `drained`.
   */
  removeEntry(name: string): void {
    const entry = this.#entries?.get(name);
    if (entry === undefined) return;
    if (this.#isNode(entry)) this.#unlink(entry);
    else this.#forget(name);
  }

  /**
   * Takes the files of a group out, and its directory.
   *
   * @source fs/sysfs/group.c sysfs_remove_group()
   */
  removeGroup(group: AttributeGroup): void {
    if (group.name !== undefined) {
      const missing = this.#entries?.has(group.name) !== true;
      const text = `sysfs group '${group.name}' not found for kobject '${this.name}'`;
      if (!this.#seams.log.warnOn(missing && !this.#removed, text)) this.removeEntry(group.name);
      return;
    }
    for (const { name } of attributesOf(group)) this.removeEntry(name);
  }

  /** Takes the files of several groups out, in their order. */
  removeGroups(groups: readonly AttributeGroup[]): void {
    for (const group of groups) this.removeGroup(group);
  }

  /** Removes this directory, with all that is below it. Nothing happens if it is gone. */
  remove(): void {
    if (this.parent) this.parent.#unlink(this);
  }

  /**
   * Removes a file from within its own store.
   *
   * @returns true for exactly one of those that try; the others wait until that one's store has returned
   * @source drivers/base/core.c device_remove_file_self()
   */
  async removeSelf(file: SysfsFile): Promise<boolean> {
    return await file.removeSelf(() => this.#unlink(file));
  }

  /** Whether there is anybody for `drained` to wait for, or was. */
  get draining(): boolean {
    return this.#leaving !== undefined;
  }

  /**
   * Waits for those who are busy in what was removed from here so far, or in this directory when it was removed.
   * Whoever removes something and then destroys what show and store look at waits here in between.
   */
  async drained(): Promise<void> {
    const leaving = this.#leaving;
    if (leaving === undefined) return;
    for (const files of [...leaving.values()]) for (const file of files) await file.drained();
    for (const [name, files] of leaving) if (!files.some(isBusy)) leaving.delete(name);
  }

  /**
   * Finds an entry.
   *
   * @param path - a name, or names with slashes between; links are not followed
   */
  lookup(path: string): SysfsNode | undefined {
    if (!path.includes('/')) return this.#node(path);
    const [name = '', ...rest] = path.split('/').filter((part) => part !== '');
    const entry = this.#node(name);
    if (rest.length === 0) return entry;
    return entry instanceof SysfsDir ? entry.lookup(rest.join('/')) : undefined;
  }

  /** The names in it, in the order in which they came. */
  list(): string[] {
    return (this.#entries?.entries() ?? []).map(([name]) => name);
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

  #addAttribute(attribute: Attribute | BinAttribute, mode: number): void {
    // The mode of its own is all that a file needs beside the attribute.
    if (mode !== attribute.mode) this.addFile(attribute, mode);
    else {
      this.#seams.faults.check(`sysfs_create_file:${attribute.name}`);
      this.#link(attribute.name, attribute);
    }
  }

  #link(name: string, entry: Entry): void {
    if (name === '' || name.includes('/')) throw new RangeError(`not a name in sysfs: '${name}'`);
    if (this.#removed) throw new SystemError('ENOENT', 'the directory is gone', { subject: this.path() });
    if (this.#entries?.has(name) || this.#leaving?.get(name)?.some(isBusy)) {
      this.#seams.log.warn(`sysfs: cannot create duplicate filename '${this.devpath()}/${name}'`);
      throw new SystemError('EEXIST', 'the name is taken', { subject: `${this.path()}/${name}` });
    }
    this.#entries ??= new SmallMap();
    this.#entries.set(name, entry);
  }

  /** Whether an entry is what was asked for, and not only what it is made of. */
  #isNode(entry: Entry): entry is SysfsNode {
    if (entry instanceof SysfsDir) return entry.parent === this;
    return entry instanceof SysfsFile || entry instanceof SysfsLink;
  }

  /** The node of an entry, which is made now if nobody asked for it before. */
  #node(name: string): SysfsNode | undefined {
    const entry = this.#entries?.get(name);
    if (entry === undefined || this.#isNode(entry)) return entry;
    const node = this.#make(name, entry);
    this.#entries?.set(name, node);
    return node;
  }

  #make(name: string, entry: Exclude<Entry, SysfsFile | SysfsLink>): SysfsNode {
    if (entry instanceof SysfsDir) return new SysfsLink(this, name, () => entry);
    const described = isLazyEntry(entry) ? entry.describeEntry(name) : entry;
    if (isFile(described)) {
      const file = new SysfsFile(this.#seams, this, described, described.mode);
      if (this.#removed) file.deactivate();
      return file;
    }
    const dir = new SysfsDir(this.#seams, this, name);
    for (const attribute of attributesOf(described)) dir.#link(attribute.name, attribute);
    dir.#removed = this.#removed;
    return dir;
  }

  #forget(name: string): void {
    this.#entries?.delete(name);
    this.#leaving?.delete(name);
  }

  #unlink(node: SysfsNode): void {
    if (this.#entries?.get(node.name) !== node) return;
    this.#forget(node.name);
    const files = node instanceof SysfsDir ? node.#deactivate() : node instanceof SysfsFile ? [node] : [];
    for (const file of files) file.deactivate();
    const busy = files.filter(isBusy);
    if (busy.length === 0) return;
    this.#leaving ??= new Map();
    this.#leaving.set(node.name, busy);
    if (!(node instanceof SysfsDir)) return;
    node.#leaving ??= new Map();
    node.#leaving.set('', busy);
  }

  /** Takes no more entries, here and below; answers with the files. */
  #deactivate(): SysfsFile[] {
    this.#removed = true;
    const files: SysfsFile[] = [];
    for (const [, entry] of this.#entries?.entries() ?? []) {
      if (entry instanceof SysfsFile) files.push(entry);
      else if (entry instanceof SysfsDir && entry.parent === this) files.push(...entry.#deactivate());
    }
    return files;
  }
}

function isBusy(file: SysfsFile): boolean {
  return file.busy;
}

function attributesOf(group: AttributeGroup): readonly (Attribute | BinAttribute)[] {
  return [...(group.attributes ?? []), ...(group.binAttributes ?? [])];
}

/** The attributes of a group that are to be seen, with their modes. */
function visibleAttributes(group: AttributeGroup): (readonly [Attribute | BinAttribute, number])[] {
  return attributesOf(group)
    .map((attribute) => [attribute, group.isVisible?.(attribute) ?? attribute.mode] as const)
    .filter(([attribute, mode]) => mode !== 0 || attribute.mode === 0);
}
