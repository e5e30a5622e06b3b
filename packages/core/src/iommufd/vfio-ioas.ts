/** The IOAS that VFIO's requests work on: which one it is, and the mode of a context that has none on purpose. */
import { VfioError } from '../errors.js';
import { IommuVfioIoasOp, type iommuVfioIoas } from '../uapi/iommufd.js';
import type { Command } from './command.js';
import type { IommufdContext } from './context.js';
import { Ioas } from './ioas.js';
import type { HeldObject } from './objects.js';

/**
 * The compat IOAS, for the duration of a call.
 *
 * @throws ENODEV - there is none
 * @source drivers/iommu/iommufd/vfio_compat.c get_compat_ioas()
 */
export function holdCompatIoas({ objects, vfioIoas }: IommufdContext): HeldObject<Ioas> {
  if (!vfioIoas || !objects.lock(vfioIoas)) {
    throw new VfioError('ENODEV', 'the context has no IOAS for VFIO', { syscall: 'iommufd' });
  }
  return { object: vfioIoas, [Symbol.dispose]: () => objects.put(vfioIoas) };
}

/**
 * The id of the compat IOAS, to be used where an IOAS is asked for.
 *
 * @throws ENODEV - there is none
 * @source drivers/iommu/iommufd/vfio_compat.c iommufd_vfio_compat_ioas_get_id()
 */
export function vfioCompatIoasGetId(context: IommufdContext): number {
  using ioas = holdCompatIoas(context);
  return ioas.object.id;
}

/**
 * Sees to it that there is a compat IOAS; one that a user has set already stays. It goes with the context, or when a user
 * destroys it.
 *
 * @throws EINVAL - the context is in no-IOMMU mode
 * @throws ENOMEM, ENOSPC - no memory, no id
 * @source drivers/iommu/iommufd/vfio_compat.c iommufd_vfio_compat_ioas_create()
 */
export async function vfioCompatIoasCreate(context: IommufdContext): Promise<void> {
  const { objects } = context;
  const ioas = new Ioas(context);
  if (context.noIommuMode || context.vfioIoas) {
    await objects.abortAndDestroy(ioas);
    if (!context.noIommuMode) return;
    throw new VfioError('EINVAL', 'the context is in no-IOMMU mode', { syscall: 'iommufd' });
  }
  context.vfioIoas = ioas;
  objects.finalize(ioas);
}

/**
 * A device without an IOMMU comes: from now on VFIO's requests offer the no-IOMMU type only.
 *
 * @throws EINVAL - there is a compat IOAS
 * @source drivers/iommu/iommufd/vfio_compat.c iommufd_vfio_compat_set_no_iommu()
 */
export function vfioCompatSetNoIommu(context: IommufdContext): void {
  if (context.vfioIoas) throw new VfioError('EINVAL', 'the context has an IOAS for VFIO', { syscall: 'iommufd' });
  context.noIommuMode = true;
}

/**
 * IOMMU_VFIO_IOAS: gets, sets or clears the compat IOAS.
 *
 * @throws EOPNOTSUPP - the reserved field is not 0, or no such operation
 * @throws ENODEV - GET without one
 * @throws ENOENT - SET of no such IOAS
 * @throws EFAULT - the answer is not writable
 * @source drivers/iommu/iommufd/vfio_compat.c iommufd_vfio_ioas()
 */
export function vfioIoas({ context, args, respond }: Command<typeof iommuVfioIoas.fields>): void {
  const refuse = (reason: string) => new VfioError('EOPNOTSUPP', reason, { syscall: 'IOMMU_VFIO_IOAS' });
  if (args.reserved !== 0) throw refuse(`reserved is ${args.reserved}`);
  switch (args.op) {
    case IommuVfioIoasOp.GET:
      respond({ ...args, ioasId: vfioCompatIoasGetId(context) });
      return;
    case IommuVfioIoasOp.SET: {
      using ioas = context.objects.hold(args.ioasId, Ioas);
      context.vfioIoas = ioas.object;
      return;
    }
    case IommuVfioIoasOp.CLEAR:
      context.vfioIoas = undefined;
      return;
    default:
      throw refuse(`no operation ${args.op}`);
  }
}
