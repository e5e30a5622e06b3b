// What only the file of a device's own node can do: bind to an iommufd, attach to its address spaces, detach.

import { type IoctlCall, Undo } from '@vfio/host';
import type { Deferred } from './backend.js';
import type { VfioDevice } from './device.js';
import { dfClose, dfOpen, runDeferred, setOf } from './device-open.js';
import type { DeviceUser } from './device-user.js';
import { VfioError } from './errors.js';
import type { IommufdContext } from './iommufd/context.js';
import { contextFromFd } from './iommufd/context-file.js';
import { IommufdBackend } from './iommufd-backend.js';
import { putKvm, takeKvm } from './kvm.js';
import { recordOf } from './references.js';
import {
  DeviceAttachFlag,
  DeviceBindFlag,
  type DeviceBindIommufd,
  DeviceDetachFlag,
  deviceAttachIommufdPt,
  deviceBindIommufd,
  deviceDetachIommufdPt,
} from './uapi/vfio.js';
import { copyArgsz, copyStruct } from './user-args.js';

const uuidLength = 16;

function invalid(syscall: string, reason: string): VfioError {
  return new VfioError('EINVAL', reason, { syscall });
}

/**
 * VFIO_DEVICE_BIND_IOMMUFD: opens the device on an iommufd. When it fails, all is as before.
 *
 * @throws EFAULT, E2BIG - the arguments are not readable, the answer is not writable, or something unknown is set
 * @throws EINVAL - the arguments; a file from a group; bound already, or by somebody else
 * @throws EBUSY - the group is open
 * @throws EBADF, EBADFD - no descriptor, or not one of an iommufd
 * @throws whatever `matchTokenUuid`, `bindIommufd` and `openDevice` throw
 * @source drivers/vfio/device_cdev.c vfio_df_ioctl_bind_iommufd()
 */
export async function ioctlBindIommufd(user: DeviceUser, call: IoctlCall): Promise<number> {
  const syscall = 'VFIO_DEVICE_BIND_IOMMUFD';
  const minimum = deviceBindIommufd.endOf('outDevid');
  const userSize = call.u32();
  if (userSize < minimum) throw invalid(syscall, `argsz is ${userSize}, ${minimum} are needed`);
  const bind = deviceBindIommufd.decode(copyStruct(call, deviceBindIommufd.size, userSize), call.order);
  if (bind.iommufd < 0) throw invalid(syscall, `descriptor ${bind.iommufd}`);
  if ((bind.flags & ~DeviceBindFlag.TOKEN) !== 0) throw invalid(syscall, `flags 0x${bind.flags.toString(16)}`);
  if (user.group) throw invalid(syscall, 'the device was opened through its group');

  const { group } = user.device;
  await group?.block();
  const deferred: Deferred = [];
  try {
    await bindLocked(user, bind, call, deferred);
  } catch (error) {
    await group?.unblock();
    throw error;
  } finally {
    if (deferred.length > 0) await runDeferred(deferred);
  }
  return 0;
}

async function bindLocked(
  user: DeviceUser,
  bind: DeviceBindIommufd,
  call: IoctlCall,
  deferred: Deferred,
): Promise<void> {
  const { device } = user;
  using _set = await setOf(device).lock.lock();
  if (user.accessGranted) throw invalid('VFIO_DEVICE_BIND_IOMMUFD', 'bound already');
  const checked = checkToken(device, bind, call);
  if (checked !== undefined) await checked;
  const context = contextFromFd(call.process, bind.iommufd);
  try {
    await openBound(user, context, call, deferred);
  } catch (error) {
    deferred.push(() => context.put());
    throw error;
  }
}

async function openBound(
  user: DeviceUser,
  context: IommufdContext,
  call: IoctlCall,
  deferred: Deferred,
): Promise<void> {
  const { device } = user;
  // only a group shows that its users belong together.
  // Differs: somebody else's virtual machine is left alone; the kernel takes it away here
  if (device.openCount > 0) throw invalid('VFIO_DEVICE_BIND_IOMMUFD', 'somebody else has the device open');
  takeKvm(device, user.kvm);
  try {
    let devid = 0;
    const use = async () => {
      const backend = await IommufdBackend.bind(device, context);
      devid = backend.id;
      return backend;
    };
    await dfOpen(device, use, deferred);
    try {
      const answer = deviceBindIommufd.encode({ outDevid: devid }, call.order);
      const at = deviceBindIommufd.offsetOf('outDevid');
      call.copyOut(answer.subarray(at, at + 4), at);
    } catch (error) {
      await dfClose(device, deferred);
      throw error;
    }
  } catch (error) {
    putKvm(device);
    throw error;
  }
  user.iommufd = context;
  recordOf(device).cdevOpened = true;
  user.accessGranted = true;
}

/** Source: drivers/vfio/device_cdev.c vfio_df_check_token() */
function checkToken(device: VfioDevice, bind: DeviceBindIommufd, call: IoctlCall): void | Promise<void> {
  const given = (bind.flags & DeviceBindFlag.TOKEN) !== 0;
  if (!device.matchTokenUuid) {
    if (given) throw invalid('VFIO_DEVICE_BIND_IOMMUFD', 'the device knows no tokens');
    return undefined;
  }
  return device.matchTokenUuid(given ? call.copyInAt(bind.tokenUuidPtr, uuidLength) : undefined);
}

/**
 * The file goes: closes the device, if it was bound.
 *
 * @throws whatever the driver throws, a bug of it; everything is given back all the same
 * @source drivers/vfio/device_cdev.c vfio_df_unbind_iommufd()
 */
export async function unbindIommufd(user: DeviceUser): Promise<void> {
  if (!user.accessGranted) return;
  const { device, iommufd } = user;
  const deferred: Deferred = [];
  // from the last one on, when the set is unlocked
  await using rest = new Undo();
  rest.add(() => device.group?.unblock());
  rest.add(() => iommufd?.put());
  rest.add(() => runDeferred(deferred));
  using _set = await setOf(device).lock.lock();
  try {
    await dfClose(device, deferred);
  } finally {
    recordOf(device).cdevOpened = false;
    putKvm(device);
  }
}

/**
 * VFIO_DEVICE_ATTACH_IOMMUFD_PT.
 *
 * @throws EFAULT - the arguments are not readable, or the answer is not writable; then nothing is attached
 * @throws EINVAL - the arguments
 * @throws EOPNOTSUPP - the driver knows no PASIDs
 * @throws whatever `attachIoas` and `pasidAttachIoas` throw
 * @source drivers/vfio/device_cdev.c vfio_df_ioctl_attach_pt()
 */
export async function ioctlAttachPt({ device }: DeviceUser, call: IoctlCall): Promise<number> {
  const syscall = 'VFIO_DEVICE_ATTACH_IOMMUFD_PT';
  const minimum = deviceAttachIommufdPt.endOf('ptId');
  const { argsz, flags, ptId } = deviceAttachIommufdPt.decode(copyArgsz(call, minimum), call.order);
  if ((flags & ~DeviceAttachFlag.PASID) !== 0) throw invalid(syscall, `flags 0x${flags.toString(16)}`);
  const byPasid = (flags & DeviceAttachFlag.PASID) !== 0;
  if (byPasid && !device.pasidAttachIoas) throw noPasids(device, syscall);
  const pasid = byPasid ? pasidOf(call, syscall, argsz, minimum) : undefined;

  using _set = await setOf(device).lock.lock();
  const id = await (pasid === undefined ? device.attachIoas?.(ptId) : device.pasidAttachIoas?.(pasid, ptId));
  try {
    const answer = deviceAttachIommufdPt.encode({ ptId: id ?? ptId }, call.order);
    const at = deviceAttachIommufdPt.offsetOf('ptId');
    call.copyOut(answer.subarray(at, at + 4), at);
  } catch (error) {
    // Differs: what was attached is detached; the kernel detaches the device itself also for a PASID
    await (pasid === undefined ? device.detachIoas?.() : device.pasidDetachIoas?.(pasid));
    throw error;
  }
  return 0;
}

/**
 * VFIO_DEVICE_DETACH_IOMMUFD_PT; succeeds also when nothing is attached.
 *
 * @throws EFAULT, EINVAL - the arguments
 * @throws EOPNOTSUPP - the driver knows no PASIDs
 * @source drivers/vfio/device_cdev.c vfio_df_ioctl_detach_pt()
 */
export async function ioctlDetachPt({ device }: DeviceUser, call: IoctlCall): Promise<number> {
  const syscall = 'VFIO_DEVICE_DETACH_IOMMUFD_PT';
  const minimum = deviceDetachIommufdPt.endOf('flags');
  const { argsz, flags } = deviceDetachIommufdPt.decode(copyArgsz(call, minimum), call.order);
  if ((flags & ~DeviceDetachFlag.PASID) !== 0) throw invalid(syscall, `flags 0x${flags.toString(16)}`);
  const byPasid = (flags & DeviceDetachFlag.PASID) !== 0;
  if (byPasid && !device.pasidDetachIoas) throw noPasids(device, syscall);
  const pasid = byPasid ? pasidOf(call, syscall, argsz, minimum) : undefined;

  using _set = await setOf(device).lock.lock();
  await (pasid === undefined ? device.detachIoas?.() : device.pasidDetachIoas?.(pasid));
  return 0;
}

function noPasids(device: VfioDevice, syscall: string): VfioError {
  return new VfioError('EOPNOTSUPP', 'the driver knows no PASIDs', { syscall, subject: device.name });
}

/** The PASID, which both structures have as their last field, behind what every caller has. */
function pasidOf(call: IoctlCall, syscall: string, argsz: number, at: number): number {
  if (argsz < at + 4) throw invalid(syscall, `argsz is ${argsz}, ${at + 4} are needed`);
  const bytes = call.copyIn(4, at);
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, call.order === 'little');
}
