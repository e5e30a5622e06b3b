// The pseudo file system that gives every device an inode of its own, so that all mappings made through any of its
// files can be taken away at once.

import { type Host, InodeMapping, SmallSet } from '@vfio/host';

/** An anonymous inode of the vfio pseudo file system. */
export class PseudoInode {
  readonly mapping = new InodeMapping();
  readonly #fs: PseudoFs;

  constructor(fs: PseudoFs) {
    this.#fs = fs;
  }

  /** Gives the inode back and unpins the file system. */
  put(): void {
    this.#fs.inodes.delete(this);
  }
}

/**
 * Counts its inodes; it is mounted while there is one.
 *
 * @source drivers/vfio/vfio_main.c vfio_fs_inode_new()
 */
export class PseudoFs {
  /** What statfs would show. */
  static readonly magic = 0x5646494f;
  /** @internal */ readonly inodes = new SmallSet<PseudoInode>();
  readonly #host: Host;

  constructor(host: Host) {
    this.#host = host;
  }

  /** Whether some device pins it. */
  get pinned(): number {
    return this.inodes.size;
  }

  /** @throws ENOMEM - injected */
  newInode(): PseudoInode {
    this.#host.faults.check('vfio_fs_inode_new:pin');
    this.#host.faults.check('vfio_fs_inode_new:inode');
    const inode = new PseudoInode(this);
    this.inodes.add(inode);
    return inode;
  }
}
