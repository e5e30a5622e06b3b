import { getDevice, putDevice } from '@vfio/core';
import { describe, expect, it } from 'vitest';
import type { SerialPort } from '../src/index.js';
import { type CardType, Lab, OTHER_UUID, settled, UUID } from './lab.js';

function failing(code: string) {
  return expect.objectContaining({ code });
}

/** A UUID for each number. */
function uuid(n: number): string {
  return `83b8f4f2-509f-382f-3c1e-${n.toString(16).padStart(12, '0')}`;
}

describe('module mtty', () => {
  it('brings a class with one device, a range of character devices and a driver', async () => {
    await using lab = await Lab.create();
    expect(lab.root.readlink('/sys/class/mtty/mtty')).toBe('../../devices/virtual/mtty/mtty');
    expect(lab.names('/sys/class/mtty/mtty')).toEqual(['mdev_supported_types', 'power', 'subsystem', 'uevent']);
    expect(await lab.root.readFile('/proc/devices')).toMatch(/^ *\d+ mtty$/m);
    expect(lab.names('/sys/bus/mdev/drivers/mtty')).toEqual(['bind', 'module', 'uevent', 'unbind']);
    expect(lab.root.readlink('/sys/bus/mdev/drivers/mtty/module')).toBe('../../../../module/mtty');
    expect(lab.names('/sys/module/mdev/holders')).toEqual(['mtty']);
    expect(lab.host.modules.get('vfio')?.holders.size).toBe(2); // type1 too
  });

  it('leaves nothing behind', async () => {
    await using lab = await Lab.create();
    await lab.create();
    await lab.host.modules.rmmod('mtty');
    expect(lab.names('/sys/class/mdev_bus')).toEqual([]);
    expect(lab.names('/sys/bus/mdev/drivers')).toEqual([]);
    expect(lab.names('/sys/class')).not.toContain('mtty');
    expect(await lab.root.readFile('/proc/devices')).not.toContain('mtty');
    const log = lab.host.log.entries.map(({ text }) => text).filter((text) => /mtty_dev|major|MDEV/.test(text));
    expect(log).toEqual([
      'mtty_dev: mtty_dev_init',
      expect.stringMatching(/^major_number:\d+$/),
      'MDEV: Registered',
      'MDEV: Unregistering',
      'mtty_dev: Unloaded!',
    ]);
    expect(lab.names('/sys/devices/virtual')).not.toContain('mtty');
    await lab.host.modules.modprobe('mtty');
    expect(await lab.available()).toEqual([24, 12]);
  });

  it('can not be removed while a card is open', async () => {
    await using lab = await Lab.create();
    const card = await lab.card();
    await expect(lab.host.modules.rmmod('mtty')).rejects.toThrow(failing('EAGAIN'));
    await card.close();
    await lab.host.modules.rmmod('mtty');
  });

  it('takes other ports than its own', async () => {
    const made: SerialPort[] = [];
    const createPort = (): SerialPort => {
      const port = { read: (offset: number) => 0xa0 + offset, write: () => {}, save: noState, load: () => {} };
      made.push(port);
      return port;
    };
    await using lab = await Lab.create({ mtty: { createPort } });
    const card = await lab.card();
    expect(made).toHaveLength(2);
    expect([...(await card.read(0, 4, 4))]).toEqual([0xa4, 0, 0, 0]);
  });
});

describe('types', () => {
  it('MTTY-001 are mtty-1 and mtty-2, of API vfio-pci, without description', async () => {
    await using lab = await Lab.create();
    expect(lab.names('/sys/class/mdev_bus/mtty/mdev_supported_types')).toEqual(['mtty-1', 'mtty-2']);
    for (const type of ['mtty-1', 'mtty-2'] as const) {
      expect(await lab.root.readFile(`${lab.typePath(type)}/device_api`)).toBe('vfio-pci\n');
      expect(lab.names(lab.typePath(type))).not.toContain('description');
    }
    expect(await lab.root.readFile(`${lab.typePath('mtty-1')}/name`)).toBe('Single port serial\n');
    expect(await lab.root.readFile(`${lab.typePath('mtty-2')}/name`)).toBe('Dual port serial\n');
  });

  it('MTTY-002 have 24 and 12 instances at first', async () => {
    await using lab = await Lab.create();
    expect(await lab.available()).toEqual([24, 12]);
  });

  it('MTTY-003 share their ports', async () => {
    await using lab = await Lab.create();
    await lab.create(uuid(0), 'mtty-2');
    expect(await lab.available()).toEqual([22, 11]);
    for (let n = 1; n <= 10; n++) await lab.create(uuid(n), 'mtty-2');
    await lab.create(uuid(11), 'mtty-1');
    expect(await lab.available()).toEqual([1, 0]);
  });

  it('MTTY-004 refuse what does not fit, and keep what is left', async () => {
    await using lab = await Lab.create();
    for (let n = 0; n < 23; n++) await lab.create(uuid(n), 'mtty-1');
    await expect(lab.create(uuid(23), 'mtty-2')).rejects.toThrow(failing('ENOSPC'));
    expect(await lab.available()).toEqual([1, 0]);
    await lab.create(uuid(23), 'mtty-1');
    await expect(lab.create(uuid(24), 'mtty-1')).rejects.toThrow(failing('ENOSPC'));
    expect(await lab.available()).toEqual([0, 0]);
    expect(lab.names('/sys/bus/mdev/devices')).toHaveLength(24);
  });
});

describe('a card', () => {
  it('MTTY-005 gives its ports back with the last reference to the VFIO device', async () => {
    await using lab = await Lab.create();
    await lab.create(UUID, 'mtty-2');
    const [group] = lab.vfio.groups;
    const [device] = group!.devices;
    getDevice(device!);
    await lab.remove();
    expect(lab.names('/sys/bus/mdev/devices')).toEqual([]);
    expect(await lab.available()).toEqual([22, 11]);
    await putDevice(device!);
    expect(await lab.available()).toEqual([24, 12]);
  });

  it('MTTY-006 says who it is', async () => {
    await using lab = await Lab.create();
    await lab.create(UUID.toUpperCase());
    const path = `/sys/bus/mdev/devices/${UUID}/vendor/sample_mdev_dev`;
    expect(await lab.root.readFile(path)).toBe(`This is MDEV ${UUID}\n`);
    expect(lab.root.stat(path).mode).toBe(0o444);
  });

  it('MTTY-062 is removed when its last descriptor is closed, and its ports come back', async () => {
    await using lab = await Lab.create();
    const card = await lab.card('mtty-2');
    await lab.create(OTHER_UUID, 'mtty-1');
    let removed = false;
    const removing = lab.remove().then(() => {
      removed = true;
    });
    await settled();
    expect(removed).toBe(false);
    expect(await lab.available()).toEqual([21, 10]);
    await card.process.close(card.fd);
    await removing;
    expect(await lab.available()).toEqual([23, 11]);
    expect(lab.names('/sys/bus/mdev/devices')).toEqual([OTHER_UUID]);
  });

  it.each(['mtty-1', 'mtty-2'] as CardType[])(
    'of type %s that could not be made leaves the pool as it was',
    async (type) => {
      // without debugfs, which may fail and nobody minds
      await using lab = await Lab.create({ vfio: { debugfs: false } });
      using recording = lab.host.faults.record();
      await lab.create(UUID, type);
      recording.stop();
      await lab.remove();
      expect(recording.steps.map(({ name }) => name)).toContain('mtty_init_dev:vconfig');
      for (const [index, step] of recording.steps.entries()) {
        using fault = lab.host.faults.failAt(index);
        await expect(lab.create(UUID, type), step.name).rejects.toThrow(failing(step.code));
        expect(fault.fired).toBe(true);
        expect(await lab.available(), step.name).toEqual([24, 12]);
      }
    },
  );
});

function noState(): never {
  throw new Error('not saved here');
}
