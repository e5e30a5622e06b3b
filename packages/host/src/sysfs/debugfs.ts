/*
 * /sys/kernel/debug: what parts of a kernel tell about themselves to whoever debugs them. The tree is of the same kind
 * as sysfs; its files have no size of their own and show text of any length.
 */
import type { Seams } from '../seams.js';
import { SysfsDir } from './dir.js';
import type { Sysfs } from './sysfs.js';

/** Where it is mounted, below /sys/kernel. */
const MOUNT_POINT = 'debug';

/** The debug file system of a host. */
export class Debugfs {
  /** Its root, `/sys/kernel/debug`. */
  readonly root: SysfsDir;
  /** Path of the root. */
  readonly path: string;

  constructor(seams: Seams, sysfs: Sysfs) {
    sysfs.kernel.mkdir(MOUNT_POINT);
    this.path = `/sys/kernel/${MOUNT_POINT}`;
    this.root = new SysfsDir(seams, undefined, this.path);
  }

  /**
   * Adds a file whose text is made when it is read.
   *
   * @param show - a `SystemError` is what the reader gets
   * @throws EEXIST - there is an entry of that name
   * @source fs/debugfs/file.c debugfs_create_devm_seqfile()
   */
  addText(directory: SysfsDir, name: string, show: () => string | Promise<string>, mode = 0o444): void {
    directory.addFile({
      name,
      mode,
      size: 0,
      read: async (offset, length) => new TextEncoder().encode(await show()).subarray(offset, offset + length),
    });
  }
}
