// The DMA logging features: which memory a device wrote to, asked of the device itself.

import type { IovaRange, LogOps, VfioDevice } from './device.js';
import type { FeatureCall } from './feature.js';
import { IovaBitmap } from './iova-bitmap.js';
import {
  deviceFeatureDmaLoggingControl,
  deviceFeatureDmaLoggingRange,
  deviceFeatureDmaLoggingReport,
} from './uapi/vfio.js';

/** Most ranges that a user may log: a page of them. Source: drivers/vfio/vfio_main.c LOG_MAX_RANGES */
const maxRanges = 4096 / deviceFeatureDmaLoggingRange.size;
const u64Limit = 1n << 64n;
/** Smallest page that a report may ask for, in bytes. */
const minReportPage = 4096n;

function opsOf(device: VfioDevice, feature: FeatureCall): LogOps {
  if (!device.logOps) throw feature.error('ENOTTY', 'the device can not log its writes');
  return device.logOps;
}

/** Source: drivers/vfio/vfio_main.c vfio_ioctl_device_feature_logging_start() */
export async function loggingStart(device: VfioDevice, feature: FeatureCall): Promise<number> {
  const ops = opsOf(device, feature);
  if (!feature.check('set', deviceFeatureDmaLoggingControl.size)) return 0;
  const { order } = feature.call;
  const control = deviceFeatureDmaLoggingControl.decode(feature.copyIn(deviceFeatureDmaLoggingControl.size), order);
  if (control.numRanges === 0) throw feature.error('EINVAL', 'no ranges');
  if (control.numRanges > maxRanges) throw feature.error('E2BIG', `${control.numRanges} ranges, ${maxRanges} at most`);
  device.vfio.host.faults.check('vfio_ioctl_device_feature_logging_start:ranges');
  const ranges = readRanges(feature, control.ranges, control.numRanges, control.pageSize);
  control.pageSize = await ops.start(ranges, control.pageSize);
  try {
    feature.copyOut(deviceFeatureDmaLoggingControl.encode(control, order));
  } catch (error) {
    await ops.stop();
    throw error;
  }
  return 0;
}

function readRanges(feature: FeatureCall, address: bigint, count: number, pageSize: bigint): IovaRange[] {
  const { size } = deviceFeatureDmaLoggingRange;
  const mask = BigInt.asUintN(64, pageSize - 1n);
  const ranges: IovaRange[] = [];
  for (let i = 0; i < count; i++) {
    const bytes = feature.call.copyInAt(BigInt.asUintN(64, address + BigInt(i * size)), size);
    const range = deviceFeatureDmaLoggingRange.decode(bytes, feature.call.order);
    if ((range.iova & mask) !== 0n || (range.length & mask) !== 0n) {
      throw feature.error('EINVAL', `range ${i} is no multiple of the page size`);
    }
    const end = range.iova + range.length;
    if (end >= u64Limit) throw feature.error('EOVERFLOW', `range ${i} wraps`);
    if (ranges.some((other) => range.iova < other.iova + other.length && other.iova < end)) {
      throw feature.error('EINVAL', `range ${i} overlaps another`);
    }
    ranges.push(range);
  }
  return ranges.sort((a, b) => (a.iova < b.iova ? -1 : 1));
}

/** Source: drivers/vfio/vfio_main.c vfio_ioctl_device_feature_logging_stop() */
export async function loggingStop(device: VfioDevice, feature: FeatureCall): Promise<number> {
  const ops = opsOf(device, feature);
  if (!feature.check('set', 0)) return 0;
  await ops.stop();
  return 0;
}

/** Source: drivers/vfio/vfio_main.c vfio_ioctl_device_feature_logging_report() */
export async function loggingReport(device: VfioDevice, feature: FeatureCall): Promise<number> {
  const ops = opsOf(device, feature);
  if (!feature.check('get', deviceFeatureDmaLoggingReport.size)) return 0;
  const bytes = feature.copyIn(deviceFeatureDmaLoggingReport.size);
  const report = deviceFeatureDmaLoggingReport.decode(bytes, feature.call.order);
  const { iova, length, pageSize } = report;
  if (pageSize < minReportPage || (pageSize & (pageSize - 1n)) !== 0n) {
    throw feature.error('EINVAL', `a page of ${pageSize} bytes`);
  }
  if (iova + length >= u64Limit) throw feature.error('EOVERFLOW', 'the range wraps');
  if (!device.vfio.options.iovaBitmap) throw feature.error('EOPNOTSUPP', 'the kernel has no IOVA bitmaps');
  const bitmap = new IovaBitmap(feature.call, { iova, length, pageSize, address: report.bitmap });
  await ops.readAndClear(iova, length, bitmap);
  bitmap.flush();
  return 0;
}
