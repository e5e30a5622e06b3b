/*
 * What checked mode says of a driver that misuses the core or forgets something: what it is, and where it came from.
 * Each report names this file, since the driver of these tests is here.
 */
import { eventfdFromFd, isKernelBug, type KernelBug, Mutex, PAGE_SIZE, Prot } from '@vfio/host';
import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  allocDevice,
  DmaMapFlag,
  getDevice,
  iommuType1DmaMap,
  pinPages,
  putDevice,
  putRegistration,
  Request,
  registerEmulatedIommuDev,
  tryGetRegistration,
  unregisterGroupDev,
} from '../src/index.js';
import { bench, openPath, type TestBench, TestDevice } from './harness.js';

const RW = Prot.READ | Prot.WRITE;
const iova = 0x10_0000n;

/** A device that may pin: it hears of unmaps. */
class Pinning extends TestDevice {
  override dmaUnmap(): void {}
}

/** What a driver does wrong, as the bug that it is reported as. */
async function bugOf(run: () => unknown): Promise<KernelBug> {
  try {
    await run();
  } catch (error) {
    if (isKernelBug(error)) return error;
    throw error;
  }
  throw new Error('nothing was reported');
}

/** What the end of the machine lists as not given back: kind and description, with the innermost frame in this file. */
async function forgotten(on: TestBench): Promise<Record<string, readonly string[]>> {
  const found: Record<string, string[]> = {};
  for (const { kind, what, origin } of await on.host.shutdown()) {
    const here = /at (?:async )?(?:Module\.)?(\w+) \(.*checked-mode\.test/.exec(origin ?? '')?.[1] ?? 'elsewhere';
    found[kind] ??= [];
    found[kind].push(`${here}: ${what}`);
  }
  return found;
}

async function pinning(on: TestBench): Promise<Pinning> {
  const device = await allocDevice(on.vfio, Pinning, await on.addParent('dev0', null), {});
  await registerEmulatedIommuDev(device);
  return device;
}

describe('a use after free', () => {
  it('is reported with where the device was freed', async () => {
    await using on = await bench();
    const device = await allocDevice(on.vfio, TestDevice, await on.addParent('dev0'), {});
    async function lastPut() {
      await putDevice(device);
    }
    await lastPut();
    const bug = await bugOf(() => device.openCount);
    expect(bug.kind).toBe('use-after-free');
    expect(`${bug.message}\n${bug.origin}`).toMatch(/checked-mode\.test/);
  });
});

describe('a reference put once more than taken', () => {
  it('of the device is a use after free', async () => {
    await using on = await bench();
    const device = await allocDevice(on.vfio, TestDevice, await on.addParent('dev0'), {});
    await putDevice(device);
    expect((await bugOf(() => putDevice(device))).kind).toBe('use-after-free');
  });

  it('of its registration is an underflow, with where the last one went', async () => {
    await using on = await bench();
    const device = await pinning(on);
    await unregisterGroupDev(device);
    const bug = await bugOf(() => putRegistration(device));
    expect(bug).toMatchObject({ kind: 'refcount', message: expect.stringMatching(/vfio0 registration.*underflow/) });
    expect(bug.origin).toMatch(/dropRegistration/);
    await putDevice(device);
  });
});

describe('locks taken in both orders', () => {
  it('are reported: of a driver, under that of its set, and the other way round', async () => {
    await using on = await bench();
    const own = new Mutex(on.host, 'lock of the driver');
    class Locks extends Pinning {
      override async openDevice(): Promise<void> {
        using _held = await own.lock();
      }
    }
    const device = await allocDevice(on.vfio, Locks, await on.addParent('dev0', null), {});
    await registerEmulatedIommuDev(device);
    await openPath(on, device);
    const set = device.deviceSet;
    const inverted = async () => {
      using _own = await own.lock();
      using _set = await set?.lock.lock();
    };
    const bug = await bugOf(() => on.host.lockdep.run('driver', inverted));
    expect(bug.kind).toBe('lock');
    expect(bug.message).toMatch(/lock of the driver/);
    await on.process.exit(0);
    await unregisterGroupDev(device);
    await putDevice(device);
  });
});

describe('what a driver forgets', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  it('of devices: one that was allocated and never put', async () => {
    const on = await bench();
    const parent = await on.addParent('dev0');
    async function forgetsDevice() {
      await allocDevice(on.vfio, TestDevice, parent, {});
    }
    await forgetsDevice();
    expect(await forgotten(on)).toMatchObject({ 'vfio-device': ['forgetsDevice: vfio0 of dev0, allocated'] });
  });

  it('of references: one on the device keeps the object', async () => {
    const on = await bench();
    const device = await allocDevice(on.vfio, TestDevice, await on.addParent('dev0'), {});
    getDevice(device);
    await putDevice(device);
    expect(await forgotten(on)).toMatchObject({ 'vfio-device': [expect.stringContaining('vfio0 of dev0')] });
  });

  it('of references: one on the registration, for which its module would wait without end', async () => {
    const on = await bench();
    const device = await pinning(on);
    on.host.modules.define({
      name: 'forgetful',
      depends: ['vfio'],
      init: () => {},
      exit: () => unregisterGroupDev(device),
    });
    await on.host.modules.modprobe('forgetful');
    function takesOne() {
      tryGetRegistration(device);
    }
    takesOne();
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const bug = bugOf(() => on.host.shutdown());
    await vi.advanceTimersByTimeAsync(1999);
    expect(on.host.tracker.count('reference')).toBe(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(await bug).toMatchObject({
      kind: 'leak',
      message: expect.stringMatching(/1 not given back\n {2}reference: registration of vfio0\n[\s\S]*takesOne/),
    });
  });

  it('of eventfds: one that it took a reference on', async () => {
    const on = await bench();
    const fd = on.process.eventfd();
    function keepsEventfd() {
      eventfdFromFd(on.process, fd);
    }
    keepsEventfd();
    expect(await forgotten(on)).toMatchObject({ eventfd: [expect.stringMatching(/: count 0, 1 references$/)] });
  });

  it('of pins and mappings: files that it holds on to, with what the program did through them', async () => {
    const on = await bench();
    const device = await pinning(on);
    const { container, device: fd, group } = await openPath(on, device);
    const vaddr = on.process.mm.mmap({ length: PAGE_SIZE, prot: RW });
    async function mapsPage() {
      const size = BigInt(PAGE_SIZE);
      const flags = DmaMapFlag.READ | DmaMapFlag.WRITE;
      const request = iommuType1DmaMap.encode({ argsz: 32, flags, vaddr, iova, size }, 'little');
      await on.process.ioctl(container, Request.IOMMU_MAP_DMA, request);
    }
    await mapsPage();
    async function pinsPage() {
      await pinPages(device, iova, 1, RW);
    }
    await pinsPage();
    for (const one of [container, fd, group]) on.process.files.get(one).get();
    await on.process.exit(0);
    const found = await forgotten(on);
    expect(found).toMatchObject({
      'vfio-device': [expect.stringContaining('pinning: vfio0 of dev0')],
      mapping: [expect.stringContaining('mapsPage: mapping')],
      pin: [expect.stringContaining('pinsPage: frames')],
    });
  });
});
