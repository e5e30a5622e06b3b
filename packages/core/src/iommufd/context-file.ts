/** /dev/iommu: each open file is a context. */
import { File, type IoctlCall, type Process } from '@vfio/host';
import { VfioError } from '../errors.js';
import { iommufdIoctl } from './commands.js';
import { IommufdContext } from './context.js';
import type { Iommufd } from './iommufd.js';

/** What an open says of the file. */
export interface IommufdFileOptions {
  readonly flags: number;
  /** Path of the node. */
  readonly label: string;
  /** Who pays for pinned pages, until a user says otherwise. */
  readonly accountMode: 'user' | 'mm';
}

/** An open file of iommufd. Source: drivers/iommu/iommufd/main.c iommufd_fops */
export class IommufdFile extends File {
  readonly context: IommufdContext;
  readonly #iommufd: Iommufd;

  /**
   * @throws ENXIO - the module is going
   * @throws ENOMEM - no memory for it
   */
  constructor(iommufd: Iommufd, { flags, label, accountMode }: IommufdFileOptions) {
    super({ flags, label, seek: 'none' });
    this.#iommufd = iommufd;
    this.context = new IommufdContext(iommufd, this, accountMode);
    if (!iommufd.host.modules.get('iommufd')?.tryGet()) {
      throw new VfioError('ENXIO', 'module iommufd is not loaded', { syscall: 'open' });
    }
  }

  override async ioctl(call: IoctlCall): Promise<number> {
    return await iommufdIoctl(this.context, call);
  }

  override async release(): Promise<void> {
    await this.context.release();
    this.#iommufd.host.modules.get('iommufd')?.put();
  }
}

/**
 * The context of a file, with a reference that is the caller's.
 *
 * @throws EBADFD - another kind of file
 * @source drivers/iommu/iommufd/main.c iommufd_ctx_from_file()
 */
export function contextFromFile(file: File): IommufdContext {
  if (!(file instanceof IommufdFile)) {
    throw new VfioError('EBADFD', `${file.label} is no iommufd`, { syscall: 'iommufd_ctx_from_file' });
  }
  return file.context.get();
}

/**
 * The context behind a descriptor of a process, with a reference that is the caller's.
 *
 * @throws EBADF - not open
 * @throws EBADFD - another kind of file
 * @source drivers/iommu/iommufd/main.c iommufd_ctx_from_fd()
 */
export function contextFromFd(process: Process, fd: number): IommufdContext {
  return contextFromFile(process.files.get(fd));
}
