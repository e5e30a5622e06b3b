import { describe, expect, it } from 'vitest';
import { Device, DeviceWakeup } from '../src/index.js';
import { errno, everyStepFails, TestMachine } from './machine.js';

const path = '/sys/devices/card';

/** A device that can wake the machine up. */
async function card(machine: TestMachine): Promise<Device> {
  const dev = new Device({ name: 'card' });
  dev.wakeup = new DeviceWakeup(machine.devices.wakeupSources);
  await machine.devices.register(dev);
  return dev;
}

describe('a device that can wake the machine up', () => {
  it('has files for it, and may not at first', async () => {
    const machine = new TestMachine();
    await card(machine);
    expect(machine.ls(`${path}/power`)).toEqual([
      'autosuspend_delay_ms',
      'control',
      'runtime_active_time',
      'runtime_status',
      'runtime_suspended_time',
      'wakeup',
      'wakeup_abort_count',
      'wakeup_active',
      'wakeup_active_count',
      'wakeup_count',
      'wakeup_expire_count',
      'wakeup_last_time_ms',
      'wakeup_max_time_ms',
      'wakeup_total_time_ms',
    ]);
    expect(await machine.cat(`${path}/power/wakeup`)).toBe('disabled\n');
    expect(await machine.cat(`${path}/power/wakeup_count`)).toBe('\n');
    expect(machine.ls('/sys/class/wakeup')).toEqual([]);
  });

  it('is a source while it may', async () => {
    const machine = new TestMachine();
    await card(machine);
    await machine.echo(`${path}/power/wakeup`, 'enabled\n');
    expect(await machine.cat(`${path}/power/wakeup`)).toBe('enabled\n');
    expect(await machine.cat(`${path}/power/wakeup_count`)).toBe('0\n');
    expect(machine.readlink('/sys/class/wakeup/wakeup0')).toBe('../../devices/card/wakeup/wakeup0');
    expect(machine.ls('/sys/class/wakeup/wakeup0')).toEqual([
      'active_count',
      'active_time_ms',
      'device@',
      'event_count',
      'expire_count',
      'last_change_ms',
      'max_time_ms',
      'name',
      'prevent_suspend_time_ms',
      'subsystem@',
      'total_time_ms',
      'uevent',
      'wakeup_count',
    ]);
    expect(await machine.cat('/sys/class/wakeup/wakeup0/name')).toBe('card\n');
    // Once is enough, and who writes it again is not told.
    await machine.echo(`${path}/power/wakeup`, 'enabled');
    expect(machine.ls('/sys/class/wakeup')).toEqual(['wakeup0@']);
    await machine.echo(`${path}/power/wakeup`, 'disabled');
    expect(machine.ls(path)).toEqual(['power/', 'uevent']);
    expect(machine.ls('/sys/class/wakeup')).toEqual([]);
    await expect(machine.echo(`${path}/power/wakeup`, 'perhaps')).rejects.toEqual(errno('EINVAL'));
  });

  it('is none any more when it is deleted', async () => {
    const machine = new TestMachine();
    const dev = await card(machine);
    await machine.echo(`${path}/power/wakeup`, 'enabled');
    await machine.devices.unregister(dev);
    expect(machine.ls('/sys/class/wakeup')).toEqual([]);
    expect(machine.host.tracker.leaks().filter(({ what }) => what.includes('wakeup'))).toEqual([]);
  });

  it('gives all back when a step fails', async () => {
    const steps = await everyStepFails(
      (machine) => card(machine),
      async (_machine, dev) => {
        await dev.wakeup?.enable(dev);
        await dev.wakeup?.disable();
      },
    );
    expect(steps).toEqual(expect.arrayContaining(['wakeup_source_create:ws', 'ida_alloc:wakeup_ida']));
  });
});
