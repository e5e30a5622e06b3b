// The migration features: what a device can do, its state, the size of its data, the second form of pre-copy information.

import type { File } from '@vfio/host';
import type { MigrationOps, VfioDevice } from './device.js';
import type { FeatureCall } from './feature.js';
import { deviceFeatureMigDataSize, deviceFeatureMigration, deviceFeatureMigState, MigrationFlag } from './uapi/vfio.js';

function opsOf(device: VfioDevice, feature: FeatureCall): MigrationOps {
  if (!device.migOps) throw feature.error('ENOTTY', 'the device can not migrate');
  return device.migOps;
}

/** Source: drivers/vfio/vfio_main.c vfio_ioctl_device_feature_migration() */
export function migrationFlags(device: VfioDevice, feature: FeatureCall): number {
  opsOf(device, feature);
  if (!feature.check('get', deviceFeatureMigration.size)) return 0;
  feature.copyOut(deviceFeatureMigration.encode({ flags: BigInt(device.migrationFlags) }, feature.call.order));
  return 0;
}

/** Source: drivers/vfio/vfio_main.c vfio_ioctl_device_feature_migration_data_size() */
export async function migrationDataSize(device: VfioDevice, feature: FeatureCall): Promise<number> {
  const ops = opsOf(device, feature);
  if (!feature.check('get', deviceFeatureMigDataSize.size)) return 0;
  const stopCopyLength = await ops.getDataSize();
  feature.copyOut(deviceFeatureMigDataSize.encode({ stopCopyLength }, feature.call.order));
  return 0;
}

/** Source: drivers/vfio/vfio_main.c vfio_ioctl_device_feature_migration_precopy_info_v2() */
export function precopyInfoV2(device: VfioDevice, feature: FeatureCall): number {
  if (!(device.migrationFlags & MigrationFlag.PRE_COPY)) throw feature.error('EINVAL', 'the device has no pre-copy');
  if (!feature.check('set', 0)) return 0;
  device.precopyInfoV2 = true;
  return 0;
}

/**
 * Reads the state, or moves to another one. A move that makes a data file gives the caller a close-on-exec descriptor of
 * it; one that fails still writes -1 for the descriptor, and then its errno counts.
 *
 * @source drivers/vfio/vfio_main.c vfio_ioctl_device_feature_mig_device_state()
 */
export async function migrationDeviceState(device: VfioDevice, feature: FeatureCall): Promise<number> {
  const ops = opsOf(device, feature);
  if (!feature.check('get-set', deviceFeatureMigState.size)) return 0;
  const { order } = feature.call;
  const value = deviceFeatureMigState.decode(feature.copyIn(deviceFeatureMigState.size), order);
  let failure: { readonly error: unknown } | undefined;
  let file: File | undefined;
  try {
    if (feature.isGet) value.deviceState = await ops.getState();
    else file = await ops.setState(value.deviceState);
  } catch (error) {
    if (feature.isGet) throw error;
    failure = { error };
  }
  if (file) return await returnFile(feature, file, value.deviceState);
  value.dataFd = -1;
  feature.copyOut(deviceFeatureMigState.encode(value, order));
  if (failure) throw failure.error;
  return 0;
}

/** Gives the file to the caller, or closes it. Source: drivers/vfio/vfio_main.c vfio_ioct_mig_return_fd() */
async function returnFile(feature: FeatureCall, file: File, deviceState: number): Promise<number> {
  const { files } = feature.call.process;
  try {
    const dataFd = files.reserve();
    try {
      feature.copyOut(deviceFeatureMigState.encode({ deviceState, dataFd }, feature.call.order));
    } catch (error) {
      files.unreserve(dataFd);
      throw error;
    }
    files.install(dataFd, file, { cloexec: true });
    return 0;
  } catch (error) {
    await file.put();
    throw error;
  }
}
