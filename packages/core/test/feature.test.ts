import { File, IoctlCall, O, Prot } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import {
  allocDevice,
  deviceFeature,
  deviceFeatureDmaLoggingControl,
  deviceFeatureDmaLoggingRange,
  deviceFeatureDmaLoggingReport,
  deviceFeatureMigState,
  Feature,
  type FeatureCall,
  FeatureFlag,
  MigrationFlag,
  type MigrationOps,
  MigState,
  putDevice,
  Request,
  registerGroupDev,
  unregisterGroupDev,
  VfioDevice,
  VfioError,
} from '../src/index.js';
import { bench, benchForEach, closePath, code, type OpenPath, openPath, type TestBench } from './harness.js';

const { GET, SET, PROBE } = FeatureFlag;

let on: TestBench;
benchForEach((made) => {
  on = made;
});

class DataFile extends File {
  released = false;

  constructor() {
    super({ flags: O.RDONLY, label: 'anon_inode:test_mig', seek: 'stream' });
  }

  override release(): void {
    this.released = true;
  }
}

/** A device that migrates and logs as it is told. */
class Migratable extends VfioDevice {
  override migrationFlags = MigrationFlag.STOP_COPY | MigrationFlag.PRE_COPY;
  current: MigState = MigState.RUNNING;
  file: DataFile | undefined;
  fail = false;
  ranges: unknown;
  stopped = 0;

  override migOps: MigrationOps = {
    getState: () => this.current,
    setState: (state) => {
      if (this.fail) throw new VfioError('EIO', 'told to fail');
      this.current = state as MigState;
      this.file = state === MigState.STOP_COPY ? new DataFile() : undefined;
      return this.file;
    },
    getDataSize: () => 60n,
  };

  override logOps = {
    start: (ranges: readonly unknown[]) => {
      this.ranges = ranges;
      return 8192n;
    },
    stop: () => {
      this.stopped++;
    },
    readAndClear: (iova: bigint, _: bigint, bitmap: { set(iova: bigint, length: bigint): void }) => {
      bitmap.set(iova + 4096n, 4096n);
    },
  };
}

class Plain extends VfioDevice {}

/** Runs with an open device. */
async function withDevice<D extends VfioDevice>(
  Type: new (options: undefined) => D,
  run: (device: D, path: OpenPath) => Promise<void>,
  bed: TestBench = on,
): Promise<void> {
  const device = await allocDevice(bed.vfio, Type, await bed.addParent('dev0'), undefined);
  await registerGroupDev(device);
  const path = await openPath(bed, device);
  try {
    await run(device, path);
  } finally {
    await closePath(bed, path);
    await unregisterGroupDev(device);
    await putDevice(device);
  }
}

/** Makes a request; `data` is what follows the header, written in place. */
async function feature(
  fd: number,
  flags: number,
  data: Uint8Array = new Uint8Array(0),
  argsz?: number,
  bed = on,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(deviceFeature.size + data.length);
  bytes.set(deviceFeature.encode({ argsz: argsz ?? bytes.length, flags }, 'little'));
  bytes.set(data, deviceFeature.size);
  try {
    await bed.process.ioctl(fd, Request.DEVICE_FEATURE, bytes);
  } finally {
    data.set(bytes.subarray(deviceFeature.size));
  }
  return data;
}

describe('the head of VFIO_DEVICE_FEATURE', () => {
  it('CORE-139 argsz 7, unknown flag bits, GET with SET without PROBE: EINVAL', async () => {
    await withDevice(Migratable, async (_, { device: fd }) => {
      const data = () => new Uint8Array(8);
      await expect(feature(fd, Feature.MIGRATION | GET, data(), 7)).rejects.toEqual(code('EINVAL'));
      for (let bit = 19; bit < 32; bit++) {
        await expect(feature(fd, (Feature.MIGRATION | GET | (1 << bit)) >>> 0, data())).rejects.toEqual(code('EINVAL'));
      }
      await expect(feature(fd, Feature.MIGRATION | GET | SET, data())).rejects.toEqual(code('EINVAL'));
    });
  });

  it('CORE-140 PROBE needs no data; a wrong direction is EINVAL, an unknown number ENOTTY', async () => {
    await withDevice(Migratable, async (_, { device: fd }) => {
      await feature(fd, Feature.MIGRATION | PROBE);
      await feature(fd, Feature.MIGRATION | PROBE | GET);
      await feature(fd, Feature.MIG_DEVICE_STATE | PROBE | GET | SET);
      await expect(feature(fd, Feature.MIGRATION | PROBE | SET)).rejects.toEqual(code('EINVAL'));
      await expect(feature(fd, 13 | PROBE)).rejects.toEqual(code('ENOTTY'));
    });
  });

  it('CORE-141 neither direction, or too little data: EINVAL', async () => {
    await withDevice(Migratable, async (_, { device: fd }) => {
      await expect(feature(fd, Feature.MIGRATION, new Uint8Array(8))).rejects.toEqual(code('EINVAL'));
      await expect(feature(fd, Feature.MIGRATION | GET, new Uint8Array(7))).rejects.toEqual(code('EINVAL'));
    });
  });

  it('gives other numbers to the driver', async () => {
    class Own extends VfioDevice {
      override deviceFeature(call: FeatureCall): number {
        if (call.feature !== Feature.PCI_VF_TOKEN) throw call.error('ENOTTY', 'none');
        if (call.check('set', 16)) expect([...call.copyIn(2)]).toEqual([7, 8]);
        return 0;
      }
    }
    await withDevice(Own, async (_, { device: fd }) => {
      const token = new Uint8Array(16);
      token.set([7, 8]);
      await feature(fd, Feature.PCI_VF_TOKEN | SET, token);
      await expect(feature(fd, Feature.LOW_POWER_EXIT | SET)).rejects.toEqual(code('ENOTTY'));
    });
  });
});

describe('migration features', () => {
  it('CORE-142 without migOps: ENOTTY before anything else', async () => {
    await withDevice(Plain, async (_, { device: fd }) => {
      for (const number of [Feature.MIGRATION, Feature.MIG_DEVICE_STATE, Feature.MIG_DATA_SIZE]) {
        await expect(feature(fd, number)).rejects.toEqual(code('ENOTTY'));
        await expect(feature(fd, number | PROBE | SET)).rejects.toEqual(code('ENOTTY'));
      }
    });
  });

  it('CORE-143 GET: the state and no descriptor; SET with a file: a close-on-exec descriptor', async () => {
    await withDevice(Migratable, async (device, { device: fd }) => {
      const data = new Uint8Array(8).fill(0x77);
      await feature(fd, Feature.MIG_DEVICE_STATE | GET, data);
      expect(deviceFeatureMigState.decode(data, 'little')).toEqual({ deviceState: MigState.RUNNING, dataFd: -1 });
      const set = deviceFeatureMigState.encode({ deviceState: MigState.STOP_COPY, dataFd: 77 }, 'little');
      await feature(fd, Feature.MIG_DEVICE_STATE | SET, set);
      const { dataFd } = deviceFeatureMigState.decode(set, 'little');
      expect(on.process.files.get(dataFd)).toBe(device.file);
      expect(on.process.files.isCloexec(dataFd)).toBe(true);
      await on.process.close(dataFd);
      expect(device.file?.released).toBe(true);
      const back = deviceFeatureMigState.encode({ deviceState: MigState.STOP, dataFd: 77 }, 'little');
      await feature(fd, Feature.MIG_DEVICE_STATE | SET, back);
      expect(deviceFeatureMigState.decode(back, 'little').dataFd).toBe(-1);
    });
  });

  it('CORE-144 a failing SET writes -1 and returns its errno; an unwritable answer closes the file', async () => {
    await withDevice(Migratable, async (device, { device: fd }) => {
      device.fail = true;
      const set = deviceFeatureMigState.encode({ deviceState: MigState.STOP, dataFd: 77 }, 'little');
      await expect(feature(fd, Feature.MIG_DEVICE_STATE | SET, set)).rejects.toEqual(code('EIO'));
      expect(deviceFeatureMigState.decode(set, 'little').dataFd).toBe(-1);
      device.fail = false;
      const { mm } = on.process;
      const page = mm.mmap({ length: 4096, prot: Prot.READ | Prot.WRITE });
      mm.copyTo(page, deviceFeature.encode({ argsz: 16, flags: Feature.MIG_DEVICE_STATE | SET }, 'little'));
      mm.copyTo(page + 8n, deviceFeatureMigState.encode({ deviceState: MigState.STOP_COPY }, 'little'));
      mm.mprotect(page, 4096, Prot.READ);
      await expect(on.process.ioctl(fd, Request.DEVICE_FEATURE, page)).rejects.toEqual(code('EFAULT'));
      expect(device.file?.released).toBe(true);
      mm.munmap(page, 4096);
    });
  });

  it('closes the file when no descriptor is free', async () => {
    await withDevice(Migratable, async (device, { device: fd }) => {
      on.process.setrlimit('nofile', fd + 1);
      const set = deviceFeatureMigState.encode({ deviceState: MigState.STOP_COPY }, 'little');
      await expect(feature(fd, Feature.MIG_DEVICE_STATE | SET, set)).rejects.toEqual(code('EMFILE'));
      expect(device.file?.released).toBe(true);
    });
  });

  it('CORE-147 PRECOPY_INFOv2 without PRE_COPY: EINVAL; the choice is lost at the last close', async () => {
    await withDevice(Plain, async (_, { device: fd }) => {
      await expect(feature(fd, Feature.MIG_PRECOPY_INFOv2 | SET)).rejects.toEqual(code('EINVAL'));
    });
    await using other = await bench();
    await withDevice(
      Migratable,
      async (device, path) => {
        await feature(path.device, Feature.MIG_PRECOPY_INFOv2 | SET, undefined, undefined, other);
        expect(device.precopyInfoV2).toBe(true);
        const second = await other.getDeviceFd(path.group, 'dev0');
        await other.process.close(second);
        expect(device.precopyInfoV2).toBe(true);
        const again = await other.getDeviceFd(path.group, 'dev0');
        await other.process.close(path.device);
        await other.process.close(again);
        expect(device.precopyInfoV2).toBe(false);
        Object.assign(path, { device: await other.getDeviceFd(path.group, 'dev0') });
      },
      other,
    );
  });
});

describe('DMA logging', () => {
  /** Memory of the process with some bytes in it. */
  function put(bytes: Uint8Array): bigint {
    const { mm } = on.process;
    const at = mm.mmap({ length: 8192, prot: Prot.READ | Prot.WRITE });
    mm.copyTo(at, bytes);
    return at;
  }

  function start(fd: number, ranges: readonly [bigint, bigint][], options: { count?: number; pageSize?: bigint } = {}) {
    const list = new Uint8Array(Math.max(ranges.length, 1) * deviceFeatureDmaLoggingRange.size);
    for (const [i, [iova, length]] of ranges.entries()) {
      list.set(deviceFeatureDmaLoggingRange.encode({ iova, length }, 'little'), i * deviceFeatureDmaLoggingRange.size);
    }
    const { pageSize = 4096n, count = ranges.length } = options;
    const control = deviceFeatureDmaLoggingControl.encode({ pageSize, numRanges: count, ranges: put(list) }, 'little');
    return feature(fd, Feature.DMA_LOGGING_START | SET, control);
  }

  it('CORE-145 START checks count, alignment, wrap and overlap, and tells the page size chosen', async () => {
    await withDevice(Migratable, async (device, { device: fd }) => {
      await expect(start(fd, [])).rejects.toEqual(code('EINVAL'));
      await expect(start(fd, [[0n, 4096n]], { count: 257 })).rejects.toEqual(code('E2BIG'));
      await expect(start(fd, [[1n, 4096n]])).rejects.toEqual(code('EINVAL'));
      await expect(start(fd, [[0n, 4097n]])).rejects.toEqual(code('EINVAL'));
      await expect(start(fd, [[2n ** 64n - 4096n, 4096n]])).rejects.toEqual(code('EOVERFLOW'));
      const overlapping = start(fd, [
        [0x2000n, 0x2000n],
        [0x1000n, 0x2000n],
      ]);
      await expect(overlapping).rejects.toEqual(code('EINVAL'));
      const answer = await start(fd, [
        [0x4000n, 0x1000n],
        [0n, 0x1000n],
      ]);
      expect(deviceFeatureDmaLoggingControl.decode(answer, 'little').pageSize).toBe(8192n);
      expect(device.ranges).toEqual([
        { iova: 0n, length: 0x1000n },
        { iova: 0x4000n, length: 0x1000n },
      ]);
    });
  });

  it('does not begin when there is no memory for the ranges', async () => {
    await withDevice(Migratable, async (device, { device: fd }) => {
      using _arm = on.host.faults.failOn('vfio_ioctl_device_feature_logging_start:ranges');
      await expect(start(fd, [[0n, 4096n]])).rejects.toEqual(code('ENOMEM'));
      expect(device.ranges).toBeUndefined();
      await start(fd, [[0n, 4096n]]);
      expect(device.ranges).toHaveLength(1);
    });
  });

  it('CORE-145 an answer that cannot be written stops logging again', async () => {
    await withDevice(Migratable, async (device, { device: fd }) => {
      const { mm } = on.process;
      const page = mm.mmap({ length: 4096, prot: Prot.READ | Prot.WRITE });
      const range = put(deviceFeatureDmaLoggingRange.encode({ iova: 0n, length: 4096n }, 'little'));
      mm.copyTo(page, deviceFeature.encode({ argsz: 32, flags: Feature.DMA_LOGGING_START | SET }, 'little'));
      mm.copyTo(
        page + 8n,
        deviceFeatureDmaLoggingControl.encode({ pageSize: 4096n, numRanges: 1, ranges: range }, 'little'),
      );
      mm.mprotect(page, 4096, Prot.READ);
      await expect(on.process.ioctl(fd, Request.DEVICE_FEATURE, page)).rejects.toEqual(code('EFAULT'));
      expect(device.stopped).toBe(1);
    });
  });

  it('CORE-146 REPORT: page size 2048 or 6144 EINVAL, wrap EOVERFLOW; bits are only added', async () => {
    await withDevice(Migratable, async (_, { device: fd }) => {
      const bitmap = put(Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0x80));
      const report = (pageSize: bigint, iova = 0n) => {
        const value = { iova, length: 64n * 4096n, pageSize, bitmap };
        return feature(fd, Feature.DMA_LOGGING_REPORT | GET, deviceFeatureDmaLoggingReport.encode(value, 'little'));
      };
      await expect(report(2048n)).rejects.toEqual(code('EINVAL'));
      await expect(report(6144n)).rejects.toEqual(code('EINVAL'));
      await expect(report(4096n, 2n ** 64n - 4096n)).rejects.toEqual(code('EOVERFLOW'));
      await report(4096n);
      expect([...on.process.mm.copyFrom(bitmap, 8)]).toEqual([3, 0, 0, 0, 0, 0, 0, 0x80]);
    });
  });

  it('ends reports with EOPNOTSUPP on a kernel without IOVA bitmaps, after the arguments were checked', async () => {
    await using other = await bench({ iovaBitmap: false });
    await withDevice(
      Migratable,
      async (_, { device: fd }) => {
        const report = (pageSize: bigint) => {
          const value = deviceFeatureDmaLoggingReport.encode(
            { iova: 0n, length: 4096n, pageSize, bitmap: 0n },
            'little',
          );
          return feature(fd, Feature.DMA_LOGGING_REPORT | GET, value, undefined, other);
        };
        await expect(report(2048n)).rejects.toEqual(code('EINVAL'));
        await expect(report(4096n)).rejects.toEqual(code('EOPNOTSUPP'));
      },
      other,
    );
  });

  it('without logOps: ENOTTY', async () => {
    await withDevice(Plain, async (_, { device: fd }) => {
      for (const number of [Feature.DMA_LOGGING_START, Feature.DMA_LOGGING_STOP]) {
        await expect(feature(fd, number | SET)).rejects.toEqual(code('ENOTTY'));
      }
    });
  });
});

it('speaks the byte order of the caller', async () => {
  await withDevice(Migratable, async (_, { group }) => {
    const big = on.host.spawn({ comm: 'big', byteOrder: 'big' });
    const fd = await on.getDeviceFd(group, 'dev0');
    const file = on.process.files.get(fd);
    const address = big.mm.mmap({ length: 4096, prot: Prot.READ | Prot.WRITE });
    big.mm.copyTo(address, deviceFeature.encode({ argsz: 16, flags: Feature.MIGRATION | GET }, 'big'));
    await file.ioctl?.(new IoctlCall(big, Request.DEVICE_FEATURE, address));
    expect([...big.mm.copyFrom(address + 8n, 8)]).toEqual([0, 0, 0, 0, 0, 0, 0, 5]);
    await big.exit(0);
    await on.process.close(fd);
  });
});
