import {
  type IoctlCall,
  type Mapping,
  type MmapRequest,
  PAGE_SIZE,
  Prot,
  SegmentationFault,
  type UserBuffer,
} from '@vfio/host';
import { describe, expect, it } from 'vitest';
import {
  allocDevice,
  type InfoCap,
  putDevice,
  type RegionInfo,
  Request,
  regionInfo,
  registerGroupDev,
  unregisterGroupDev,
  VfioDevice,
  VfioError,
} from '../src/index.js';
import { benchForEach, closePath, code, type OpenPath, openPath, register, type TestBench } from './harness.js';

let on: TestBench;
benchForEach((made) => {
  on = made;
});

/** Runs with an open device of a class. */
async function withDevice<D extends VfioDevice>(
  Type: new (options: undefined) => D,
  run: (device: D, path: OpenPath) => Promise<void>,
): Promise<void> {
  const device = await allocDevice(on.vfio, Type, await on.addParent('dev0'), undefined);
  await registerGroupDev(device);
  const path = await openPath(on, device);
  try {
    await run(device, path);
  } finally {
    await closePath(on, path);
    await unregisterGroupDev(device);
    await putDevice(device);
  }
}

class Bare extends VfioDevice {}

describe('a device without operations', () => {
  it('CORE-118, CORE-123 and CORE-198: ioctl, region info, read, write and mmap are EINVAL', async () => {
    await withDevice(Bare, async (_, { device: fd }) => {
      const { process } = on;
      await expect(process.ioctl(fd, 0x3bff)).rejects.toEqual(code('EINVAL'));
      const region = regionInfo.encode({ argsz: regionInfo.size }, 'little');
      await expect(process.ioctl(fd, Request.DEVICE_GET_REGION_INFO, region)).rejects.toEqual(code('EINVAL'));
      expect(() => process.pread(fd, new Uint8Array(1), 0)).toThrow(code('EINVAL'));
      expect(() => process.pwrite(fd, new Uint8Array(1), 0)).toThrow(code('EINVAL'));
      const mapping = process.mmap(fd, { offset: 0, length: PAGE_SIZE, prot: Prot.READ, shared: true });
      await expect(mapping).rejects.toEqual(code('EINVAL'));
    });
  });
});

describe('requests', () => {
  it('CORE-123 GET_REGION_INFO: argsz 31 EINVAL, unknown index as the driver says', async () => {
    await using one = await register(on, 'dev0');
    const path = await openPath(on, one.device);
    const ask = (argsz: number, index: number) => {
      const bytes = regionInfo.encode({ argsz, index }, 'little');
      return on.process
        .ioctl(path.device, Request.DEVICE_GET_REGION_INFO, bytes)
        .then(() => regionInfo.decode(bytes, 'little'));
    };
    await expect(ask(31, 0)).rejects.toEqual(code('EINVAL'));
    await expect(ask(32, 1)).rejects.toEqual(code('EINVAL'));
    expect(await ask(32, 0)).toEqual(expect.objectContaining({ flags: 3, size: 16n }));
    await closePath(on, path);
  });

  it('writes a capability chain when there is room for it', async () => {
    class Capable extends VfioDevice {
      override getRegionInfoCaps(info: RegionInfo, caps: InfoCap): void {
        info.size = 4096n;
        caps.add(16, 2, 1);
      }
    }
    await withDevice(Capable, async (_, { device: fd }) => {
      const short = regionInfo.encode({ argsz: 32 }, 'little');
      await on.process.ioctl(fd, Request.DEVICE_GET_REGION_INFO, short);
      expect(regionInfo.decode(short, 'little')).toEqual(
        expect.objectContaining({ argsz: 48, flags: 8, capOffset: 0 }),
      );
      const long = new Uint8Array(48);
      long.set(regionInfo.encode({ argsz: 48 }, 'little'));
      await on.process.ioctl(fd, Request.DEVICE_GET_REGION_INFO, long);
      expect(regionInfo.decode(long, 'little')).toEqual(
        expect.objectContaining({ argsz: 48, flags: 8, capOffset: 32 }),
      );
      expect([...long.subarray(32, 40)]).toEqual([2, 0, 1, 0, 0, 0, 0, 0]);
    });
  });

  it('CORE-119 a device that cannot be woken: EIO; suspend balances resume on every path', async () => {
    const journal: string[] = [];
    let broken = false;
    class Sleepy extends VfioDevice {
      override runtimePm = {
        resume: () => {
          if (broken) throw new VfioError('ENODEV', 'gone');
          journal.push('resume');
        },
        suspend: () => {
          journal.push('suspend');
        },
      };
      override ioctl(call: IoctlCall): number {
        if (call.request === Request.DEVICE_RESET) return 0;
        throw new VfioError('ENOTTY', 'none');
      }
    }
    await withDevice(Sleepy, async (_, { device: fd }) => {
      await on.process.ioctl(fd, Request.DEVICE_RESET);
      await expect(on.process.ioctl(fd, 0x3bff)).rejects.toEqual(code('ENOTTY'));
      expect(journal).toEqual(['resume', 'suspend', 'resume', 'suspend']);
      broken = true;
      await expect(on.process.ioctl(fd, Request.DEVICE_RESET)).rejects.toEqual(code('EIO'));
      expect(journal).toHaveLength(4);
    });
  });
});

describe('the data path', () => {
  it('CORE-198 and CORE-199: counts and errors pass through; the high bits of the position select the region', async () => {
    const positions: number[] = [];
    class Echo extends VfioDevice {
      override read(buffer: UserBuffer, position: number): number {
        positions.push(position);
        if (position === 5) throw new VfioError('EIO', 'broken');
        return buffer.length - 1;
      }
    }
    await withDevice(Echo, async (_, { device: fd }) => {
      expect(on.process.pread(fd, new Uint8Array(4), 7 * 2 ** 40 + 3)).toBe(3);
      expect(() => on.process.pread(fd, new Uint8Array(4), 5)).toThrow(code('EIO'));
      expect([Math.floor(positions[0]! / 2 ** 40), positions[0]! % 2 ** 40]).toEqual([7, 3]);
    });
  });

  it('CORE-200 all descriptors share one mapping space: zapping it reaches every mapping', async () => {
    class Mapped extends VfioDevice {
      override mmap(_: MmapRequest): Mapping {
        return { kind: 'io', load: () => 7n, store: () => undefined };
      }
    }
    await withDevice(Mapped, async (device, { device: fd, group }) => {
      const second = await on.getDeviceFd(group, 'dev0');
      const map = (file: number) =>
        on.process.mmap(file, { offset: 0, length: PAGE_SIZE, prot: Prot.READ | Prot.WRITE, shared: true });
      const [a, b] = [await map(fd), await map(second)];
      expect([on.process.mm.load(a, 4), on.process.mm.load(b, 4)]).toEqual([7n, 7n]);
      // a reset takes the pages away behind all descriptors
      device.mapping.zap(0, PAGE_SIZE);
      for (const address of [a, b]) expect(() => on.process.mm.load(address, 4)).toThrow(SegmentationFault);
      on.process.mm.munmap(a, PAGE_SIZE);
      on.process.mm.munmap(b, PAGE_SIZE);
      await on.process.close(second);
    });
  });
});

describe('what /proc and sysfs say', () => {
  it('CORE-204 fdinfo has the path of the parent', async () => {
    await using one = await register(on, 'dev0');
    const path = await openPath(on, one.device);
    const text = await on.process.readFile(`/proc/self/fdinfo/${path.device}`);
    expect(text.split('\n')).toContain(`vfio-device-syspath: ${one.parent.sysfs.path()}`);
    expect(await on.process.readlink(`/proc/self/fd/${path.device}`)).toBe('anon_inode:[vfio-device]');
    await closePath(on, path);
  });

  it('CORE-205 majors, misc device and modes', async () => {
    await using one = await register(on, 'dev0');
    expect(await on.process.readFile('/proc/devices')).toMatch(/^ *\d+ vfio$/m);
    expect(await on.process.readFile('/proc/misc')).toMatch(/^196 vfio$/m);
    const mode = async (path: string) => (await on.process.stat(path)).mode & 0o777;
    expect(await mode('/dev/vfio/vfio')).toBe(0o666);
    expect(await mode(`/dev/vfio/${one.device.group?.name}`)).toBe(0o600);
  });
});

describe('closing', () => {
  /** What was thrown, each error that hides others taken apart. Node 20 knows `SuppressedError` by its shape only. */
  function messages(error: unknown): string[] {
    if (!(error instanceof Error)) return [];
    if ('suppressed' in error && 'error' in error) return [error.error, error.suppressed].flatMap(messages);
    return error instanceof AggregateError ? error.errors.flatMap(messages) : [error.message];
  }

  it('gives everything back although several steps throw, and shows each of them', async () => {
    class Breaks extends VfioDevice {
      override closeDevice(): void {
        throw new TypeError('close');
      }
    }
    const device = await allocDevice(on.vfio, Breaks, await on.addParent('dev0'), undefined);
    await registerGroupDev(device);
    const { pinModule } = on.vfio;
    let breaks = true;
    on.vfio.pinModule = (count) => {
      const unpin = pinModule.call(on.vfio, count);
      return () => {
        unpin();
        if (breaks) throw new TypeError('unpin');
      };
    };
    const path = await openPath(on, device);
    on.vfio.pinModule = pinModule;
    const groupFile = on.process.files.get(path.group);
    const { put } = groupFile;
    groupFile.put = async () => {
      await put.call(groupFile);
      throw new TypeError('put');
    };
    const failure: unknown = await on.process.close(path.device).catch((error: unknown) => error);
    groupFile.put = put;
    breaks = false;
    expect(messages(failure).sort()).toEqual(['close', 'put', 'unpin']);
    expect(device.openCount).toBe(0);
    await on.process.close(path.group);
    await on.process.close(path.container);
    // Nobody holds its registration any more.
    await unregisterGroupDev(device);
    await putDevice(device);
  });
});
