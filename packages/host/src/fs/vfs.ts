/*
 * The name space: file systems mounted on each other, the walk along a path, and opening what is found there. Every
 * process sees the same one and stands at its root.
 */
import { SystemError } from '../errors.js';
import type { Process } from '../process/process.js';
import { DirectoryFile } from './directory-file.js';
import { type File, PathFile } from './file.js';
import { O } from './flags.js';
import { Access, permitted, type VfsNode } from './vfs-node.js';

const PATH_MAX = 4096;
const NAME_MAX = 255;
const MAX_SYMLINKS = 40;

/** What a path leads to. */
export interface Resolved {
  readonly node: VfsNode;
  /** Absolute, with all links followed. */
  readonly path: string;
}

/** How a path is walked. */
export interface ResolveOptions {
  /** False: a link at the end is the result. */
  readonly follow?: boolean;
}

interface Step extends VfsNodeAt {
  /** Set for what a magic link led to, which has no place below its parent. */
  readonly label?: string;
}

interface VfsNodeAt {
  readonly node: VfsNode;
  readonly name: string;
}

/** A walk that ended, perhaps one name short. */
interface Walked {
  readonly steps: Step[];
  /** The last name, when there is nothing of that name. */
  readonly missing?: string;
}

/** Only these bits of `open` reach a file. */
const kept = ~(O.CREAT | O.EXCL | O.NOCTTY | O.TRUNC | O.CLOEXEC);

/** The mounted file systems of a host. */
export class Vfs {
  readonly #root: VfsNode;
  readonly #mounts = new Map<VfsNode, VfsNode>();
  readonly #inodes = new WeakMap<VfsNode, number>();
  #nextInode = 1;

  /** @param root - the file system at `/` */
  constructor(root: VfsNode) {
    this.#root = root;
  }

  /**
   * Puts a file system over a directory. Made at boot, so no process and no permission is asked.
   *
   * @throws ENOENT - no such path
   * @throws ENOTDIR - one of the two is no directory
   * @throws EBUSY - something is mounted there
   */
  mount(path: string, root: VfsNode): void {
    let node = this.#root;
    for (const name of path.split('/').filter((part) => part !== '')) {
      const found = node.lookup?.(name, undefined);
      if (found === undefined) throw new SystemError('ENOENT', 'no such directory', { subject: path });
      node = this.#mounts.get(found) ?? found;
    }
    if (node.kind !== 'dir' || root.kind !== 'dir')
      throw new SystemError('ENOTDIR', 'not a directory', { subject: path });
    if ([...this.#mounts.values()].includes(node)) throw new SystemError('EBUSY', 'a mount point', { subject: path });
    this.#mounts.set(node, root);
  }

  /** Number of a node for `stat`: the same for as long as the node exists. */
  inode(node: VfsNode): number {
    let number = this.#inodes.get(node);
    if (number === undefined) {
      number = this.#nextInode++;
      this.#inodes.set(node, number);
    }
    return number;
  }

  /**
   * Walks a path.
   *
   * @throws ENOENT - a name does not exist, or the path is empty
   * @throws ENOTDIR - a name on the way is no directory
   * @throws EACCES - a directory on the way may not be searched
   * @throws ELOOP - more than 40 links
   * @throws ENAMETOOLONG - the path or a name in it
   */
  resolve(process: Process, path: string, options: ResolveOptions = {}): Resolved {
    const { steps, missing } = this.#walk(process, path, options.follow ?? true);
    if (missing !== undefined) throw new SystemError('ENOENT', `there is no ${missing}`);
    return { node: last(steps).node, path: pathOf(steps) };
  }

  /**
   * Opens a path for a process.
   *
   * @param flags - {@link O} bits
   * @param mode - permissions of a file that has to be made
   * @returns the file, with one reference that belongs to the caller
   * @throws EACCES - the mode bits forbid it
   * @throws EEXIST - O_CREAT with O_EXCL, and it exists
   * @throws EISDIR - a directory, for writing or with O_CREAT
   * @throws ELOOP - a link, with O_NOFOLLOW
   * @throws ENOTDIR - no directory, with O_DIRECTORY
   * @throws ENXIO - a device that is not there
   * @source fs/namei.c path_openat(), may_open()
   */
  async open(process: Process, path: string, flags: number, mode = 0): Promise<File> {
    const pathOnly = (flags & O.PATH) !== 0;
    const create = !pathOnly && (flags & O.CREAT) !== 0;
    const exclusive = create && (flags & O.EXCL) !== 0;
    if (create && (flags & O.DIRECTORY) !== 0) throw new SystemError('EINVAL', 'O_CREAT makes no directory');
    const walked = this.#walk(
      process,
      create ? path.replace(/(?<=.)\/+$/, '') : path,
      (flags & O.NOFOLLOW) === 0 && !exclusive,
    );
    if (create && path.endsWith('/')) throw new SystemError('EISDIR', 'a path that ends in a slash');
    if (walked.missing !== undefined) {
      if (!create) throw new SystemError('ENOENT', `there is no ${walked.missing}`);
      const made = createIn(process, last(walked.steps).node, walked.missing, mode);
      return this.#openNode(process, { node: made, path: join(pathOf(walked.steps), walked.missing) }, flags & kept);
    }
    const { node } = last(walked.steps);
    if (exclusive) throw new SystemError('EEXIST', 'the file exists');
    if ((flags & O.DIRECTORY) !== 0 && node.kind !== 'dir') throw new SystemError('ENOTDIR', 'not a directory');
    if (pathOnly) return new PathFile(pathOf(walked.steps), node);
    if (node.kind === 'link') throw new SystemError('ELOOP', 'a symbolic link');
    const access = (flags & O.ACCMODE) === O.RDONLY ? Access.READ : (flags & O.ACCMODE) === O.WRONLY ? Access.WRITE : 6;
    if (node.kind === 'dir' && (create || (access & Access.WRITE) !== 0))
      throw new SystemError('EISDIR', 'a directory');
    const wanted = access | ((flags & O.TRUNC) !== 0 ? Access.WRITE : 0);
    if (!permitted(process, node, wanted)) throw denied(node);
    if ((flags & O.TRUNC) !== 0) node.truncate?.();
    return this.#openNode(process, { node, path: pathOf(walked.steps) }, flags & kept);
  }

  async #openNode(process: Process, { node, path }: Resolved, flags: number): Promise<File> {
    const file = await openNode(process, node, path, flags | O.LARGEFILE);
    file.node ??= node;
    return file;
  }

  #walk(process: Process, path: string, follow: boolean): Walked {
    if (path === '') throw new SystemError('ENOENT', 'the path is empty');
    if (path.length >= PATH_MAX) throw new SystemError('ENAMETOOLONG', `a path of ${path.length} bytes`);
    const root: Step = { node: this.#mounts.get(this.#root) ?? this.#root, name: '' };
    const steps = [root];
    const names = path.split('/').reverse();
    let links = 0;
    while (names.length > 0) {
      const name = names.pop() ?? '';
      const directory = last(steps).node;
      // An empty name stands for a slash more: what comes before it has to be a directory.
      if (directory.kind !== 'dir') throw new SystemError('ENOTDIR', `${pathOf(steps)} is not a directory`);
      if (name === '') continue;
      if (!permitted(process, directory, Access.EXEC)) throw denied(directory);
      if (name === '.') continue;
      if (name === '..') {
        if (steps.length > 1) steps.pop();
        continue;
      }
      if (name.length > NAME_MAX) throw new SystemError('ENAMETOOLONG', `a name of ${name.length} bytes`);
      const found = directory.lookup?.(name, process);
      const rest = names.some((part) => part !== '');
      if (found === undefined) {
        if (rest) throw new SystemError('ENOENT', `there is no ${join(pathOf(steps), name)}`);
        return { steps, missing: name };
      }
      const node = this.#mounts.get(found) ?? found;
      if (node.kind !== 'link' || (names.length === 0 && !follow)) {
        steps.push({ node, name });
        continue;
      }
      if (++links > MAX_SYMLINKS) throw new SystemError('ELOOP', `more than ${MAX_SYMLINKS} links`);
      const text = node.target?.(process) ?? '';
      if (node.follow !== undefined) {
        steps.push({ node: node.follow(process), name, label: text });
        continue;
      }
      if (text === '') throw new SystemError('ENOENT', 'an empty link');
      if (text.startsWith('/')) steps.splice(1);
      names.push(...text.split('/').reverse());
    }
    return { steps };
  }
}

function openNode(process: Process, node: VfsNode, path: string, flags: number): File | Promise<File> {
  if (node.open !== undefined) return node.open(process, flags);
  if (node.kind === 'dir') return new DirectoryFile(flags, path);
  throw new SystemError('ENXIO', 'nothing is behind it');
}

function createIn(process: Process, directory: VfsNode, name: string, mode: number): VfsNode {
  if (directory.create === undefined) throw new SystemError('EACCES', 'files cannot be made here');
  if (!permitted(process, directory, Access.WRITE | Access.EXEC)) throw denied(directory);
  return directory.create(name, mode & ~process.umask, process);
}

function denied(node: VfsNode): SystemError {
  return new SystemError('EACCES', `mode ${node.mode.toString(8)} of ${node.uid}:${node.gid} forbids it`);
}

function pathOf(steps: readonly Step[]): string {
  const label = last(steps).label;
  return (
    label ??
    `/${steps
      .slice(1)
      .map(({ name }) => name)
      .join('/')}`
  );
}

function join(directory: string, name: string): string {
  return directory === '/' ? `/${name}` : `${directory}/${name}`;
}

function last(steps: readonly Step[]): Step {
  const step = steps.at(-1);
  if (step === undefined) throw new RangeError('a walk starts at the root');
  return step;
}
