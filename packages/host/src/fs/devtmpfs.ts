/*
 * /dev: nodes that the kernel makes for devices, with the directories above them. Everybody may change their mode
 * and owner as far as permissions go; the kernel takes them away when the device goes.
 */
import { SystemError } from '../errors.js';
import type { UserBuffer } from '../mm/user-buffer.js';
import type { Process } from '../process/process.js';
import type { Seams } from '../seams.js';
import { type CharDevices, MEM_MAJOR, type OpenDevice } from './chrdevs.js';
import { File } from './file.js';
import { TmpfsDirectory, TmpfsNode } from './tmpfs.js';
import type { DeviceNumber, VfsNode } from './vfs-node.js';

const ROOT = '/dev';

/** A device node to be made. */
export interface DevNodeOptions {
  /** Below /dev: `vfio/2`. */
  readonly path: string;
  /** Permission bits; `0o600` unless given. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly major: number;
  readonly minor: number;
  /** Opens the device; without it, what {@link CharDevices.add} says of the numbers. */
  readonly open?: OpenDevice;
  /** Who has `open`, in its place. */
  readonly opener?: DeviceOpener;
}

/** Somebody who opens a device. */
export interface DeviceOpener {
  open(process: Process, flags: number): File | Promise<File>;
}

/** A node of /dev. */
export class DevNode extends TmpfsNode {
  readonly rdev: DeviceNumber;
  /** Absolute: `/dev/vfio/2`. */
  readonly path: string;
  readonly #opener: DeviceOpener;
  readonly #directory: TmpfsDirectory;
  #removed = false;

  constructor(options: DevNodeOptions, opener: DeviceOpener, directory: TmpfsDirectory) {
    super(options.mode ?? 0o600, options.uid, options.gid);
    this.rdev = { major: options.major, minor: options.minor };
    this.path = `${ROOT}/${options.path}`;
    this.#opener = opener;
    this.#directory = directory;
  }

  override get kind(): 'char' {
    return 'char';
  }

  get deleted(): boolean {
    return this.#removed;
  }

  /** Opens the device. Who still holds the node after it was removed (through O_PATH) gets ENXIO. */
  open(process: Process, flags: number): File | Promise<File> {
    if (this.#removed) throw new SystemError('ENXIO', 'the device is gone');
    return this.#opener.open(process, flags);
  }

  /** Takes the node away, and directories that are empty then. What is open stays open. */
  remove(): void {
    if (this.#removed) return;
    this.#removed = true;
    this.#directory.remove(this.path.slice(this.path.lastIndexOf('/') + 1));
    removeIfEmpty(this.#directory);
  }
}

/** A directory that the kernel made, and takes away when nothing is left in it. */
class DevDirectory extends TmpfsDirectory {
  readonly parent: TmpfsDirectory;
  readonly name: string;

  constructor(parent: TmpfsDirectory, name: string) {
    super(parent.pathOf(name));
    this.parent = parent;
    this.name = name;
  }
}

function removeIfEmpty(directory: TmpfsDirectory): void {
  if (!(directory instanceof DevDirectory) || !directory.empty) return;
  directory.parent.remove(directory.name);
  removeIfEmpty(directory.parent);
}

/** The file system at /dev. */
export class Devtmpfs {
  readonly root = new TmpfsDirectory(ROOT);
  readonly #seams: Seams;
  readonly #chrdevs: CharDevices;

  constructor(seams: Seams, chrdevs: CharDevices) {
    this.#seams = seams;
    this.#chrdevs = chrdevs;
    this.add({ path: 'null', mode: 0o666, major: MEM_MAJOR, minor: 3, open: (_process, flags) => new NullFile(flags) });
  }

  /**
   * Makes a node, with the directories above it.
   *
   * @throws EEXIST - there is one of that path
   * @throws ENOTDIR - a name on the way is no directory
   * @source drivers/base/devtmpfs.c handle_create()
   */
  add(options: DevNodeOptions): DevNode {
    this.#seams.faults.check(`devtmpfs_create_node:${options.path}`);
    const names = options.path.split('/');
    const name = names.pop() ?? '';
    const directory = this.#makeDirectories(names);
    const rdev = { major: options.major, minor: options.minor };
    const { open = (process, flags) => this.#chrdevs.open(process, rdev, flags), opener = { open } } = options;
    try {
      return directory.add(name, new DevNode(options, opener, directory));
    } catch (error) {
      removeIfEmpty(directory);
      throw error;
    }
  }

  #makeDirectories(names: readonly string[]): TmpfsDirectory {
    let directory = this.root;
    for (const name of names) {
      const found: VfsNode = directory.lookup(name) ?? directory.add(name, new DevDirectory(directory, name));
      if (!(found instanceof TmpfsDirectory)) {
        throw new SystemError('ENOTDIR', `${directory.pathOf(name)} is no directory`);
      }
      directory = found;
    }
    return directory;
  }
}

/** /dev/null: nothing to read, and whatever is written is gone. */
class NullFile extends File {
  constructor(flags: number) {
    super({ flags, label: `${ROOT}/null`, seek: 'normal' });
  }

  override read(): number {
    return 0;
  }

  override write(buffer: UserBuffer): number {
    return buffer.length;
  }

  override llseek(): number {
    this.position = 0;
    return 0;
  }
}
