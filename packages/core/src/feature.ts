// VFIO_DEVICE_FEATURE: one request for everything that came after the first interface. The core answers migration and DMA
// logging; other numbers go to the driver.

import type { IoctlCall } from '@vfio/host';
import type { VfioDevice } from './device.js';
import { VfioError } from './errors.js';
import { loggingReport, loggingStart, loggingStop } from './feature-logging.js';
import { migrationDataSize, migrationDeviceState, migrationFlags, precopyInfoV2 } from './feature-migration.js';
import { deviceFeature, Feature, FeatureFlag } from './uapi/vfio.js';
import { copyArgsz } from './user-args.js';

/** Directions in which a feature can be used. */
export type FeatureOps = 'get' | 'set' | 'get-set';

const opsMask: Readonly<Record<FeatureOps, number>> = {
  get: FeatureFlag.GET,
  set: FeatureFlag.SET,
  'get-set': FeatureFlag.GET | FeatureFlag.SET,
};

/** One VFIO_DEVICE_FEATURE request, its header read and checked. */
export class FeatureCall {
  readonly call: IoctlCall;
  /** Feature number. */
  readonly feature: number;
  readonly flags: number;
  /** Bytes that the caller provides behind the header. */
  readonly room: number;

  constructor(call: IoctlCall, flags: number, argsz: number) {
    this.call = call;
    this.feature = flags & FeatureFlag.MASK;
    this.flags = flags;
    this.room = argsz - deviceFeature.size;
  }

  /** The caller asks for data. */
  get isGet(): boolean {
    return (this.flags & FeatureFlag.GET) !== 0;
  }

  /**
   * What every feature checks first.
   *
   * @param ops - the directions it has
   * @param size - bytes of its data
   * @returns true: go on; false: the caller only probes, and the answer is 0
   * @throws EINVAL - a direction it has not, none at all, or too little room
   * @source include/linux/vfio.h vfio_check_feature()
   */
  check(ops: FeatureOps, size: number): boolean {
    const wanted = this.flags & (FeatureFlag.GET | FeatureFlag.SET);
    if (wanted & ~opsMask[ops]) throw this.error('EINVAL', `feature ${this.feature} is ${ops} only`);
    if (this.flags & FeatureFlag.PROBE) return false;
    if (!wanted) throw this.error('EINVAL', 'neither GET nor SET');
    if (this.room < size) throw this.error('EINVAL', `${this.room} bytes of data, ${size} are needed`);
    return true;
  }

  /**
   * Reads the feature's data.
   *
   * @throws EFAULT - not readable
   */
  copyIn(length: number, offset = 0): Uint8Array {
    return this.call.copyIn(length, deviceFeature.size + offset);
  }

  /**
   * Writes the feature's data.
   *
   * @throws EFAULT - not writable
   */
  copyOut(bytes: Uint8Array): void {
    this.call.copyOut(bytes, deviceFeature.size);
  }

  /** An error of this request. */
  error(code: 'EINVAL' | 'ENOTTY' | 'E2BIG' | 'EOVERFLOW' | 'EOPNOTSUPP', reason: string): VfioError {
    return new VfioError(code, reason, { syscall: 'VFIO_DEVICE_FEATURE' });
  }
}

/**
 * @throws EFAULT, EINVAL - the header is not readable, too small or contradicts itself
 * @throws ENOTTY - the device has no such feature
 * @source drivers/vfio/vfio_main.c vfio_ioctl_device_feature()
 */
export async function ioctlDeviceFeature(device: VfioDevice, call: IoctlCall): Promise<number> {
  const header = deviceFeature.decode(copyArgsz(call, deviceFeature.size), call.order);
  const { GET, SET, PROBE, MASK } = FeatureFlag;
  const feature = new FeatureCall(call, header.flags, header.argsz);
  if ((header.flags & ~(MASK | GET | SET | PROBE)) !== 0) throw feature.error('EINVAL', 'unknown flag');
  if (!(header.flags & PROBE) && header.flags & GET && header.flags & SET) {
    throw feature.error('EINVAL', 'GET and SET exclude each other');
  }
  switch (feature.feature) {
    case Feature.MIGRATION:
      return migrationFlags(device, feature);
    case Feature.MIG_DEVICE_STATE:
      return await migrationDeviceState(device, feature);
    case Feature.MIG_DATA_SIZE:
      return await migrationDataSize(device, feature);
    case Feature.MIG_PRECOPY_INFOv2:
      return precopyInfoV2(device, feature);
    case Feature.DMA_LOGGING_START:
      return await loggingStart(device, feature);
    case Feature.DMA_LOGGING_STOP:
      return await loggingStop(device, feature);
    case Feature.DMA_LOGGING_REPORT:
      return await loggingReport(device, feature);
    default:
      if (!device.deviceFeature) throw feature.error('ENOTTY', `the device has no feature ${feature.feature}`);
      return await device.deviceFeature(feature);
  }
}
