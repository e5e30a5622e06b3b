/* DMA logging: the checks of its ranges, and a log that is started, read and stopped. */
import type { Device } from '@vfio/client';
import {
  deviceFeatureDmaLoggingControl,
  deviceFeatureDmaLoggingRange,
  deviceFeatureDmaLoggingReport,
  Feature,
  FeatureFlag,
  Request,
} from '@vfio/core';
import type { ErrnoCode } from '@vfio/host';
import { logs } from './features.js';
import { ends, keeps } from './promise.js';
import type { CaseSpec, Subject } from './subject.js';

const PAGE = 4096n;
const U64_MAX = 2n ** 64n - 1n;
const { GET, SET } = FeatureFlag;
/** Where logged ranges begin. */
const IOVA = 0x10_0000n;
const LENGTH = 64n * PAGE;
/** Ranges that fit a page of the kernel's. */
const MOST_RANGES = 256;

interface Range {
  readonly iova: bigint;
  readonly length: bigint;
}

const whole: readonly Range[] = [{ iova: IOVA, length: LENGTH }];

/** Memory with a list of ranges. */
function listOf(subject: Subject, ranges: readonly Range[]) {
  return subject.memory(
    Buffer.concat(ranges.map((range) => deviceFeatureDmaLoggingRange.encode(range, subject.order))),
  );
}

function startBytes(subject: Subject, ranges: bigint, numRanges: number, pageSize = PAGE): Uint8Array {
  const control = deviceFeatureDmaLoggingControl.encode({ pageSize, numRanges, ranges }, subject.order);
  return subject.feature(SET | Feature.DMA_LOGGING_START, control);
}

function request(subject: Subject, device: Device, argument: Uint8Array | bigint): () => Promise<number> {
  return () => subject.ioctl(device, Request.DEVICE_FEATURE, argument);
}

function start(
  subject: Subject,
  device: Device,
  ranges: readonly Range[],
  count = ranges.length,
): () => Promise<number> {
  return async () => {
    using list = listOf(subject, ranges);
    return await subject.ioctl(device, Request.DEVICE_FEATURE, startBytes(subject, list.address, count));
  };
}

function stop(subject: Subject, device: Device): () => Promise<number> {
  return request(subject, device, subject.feature(SET | Feature.DMA_LOGGING_STOP));
}

function report(
  subject: Subject,
  device: Device,
  asked: { readonly iova?: bigint; readonly length?: bigint; readonly pageSize?: bigint; readonly bitmap: bigint },
): () => Promise<number> {
  const value = { iova: IOVA, length: LENGTH, pageSize: PAGE, ...asked };
  const data = deviceFeatureDmaLoggingReport.encode(value, subject.order);
  return request(subject, device, subject.feature(GET | Feature.DMA_LOGGING_REPORT, data));
}

/** DMA logging. */
export const loggingCases: readonly CaseSpec[] = [
  {
    name: 'dma logging: it is started, read and stopped, again and again',
    when: logs,
    async run(subject) {
      await using device = await subject.open();
      // without IOVA bitmaps the kernel can log, and not report
      const reported = subject.target.machine.vfio.options.iovaBitmap ? 0 : 'EOPNOTSUPP';
      for (let round = 0; round < 2; round++) {
        await ends(start(subject, device, whole), 0, 'DMA_LOGGING_START of one range');
        using bitmap = subject.memory(Uint8Array.of(0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88));
        await ends(report(subject, device, { bitmap: bitmap.address }), reported, 'DMA_LOGGING_REPORT of that range');
        const lost = bitmap.bytes(8).findIndex((byte, i) => (byte & ((i + 1) * 0x11)) !== (i + 1) * 0x11);
        keeps(lost < 0, 'DMA_LOGGING_REPORT adds bits to the bitmap and clears none', `byte ${lost} lost some`);
        await ends(stop(subject, device), 0, 'DMA_LOGGING_STOP');
      }
    },
  },
  {
    name: 'dma logging: START refuses ranges that are none',
    when: logs,
    async run(subject) {
      await using device = await subject.open();
      const many = Array.from({ length: MOST_RANGES + 1 }, (_, i) => ({ iova: BigInt(2 * i) * PAGE, length: PAGE }));
      const cases: readonly (readonly [string, ErrnoCode, readonly Range[]])[] = [
        ['no range', 'EINVAL', []],
        ['more than 256 ranges', 'E2BIG', many],
        ['an iova that is not aligned', 'EINVAL', [{ iova: IOVA + 1n, length: PAGE }]],
        ['a length that is not aligned', 'EINVAL', [{ iova: IOVA, length: PAGE + 1n }]],
        ['a range that wraps', 'EOVERFLOW', [{ iova: U64_MAX - PAGE + 1n, length: 2n * PAGE }]],
        [
          'overlapping ranges',
          'EINVAL',
          [
            { iova: IOVA, length: 2n * PAGE },
            { iova: IOVA + PAGE, length: PAGE },
          ],
        ],
        ['the same range twice', 'EINVAL', [...whole, ...whole]],
      ];
      for (const [what, code, ranges] of cases) {
        await ends(start(subject, device, ranges), code, `DMA_LOGGING_START of ${what}`);
      }
      const nowhere = request(subject, device, startBytes(subject, 0n, 1));
      await ends(nowhere, 'EFAULT', 'DMA_LOGGING_START of ranges that can not be read');
      await ends(start(subject, device, whole), 0, 'DMA_LOGGING_START after refused ones');
      await ends(stop(subject, device), 0, 'DMA_LOGGING_STOP');
    },
  },
  {
    name: 'dma logging: REPORT refuses pages and ranges that are none',
    when: logs,
    async run(subject) {
      await using device = await subject.open();
      await ends(start(subject, device, whole), 0, 'DMA_LOGGING_START of one range');
      using memory = subject.memory(new Uint8Array(64));
      const bitmap = memory.address;
      for (const pageSize of [0n, 1n, 2048n, 6144n]) {
        const promised = `DMA_LOGGING_REPORT with pages of ${pageSize} bytes`;
        await ends(report(subject, device, { bitmap, pageSize }), 'EINVAL', promised);
      }
      const wrapping = report(subject, device, { bitmap, iova: U64_MAX - PAGE + 1n, length: 2n * PAGE });
      await ends(wrapping, 'EOVERFLOW', 'DMA_LOGGING_REPORT of a range that wraps');
      await ends(stop(subject, device), 0, 'DMA_LOGGING_STOP');
    },
  },
  {
    name: 'dma logging: START whose answer can not be written is EFAULT, and stops',
    when: logs,
    async run(subject) {
      await using device = await subject.open();
      using list = listOf(subject, whole);
      using memory = subject.readOnly(startBytes(subject, list.address, 1));
      await ends(
        request(subject, device, memory.address),
        'EFAULT',
        'DMA_LOGGING_START whose answer can not be written',
      );
      await ends(start(subject, device, whole), 0, 'DMA_LOGGING_START after one that could not answer');
      await ends(stop(subject, device), 0, 'DMA_LOGGING_STOP');
    },
  },
  {
    name: 'dma logging: it ends with the last close',
    when: logs,
    async run(subject) {
      for (let round = 0; round < 2; round++) {
        await using device = await subject.open();
        await ends(start(subject, device, whole), 0, 'DMA_LOGGING_START of a device that was just opened');
      }
    },
  },
];
