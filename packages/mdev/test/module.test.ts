import { Host } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { defineMdev, mdevBus } from '../src/index.js';
import { createLab } from './lab.js';

describe('module mdev', () => {
  it('brings bus and class while it is loaded', async () => {
    await using lab = await createLab();
    expect(lab.names('/sys/bus/mdev')).toEqual(['devices', 'drivers', 'drivers_autoprobe', 'drivers_probe', 'uevent']);
    expect(lab.names('/sys/class/mdev_bus')).toEqual([]);
    expect(await lab.root.readFile('/sys/module/mdev/version')).toBe('0.1\n');
    await lab.host.modules.rmmod('mdev');
    expect(lab.exists('/sys/bus/mdev')).toBe(false);
    expect(lab.exists('/sys/class/mdev_bus')).toBe(false);
  });

  it('can be defined by every package that needs it, and shows nothing before it is loaded', async () => {
    await using host = new Host();
    defineMdev(host);
    defineMdev(host);
    expect(() => mdevBus(host)).toThrow(/module mdev is not loaded/);
    expect(host.init.readdir('/sys/bus')).toEqual([]);
    await host.modules.modprobe('mdev');
    expect(mdevBus(host).name).toBe('mdev');
  });

  it('leaves nothing behind when its class can not be made', async () => {
    await using host = new Host();
    defineMdev(host);
    using fault = host.faults.failOn('sysfs_create_dir:mdev_bus');
    await expect(host.modules.modprobe('mdev')).rejects.toThrow(expect.objectContaining({ code: 'ENOMEM' }));
    expect(fault.fired).toBe(true);
    expect(host.init.readdir('/sys/bus')).toEqual([]);
    await host.modules.modprobe('mdev');
  });
});
