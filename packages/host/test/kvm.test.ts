import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  Host,
  type KvmDeviceAttr,
  type KvmVm,
  KvmVmFile,
  O,
  type Process,
  SystemError,
  VirtualClock,
} from '../src/index.js';

const code = (name: string) => expect.objectContaining({ code: name });
const Request = {
  version: 0xae00,
  createVm: 0xae01,
  check: 0xae03,
  createDevice: 0xc00caee0,
  setAttr: 0x4018aee1,
  hasAttr: 0x4018aee3,
};
const type = 4;

let host: Host;
let process: Process;
let kvm: number;
const journal: unknown[] = [];
beforeEach(async () => {
  journal.length = 0;
  host = new Host({ checked: true, clock: new VirtualClock() });
  await host.modules.modprobe('kvm');
  host.kvm.registerDeviceOps(type, {
    name: 'kvm-test',
    create: (vm: KvmVm) => ({
      hasAttr: ({ group }: KvmDeviceAttr) => {
        if (group !== 1) throw new SystemError('ENXIO', 'no such group');
        return 0;
      },
      setAttr: (_, attr) => {
        journal.push(attr, vm.users);
        return 0;
      },
      release: () => void journal.push('release'),
    }),
  });
  process = host.spawn({ comm: 'vmm' });
  kvm = await process.open('/dev/kvm', O.RDWR);
});
afterEach(async () => {
  await host[Symbol.asyncDispose]();
});

const createDevice = async (vm: number, ofType = type, flags = 0) => {
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, ofType, true);
  view.setUint32(8, flags, true);
  await process.ioctl(vm, Request.createDevice, bytes);
  return view.getUint32(4, true);
};

describe('/dev/kvm', () => {
  it('tells its version and makes machines', async () => {
    expect(await process.ioctl(kvm, Request.version)).toBe(12);
    await expect(process.ioctl(kvm, Request.version, 1)).rejects.toEqual(code('EINVAL'));
    await expect(process.ioctl(kvm, 0xae99)).rejects.toEqual(code('ENOTTY'));
    expect([await process.ioctl(kvm, Request.check, 89), await process.ioctl(kvm, Request.check, 1)]).toEqual([1, 0]);
    const vm = await process.ioctl(kvm, Request.createVm);
    expect(process.readlink(`/proc/self/fd/${vm}`)).toBe('anon_inode:kvm-vm');
    await process.close(vm);
  });

  it('makes in-kernel devices, one of a kind, which keep the machine', async () => {
    const vm = await process.ioctl(kvm, Request.createVm);
    await expect(createDevice(vm, 77)).rejects.toEqual(code('ENODEV'));
    expect(await createDevice(vm, type, 1)).toBe(0);
    const device = await createDevice(vm);
    await expect(createDevice(vm)).rejects.toEqual(code('EBUSY'));
    await process.close(vm);
    const attr = new Uint8Array(24);
    new DataView(attr.buffer).setUint32(4, 1, true);
    await process.ioctl(device, Request.setAttr, attr);
    expect(journal).toEqual([{ group: 1, attr: 0n, addr: 0n }, 1]);
    expect(await process.ioctl(device, Request.hasAttr, attr)).toBe(0);
    // Nobody looks at its flags.
    new DataView(attr.buffer).setUint32(0, 0xffff_ffff, true);
    expect(await process.ioctl(device, Request.hasAttr, attr)).toBe(0);
    new DataView(attr.buffer).setUint32(4, 2, true);
    await expect(process.ioctl(device, Request.hasAttr, attr)).rejects.toEqual(code('ENXIO'));
    await process.close(device);
    expect(journal.at(-1)).toBe('release');
  });

  it('has its machines used by no process but the one that made them', async () => {
    const vm = await process.ioctl(kvm, Request.createVm);
    const device = await createDevice(vm);
    const other = host.spawn();
    for (const [fd, request] of [
      [vm, Request.check],
      [device, Request.hasAttr],
    ] as const) {
      const theirs = other.files.add(process.files.get(fd).get());
      await expect(other.ioctl(theirs, request, new Uint8Array(24))).rejects.toEqual(code('EIO'));
    }
  });

  it('takes everything back when no descriptor is free', async () => {
    const vm = await process.ioctl(kvm, Request.createVm);
    process.setrlimit('nofile', vm + 1);
    await expect(createDevice(vm)).rejects.toEqual(code('EMFILE'));
    expect(journal).toEqual(['release']);
    await expect(process.ioctl(kvm, Request.createVm)).rejects.toEqual(code('EMFILE'));
  });

  it('takes everything back whichever step of making a machine and a device fails', async () => {
    const make = async () => {
      const vm = await process.ioctl(kvm, Request.createVm);
      try {
        await process.close(await createDevice(vm));
      } finally {
        await process.close(vm);
      }
    };
    using recording = host.faults.record();
    await make();
    recording.stop();
    const names = recording.steps.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['kvm_create_vm:memory', 'kvm_ioctl_create_device:memory']));
    const before = host.tracker.leaks().length;
    for (const index of names.keys()) {
      using arm = host.faults.failAt(index);
      await expect(make(), names[index]).rejects.toThrow(`fault injected at ${names[index]}`);
      expect([arm.fired, host.tracker.leaks().length]).toEqual([true, before]);
    }
    await make();
  });

  it('gives no reference on a machine that is gone', async () => {
    const vm = await process.ioctl(kvm, Request.createVm);
    const file = process.files.get(vm);
    if (!(file instanceof KvmVmFile)) throw new TypeError('no machine');
    expect(file.vm.getSafe()).toBe(true);
    await process.close(vm);
    expect(file.vm.getSafe()).toBe(true);
    file.vm.put();
    file.vm.put();
    expect(file.vm.getSafe()).toBe(false);
  });

  it('goes with its module', async () => {
    await process.close(kvm);
    await host.modules.rmmod('kvm');
    await expect(process.open('/dev/kvm', O.RDWR)).rejects.toEqual(code('ENOENT'));
  });
});
