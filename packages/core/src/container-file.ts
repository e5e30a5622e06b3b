// /dev/vfio/vfio: each open is a new, empty container.

import { File, type IoctlCall } from '@vfio/host';
import { Container } from './container.js';
import { Request } from './uapi/vfio.js';
import type { Vfio } from './vfio.js';

/** Version of the container's interface; it never changed. */
const apiVersion = 0;

/** An open container file. The container itself lives on while groups are attached. */
export class ContainerFile extends File {
  readonly container: Container;
  readonly #unpin: () => void;

  constructor(vfio: Vfio, flags: number) {
    super({ flags, label: '/dev/vfio/vfio', seek: 'none' });
    vfio.host.faults.check('vfio_fops_open:memory');
    this.container = new Container(vfio);
    this.#unpin = vfio.pinModule();
  }

  override async ioctl(call: IoctlCall): Promise<number> {
    switch (call.request) {
      case Request.GET_API_VERSION:
        return apiVersion;
      case Request.CHECK_EXTENSION:
        return await this.container.checkExtension(numberOf(call.arg));
      case Request.SET_IOMMU:
        await this.container.setIommu(numberOf(call.arg), call.process);
        return 0;
      default:
        return await this.container.ioctl(call);
    }
  }

  override release(): void {
    this.#unpin();
  }
}

/** The argument of a request that takes a number. One beyond 2^53 is as unknown as any other: no extension is that big. */
function numberOf(argument: bigint): number {
  return Number(argument);
}
