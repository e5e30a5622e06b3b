import { isSystemError, SystemError } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { createLab, type Lab, type LabParent, OTHER_UUID, settled, UUID } from './lab.js';

function failing(code: string) {
  return expect.objectContaining({ code });
}

/** Everything that a create could leave behind. */
async function traces(lab: Lab, card: LabParent) {
  await settled();
  return {
    available: await card.available(),
    list: [...lab.bus.list.keys()],
    onBus: lab.names('/sys/bus/mdev/devices'),
    ofDriver: lab.names('/sys/bus/mdev/drivers/card_mdev'),
    below: lab.names(card.dev.sysfs.path()),
    ofTypes: [lab.names(`${card.path('1')}/devices`), lab.names(`${card.path('2')}/devices`)],
    references: card.dev.refCount,
    typeReferences: card.parent.types.map((type) => type.registered.kref.count),
    semaphore: card.parent.unregSem.locked,
  };
}

describe('text written to create', () => {
  it.each([
    ['MDEV-014 35 bytes are too few', UUID.slice(1)],
    ['MDEV-014 38 bytes are too many', `${UUID}\n\n`],
    ['MDEV-017 a dash in the wrong place', '83b8f4f2509f-382f-3c1e-e6bfe0fa10010'],
    ['MDEV-017 a digit that is none', `g${UUID.slice(1)}`],
    ['MDEV-017 a NUL in it', `${UUID.slice(0, 30)}\0${UUID.slice(31)}`],
  ])('%s', async (_, text) => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    const before = await traces(lab, card);
    await expect(card.create(text)).rejects.toThrow(failing('EINVAL'));
    expect(await traces(lab, card)).toEqual(before);
  });

  it('MDEV-015 takes a UUID with and without a newline, and answers with its length', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    expect(await card.create(UUID)).toBe(36);
    expect(await card.create(`${OTHER_UUID}\n`)).toBe(37);
    expect(lab.names('/sys/bus/mdev/devices')).toEqual([UUID, OTHER_UUID]);
  });

  it.each(['x', '\0', '0'])('MDEV-016 takes %j behind it', async (character) => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    expect(await card.create(`${UUID}${character}`)).toBe(37);
    expect(lab.names('/sys/bus/mdev/devices')).toEqual([UUID]);
  });

  it('MDEV-018 makes lower case of upper case', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    expect(await card.create(UUID.toUpperCase())).toBe(36);
    expect(lab.names('/sys/bus/mdev/devices')).toEqual([UUID]);
  });

  it('MDEV-019 takes the nil UUID', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    const nil = '00000000-0000-0000-0000-000000000000';
    expect(await card.create(nil)).toBe(36);
    expect(lab.names('/sys/bus/mdev/devices')).toEqual([nil]);
  });
});

describe('a UUID that is taken', () => {
  it('MDEV-020 is refused by the same parent, also for another type', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    await card.create(UUID);
    await expect(card.create(UUID)).rejects.toThrow(failing('EEXIST'));
    await expect(card.create(UUID, '2')).rejects.toThrow(failing('EEXIST'));
    expect(await card.available()).toBe('3\n');
  });

  it('MDEV-021 is refused by every parent, in every case', async () => {
    await using lab = await createLab();
    await using one = await lab.addParent({ name: 'one' });
    await using two = await lab.addParent({ name: 'two' });
    await one.create(UUID);
    await expect(two.create(UUID)).rejects.toThrow(failing('EEXIST'));
    await expect(two.create(UUID.toUpperCase())).rejects.toThrow(failing('EEXIST'));
    expect(await two.available()).toBe('4\n');
  });

  it('MDEV-022 is reported before the lack of instances', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent({ driver: { maxInstances: 1 } });
    await card.create(UUID);
    await expect(card.create(UUID)).rejects.toThrow(failing('EEXIST'));
    await expect(card.create(OTHER_UUID)).rejects.toThrow(failing('EUSERS'));
  });
});

describe('instances', () => {
  it('MDEV-023 that are used up refuse the next create', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent({ driver: { maxInstances: 2 } });
    await card.create(UUID, '1');
    await card.create(OTHER_UUID, '2');
    const third = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1003';
    await expect(card.create(third)).rejects.toThrow(failing('EUSERS'));
    await lab.remove(UUID);
    expect(await card.create(third)).toBe(36);
  });

  it('MDEV-024 of which there are none refuse every create', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent({ driver: { maxInstances: 0 } });
    await expect(card.create(UUID)).rejects.toThrow(failing('EUSERS'));
  });
});

describe('a driver that refuses', () => {
  it.each(['ENOSPC', 'ENODEV', 'EIO'] as const)(
    'MDEV-025 reaches the writer with %s and leaves no trace',
    async (code) => {
      await using lab = await createLab();
      await using card = await lab.addParent({
        driver: {
          probe: async () => {
            await settled();
            throw new SystemError(code, 'no');
          },
        },
      });
      const before = await traces(lab, card);
      await expect(card.create(UUID)).rejects.toThrow(failing(code));
      expect(await traces(lab, card)).toEqual(before);
      await expect(card.create(UUID)).rejects.toThrow(failing(code)); // not EEXIST
    },
  );

  it('MDEV-026 that wants to be asked later reaches the writer with EAGAIN', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent({
      driver: {
        probe: () => {
          throw new SystemError('EPROBE_DEFER', 'later');
        },
      },
    });
    await expect(card.create(UUID)).rejects.toThrow(failing('EAGAIN'));
    expect(lab.host.devices.deferred).toEqual([]);
  });
});

describe('a created device', () => {
  it('MDEV-028 and its type have links to each other', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    await card.create(UUID, '2');
    expect(lab.root.readlink(`${card.path('2')}/devices/${UUID}`)).toBe(`../../../${UUID}`);
    expect(lab.root.readlink(`/sys/bus/mdev/devices/${UUID}/mdev_type`)).toBe('../mdev_supported_types/card-2');
    expect(lab.names(`${card.path('1')}/devices`)).toEqual([]);
  });

  it('MDEV-029 is found on its bus, bound', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    await card.create(UUID);
    const path = `/sys/bus/mdev/devices/${UUID}`;
    expect(lab.root.readlink(path)).toBe(`../../../devices/virtual/card/card/${UUID}`);
    expect(lab.names(`${path}/`)).toEqual(['driver', 'mdev_type', 'power', 'remove', 'subsystem', 'uevent']);
    expect(lab.root.readlink(`${path}/driver`)).toBe('../../../../../bus/mdev/drivers/card_mdev');
    expect(await lab.root.readFile(`${path}/uevent`)).toBe('DRIVER=card_mdev\n');
    expect(lab.device(UUID).active).toBe(true);
  });

  it('MDEV-030 has the files of its driver from after probe to before remove', async () => {
    await using lab = await createLab();
    const seen: string[] = [];
    const look = (when: string) => {
      const path = `/sys/devices/virtual/card/card/${UUID}`;
      seen.push(`${when}: ${['vendor', 'plain'].filter((name) => lab.exists(`${path}/${name}`)).join(' ') || 'none'}`);
    };
    await using card = await lab.addParent({
      driver: {
        probe: () => look('probe'),
        remove: () => look('remove'),
        devGroups: ({ name }) => [
          { name: 'vendor', attributes: [{ name: 'who', mode: 0o444, show: () => `${name}\n` }] },
          { attributes: [{ name: 'plain', mode: 0o444, show: () => '' }] },
        ],
      },
    });
    await card.create(UUID);
    look('created');
    expect(await lab.root.readFile(`/sys/bus/mdev/devices/${UUID}/vendor/who`)).toBe(`${UUID}\n`);
    await lab.remove(UUID);
    expect(seen).toEqual(['probe: none', 'created: vendor plain', 'remove: none']);
  });

  it('MDEV-030 is not bound when those files can not be made', async () => {
    await using lab = await createLab();
    const journal: string[] = [];
    await using card = await lab.addParent({
      driver: {
        probe: () => void journal.push('probe'),
        remove: () => void journal.push('remove'),
        devGroups: () => [{ name: 'vendor', attributes: [{ name: 'who', mode: 0o444, show: () => '' }] }],
      },
    });
    const before = await traces(lab, card);
    using fault = lab.host.faults.failOn('sysfs_create_file:who');
    await expect(card.create(UUID)).rejects.toThrow(failing('ENOMEM'));
    expect(fault.fired).toBe(true);
    expect(journal).toEqual(['probe', 'remove']);
    expect(await traces(lab, card)).toEqual(before);
  });
});

describe('a create that fails', () => {
  it('MDEV-031 at the second link removes the first and unbinds the driver', async () => {
    await using lab = await createLab();
    const journal: string[] = [];
    await using card = await lab.addParent({ driver: { remove: () => void journal.push('remove') } });
    const before = await traces(lab, card);
    using fault = lab.host.faults.failOn('sysfs_create_link:mdev_type');
    await expect(card.create(UUID)).rejects.toThrow(failing('ENOMEM'));
    expect(fault.fired).toBe(true);
    expect(journal).toEqual(['remove']);
    expect(await traces(lab, card)).toEqual(before);
  });

  it('MDEV-032 for want of memory gives the instance back, which Linux forgets', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent({ driver: { maxInstances: 1 } });
    using fault = lab.host.faults.failOn('mdev_device_create:memory');
    await expect(card.create(UUID)).rejects.toThrow(failing('ENOMEM'));
    expect(fault.fired).toBe(true);
    expect(await card.available()).toBe('1\n');
    expect(await card.create(UUID)).toBe(36);
  });

  it('leaves no trace, whichever step it is', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent({
      driver: { devGroups: () => [{ name: 'vendor', attributes: [{ name: 'who', mode: 0o444, show: () => '' }] }] },
    });
    const before = await traces(lab, card);
    const round = async () => {
      await card.create(UUID);
      await lab.remove(UUID);
    };
    using recording = lab.host.faults.record();
    await round();
    recording.stop();
    expect(recording.steps.length).toBeGreaterThan(10);
    for (const [index, step] of recording.steps.entries()) {
      using fault = lab.host.faults.failAt(index);
      const error = await round().catch((thrown: unknown) => thrown);
      expect(fault.step).toBe(step.name);
      expect(isSystemError(error), step.name).toBe(true);
      expect(await traces(lab, card), step.name).toEqual(before);
    }
  });
});
