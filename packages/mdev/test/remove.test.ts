import { O } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { mdevDeviceRemove } from '../src/device.js';
import { createLab, gate, type Lab, OTHER_UUID, settled, UUID } from './lab.js';

function failing(code: string) {
  return expect.objectContaining({ code });
}

function hasRemoveFile(lab: Lab, uuid: string): boolean {
  return lab.exists(`/sys/bus/mdev/devices/${uuid}/remove`);
}

/** Whether a promise is settled by now. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  const pending = Symbol();
  await settled();
  return (await Promise.race([promise.catch(() => {}), Promise.resolve(pending)])) !== pending;
}

describe('binding by hand', () => {
  it('MDEV-034 to a driver is refused, unbinding is not', async () => {
    await using lab = await createLab();
    const journal: string[] = [];
    await using card = await lab.addParent({
      driver: { probe: () => void journal.push('probe'), remove: () => void journal.push('remove') },
    });
    await card.create(UUID);
    const driver = '/sys/bus/mdev/drivers/card_mdev';
    expect(await lab.root.writeFile(`${driver}/unbind`, UUID)).toBe(36);
    expect(lab.device(UUID).driver).toBeUndefined();
    await expect(lab.root.writeFile(`${driver}/bind`, UUID)).rejects.toThrow(failing('ENODEV'));
    await expect(lab.root.writeFile(`${driver}/bind`, OTHER_UUID)).rejects.toThrow(failing('ENODEV'));
    expect(journal).toEqual(['probe', 'remove']);
  });

  it('MDEV-035 a device without a driver can be removed, and gives its instance back', async () => {
    await using lab = await createLab();
    const journal: string[] = [];
    await using card = await lab.addParent({ driver: { remove: () => void journal.push('remove') } });
    await card.create(UUID);
    await lab.root.writeFile('/sys/bus/mdev/drivers/card_mdev/unbind', UUID);
    expect(await card.available()).toBe('3\n');
    expect(await lab.remove(UUID)).toBe(1);
    expect(await card.available()).toBe('4\n');
    expect(journal).toEqual(['remove']); // by the unbinding
  });
});

describe('text written to remove', () => {
  it.each(['x', '-1', ' 1', '1x', '\n', '0x', '09', '18446744073709551616'])(
    'MDEV-036 %j is no number',
    async (text) => {
      await using lab = await createLab();
      await using card = await lab.addParent();
      await card.create(UUID);
      await expect(lab.remove(UUID, text)).rejects.toThrow(failing('EINVAL'));
      expect(hasRemoveFile(lab, UUID)).toBe(true);
    },
  );

  it.each(['0', '0\n', '00', '0x0'])('MDEV-037 %j does nothing', async (text) => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    await card.create(UUID);
    expect(await lab.remove(UUID, text)).toBe(text.length);
    expect(hasRemoveFile(lab, UUID)).toBe(true);
    expect(lab.device(UUID).active).toBe(true);
  });

  it.each(['2', '0x10', '1\n', '01', '+1', '18446744073709551615', '1\0x'])('MDEV-038 %j removes', async (text) => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    await card.create(UUID);
    expect(await lab.remove(UUID, text)).toBe(text.length);
    expect(lab.names('/sys/bus/mdev/devices')).toEqual([]);
    expect(lab.names(`${card.path('1')}/devices`)).toEqual([]);
    expect(lab.bus.list.size).toBe(0);
  });
});

describe('remove', () => {
  it('MDEV-039 by two at once is done by one, and succeeds for both when it is done', async () => {
    await using lab = await createLab();
    const busy = gate();
    let removed = 0;
    await using card = await lab.addParent({
      driver: {
        remove: async () => {
          removed++;
          await busy.wait;
        },
      },
    });
    await card.create(UUID);
    const path = `/sys/bus/mdev/devices/${UUID}/remove`;
    const fds = [await lab.root.open(path, O.WRONLY), await lab.root.open(path, O.WRONLY)];
    const writes = fds.map(async (fd) => lab.root.write(fd, Buffer.from('1')));
    expect(await isSettled(Promise.any(writes))).toBe(false);
    busy.open();
    expect(await Promise.all(writes)).toEqual([1, 1]);
    expect(removed).toBe(1);
    await Promise.all(fds.map((fd) => lab.root.close(fd)));
  });

  it('MDEV-040 during probe is refused, and its file is gone for good', async () => {
    await using lab = await createLab();
    const busy = gate();
    await using card = await lab.addParent({ driver: { probe: () => busy.wait } });
    const created = card.create(UUID);
    await settled();
    expect(hasRemoveFile(lab, UUID)).toBe(true);
    await expect(lab.remove(UUID)).rejects.toThrow(failing('EAGAIN'));
    busy.open();
    await created;
    expect(lab.names('/sys/bus/mdev/devices')).toEqual([UUID]);
    expect(hasRemoveFile(lab, UUID)).toBe(false);
    await card.unregister(); // the only way out
    expect(lab.names('/sys/bus/mdev/devices')).toEqual([]);
  });

  it('takes the links away before the driver lets go', async () => {
    await using lab = await createLab();
    const busy = gate();
    await using card = await lab.addParent({ driver: { remove: () => busy.wait } });
    await card.create(UUID);
    const removing = lab.remove(UUID);
    await settled();
    expect(lab.names(`${card.path('1')}/devices`)).toEqual([]);
    expect(lab.names('/sys/bus/mdev/devices')).toEqual([]);
    expect(lab.names(card.dev.sysfs.path())).toContain(UUID);
    busy.open();
    await removing;
    expect(lab.names(card.dev.sysfs.path())).not.toContain(UUID);
  });

  it('of a device that is gone already is refused', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    await card.create(UUID);
    const device = lab.device(UUID);
    await lab.remove(UUID);
    await expect(mdevDeviceRemove(device)).rejects.toThrow(failing('ENODEV'));
  });

  it('MDEV-043 gives the instance back with the last reference only', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    await card.create(UUID);
    const held = lab.device(UUID).get();
    await lab.remove(UUID);
    expect(await card.available()).toBe('3\n');
    held.put();
    expect(await card.available()).toBe('4\n');
  });

  it('MDEV-044 leaves the UUID taken until then', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    await card.create(UUID);
    const held = lab.device(UUID).get();
    await lab.remove(UUID);
    await expect(card.create(UUID)).rejects.toThrow(failing('EEXIST'));
    held.put();
    expect(await card.create(UUID)).toBe(36);
  });
});

describe('removal together with the parent', () => {
  it('MDEV-047 waits for a create that is under way, and then removes what it made', async () => {
    await using lab = await createLab();
    const busy = gate();
    await using card = await lab.addParent({ driver: { probe: () => busy.wait } });
    const created = card.create(UUID);
    await settled();
    const unregistered = card.unregister();
    expect(await isSettled(unregistered)).toBe(false);
    busy.open();
    expect(await created).toBe(36);
    await unregistered;
    expect(lab.bus.list.size).toBe(0);
    expect(lab.names(card.dev.sysfs.path())).toEqual(['power', 'subsystem', 'uevent']);
  });

  it('MDEV-048 refuses a create that comes after it, without a trace', async () => {
    await using lab = await createLab();
    const busy = gate();
    await using card = await lab.addParent({ driver: { remove: () => busy.wait } });
    await card.create(UUID);
    const unregistered = card.unregister();
    await settled();
    await expect(card.create(OTHER_UUID)).rejects.toThrow(failing('ENODEV'));
    expect([...lab.bus.list.keys()]).toEqual([UUID]);
    expect(card.parent.availableInstances).toBe(3);
    expect(lab.names(card.dev.sysfs.path())).not.toContain(OTHER_UUID);
    busy.open();
    await unregistered;
    expect(card.parent.availableInstances).toBe(4);
  });

  it('MDEV-049 refuses a remove that comes after it; the device goes all the same', async () => {
    await using lab = await createLab();
    const busy = gate();
    await using card = await lab.addParent({
      driver: { remove: ({ name }) => (name === UUID ? busy.wait : undefined) },
    });
    await card.create(UUID);
    await card.create(OTHER_UUID);
    const unregistered = card.unregister();
    await settled();
    await expect(lab.remove(OTHER_UUID)).rejects.toThrow(failing('ENODEV'));
    expect(lab.names('/sys/bus/mdev/devices')).toEqual([OTHER_UUID]);
    expect(hasRemoveFile(lab, OTHER_UUID)).toBe(false);
    await expect(mdevDeviceRemove(lab.device(OTHER_UUID))).rejects.toThrow(failing('EAGAIN')); // once only
    busy.open();
    await unregistered;
    expect(lab.names('/sys/bus/mdev/devices')).toEqual([]);
  });

  it('MDEV-050 does not look whether a device is active', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    await card.create(UUID);
    lab.device(UUID).active = false;
    await expect(lab.remove(UUID)).rejects.toThrow(failing('EAGAIN'));
    await card.unregister();
    expect(lab.bus.list.size).toBe(0);
  });

  it('MDEV-052 does not make a create wait: it fails while the semaphore is still held', async () => {
    await using lab = await createLab();
    const busy = gate();
    await using card = await lab.addParent({ driver: { remove: () => busy.wait } });
    await card.create(UUID);
    const fd = await lab.root.open(`${card.path('1')}/create`, O.WRONLY);
    const unregistered = card.unregister();
    await settled();
    expect(card.parent.unregSem.writing).toBe(true);
    await expect(Promise.resolve(lab.root.write(fd, Buffer.from(OTHER_UUID)))).rejects.toThrow(failing('ENODEV'));
    expect(await isSettled(unregistered)).toBe(false);
    busy.open();
    await unregistered;
    // the file is gone, the descriptor is not
    await expect(Promise.resolve().then(() => lab.root.write(fd, Buffer.from(OTHER_UUID)))).rejects.toThrow(
      failing('ENODEV'),
    );
    await lab.root.close(fd);
  });

  it('waits for a remove that is under way', async () => {
    await using lab = await createLab();
    const busy = gate();
    await using card = await lab.addParent({ driver: { remove: () => busy.wait } });
    await card.create(UUID);
    const removed = lab.remove(UUID);
    await settled();
    const unregistered = card.unregister();
    expect(await isSettled(unregistered)).toBe(false);
    busy.open();
    expect(await removed).toBe(1);
    await unregistered;
  });
});
