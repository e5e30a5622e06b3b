/**
 * An iommufd context: what one open file of /dev/iommu has. It lives as long as the file does, and what is bound to it
 * keeps the file.
 */
import { type File, type Host, RwLock, SmallMap } from '@vfio/host';
import type { IommufdGroup } from './group.js';
import type { Ioas } from './ioas.js';
import type { Iommufd } from './iommufd.js';
import { ObjectTable } from './objects.js';

/** Source: drivers/iommu/iommufd/iommufd_private.h struct iommufd_ctx */
export class IommufdContext {
  readonly iommufd: Iommufd;
  readonly objects: ObjectTable;
  /** Groups of bound devices, by their number. */
  readonly groups = new SmallMap<number, IommufdGroup>();
  /** Held for reading where an IOAS becomes visible, for writing over all of them. */
  readonly ioasCreationLock: RwLock;
  /** Who pays for pinned pages. */
  accountMode: 'user' | 'mm';
  /** A device without an IOMMU was attached: VFIO's requests work without mappings. */
  noIommuMode = false;
  /** What VFIO's requests work on. */
  vfioIoas: Ioas | undefined;
  readonly #file: File;

  /**
   * @param file - whose references are those of the context
   * @throws ENOMEM - no memory for it
   * @source drivers/iommu/iommufd/main.c iommufd_fops_open()
   */
  constructor(iommufd: Iommufd, file: File, accountMode: 'user' | 'mm') {
    const { host } = iommufd;
    host.faults.check('iommufd_fops_open:context');
    this.iommufd = iommufd;
    this.accountMode = accountMode;
    this.#file = file;
    this.ioasCreationLock = new RwLock(host, 'iommufd_ctx.ioas_creation_lock');
    this.objects = new ObjectTable(host, (object) => {
      if (this.vfioIoas === object) this.vfioIoas = undefined;
    });
  }

  get host(): Host {
    return this.iommufd.host;
  }

  /** Takes a reference; the caller has one. Source: drivers/iommu/iommufd/main.c iommufd_ctx_get() */
  get(): this {
    this.#file.get();
    return this;
  }

  /** Gives a reference back; the last one ends the context. Source: drivers/iommu/iommufd/main.c iommufd_ctx_put() */
  put(): Promise<void> {
    return this.#file.put();
  }

  /**
   * Destroys all objects, with the file's last reference.
   *
   * @source drivers/iommu/iommufd/main.c iommufd_fops_release()
   */
  async release(): Promise<void> {
    await this.objects.destroyAll();
    this.host.log.warnOn(this.groups.size > 0, 'iommufd: groups are left');
  }
}
