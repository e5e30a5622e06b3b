import { describe, expect, it } from 'vitest';
import { MdevType } from '../src/index.js';
import { createLab, UUID } from './lab.js';

const refused = expect.objectContaining({ code: 'EACCES' });

describe('files of a type', () => {
  it('MDEV-008 create can be written by root only, the others can be read by all', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent({ driver: { showDescription: () => 'a card\n' } });
    const modes = ['create', 'device_api', 'name', 'available_instances', 'description'].map((name) => {
      const { kind, mode, size } = lab.root.stat(`${card.path('1')}/${name}`);
      return `${kind} ${mode.toString(8)} ${size}`;
    });
    expect(modes).toEqual(['file 200 4096', ...Array(4).fill('file 444 4096')]);
    await expect(lab.root.readFile(`${card.path('1')}/create`)).rejects.toThrow(refused);
    await expect(lab.root.writeFile(`${card.path('1')}/name`, 'x')).rejects.toThrow(refused);
    const user = lab.host.spawn({ comm: 'user', uid: 1000 });
    await expect(user.writeFile(`${card.path('1')}/create`, UUID)).rejects.toThrow(refused);
    expect(await user.readFile(`${card.path('1')}/name`)).toBe('1\n');
  });

  it('come in the order of the kernel, with the directory of the devices last', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent({ driver: { showDescription: () => 'a card\n' } });
    expect(lab.root.readdir(card.path('1')).map(({ name }) => name)).toEqual([
      'create',
      'device_api',
      'name',
      'available_instances',
      'description',
      'devices',
    ]);
  });

  it('MDEV-009 device_api is the string of the driver', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent({ driver: { deviceApi: 'vfio-ccw' } });
    expect(await lab.root.readFile(`${card.path('1')}/device_api`)).toBe('vfio-ccw\n');
  });

  it('MDEV-010 name is the pretty name, or else that of sysfs', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent({ types: [new MdevType('plain'), new MdevType('nice', 'A nice card')] });
    expect(await lab.root.readFile(`${card.path('plain')}/name`)).toBe('plain\n');
    expect(await lab.root.readFile(`${card.path('nice')}/name`)).toBe('A nice card\n');
  });

  it('MDEV-065 the name without a pretty one has no prefix', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent({ types: [new MdevType('plain')] });
    expect(lab.names(`${card.dev.sysfs.path()}/mdev_supported_types`)).toEqual(['card-plain']);
    expect(await lab.root.readFile(`${card.path('plain')}/name`)).toBe('plain\n');
  });

  it('MDEV-011 description is there for drivers that have one, and is what they say', async () => {
    await using lab = await createLab();
    await using plain = await lab.addParent({ name: 'plain' });
    expect(lab.exists(`${plain.path('1')}/description`)).toBe(false);
    await using card = await lab.addParent({
      driver: { showDescription: ({ sysfsName }) => `card ${sysfsName}, no newline` },
    });
    expect(await lab.root.readFile(`${card.path('2')}/description`)).toBe('card 2, no newline');
  });

  it('MDEV-012 available_instances asks a driver that counts itself, and no create is refused by the core', async () => {
    await using lab = await createLab();
    const getAvailable = ({ sysfsName }: MdevType) => (sysfsName === '1' ? 0 : -1);
    await using card = await lab.addParent({ driver: { getAvailable, maxInstances: 0 } });
    expect(await card.available('1')).toBe('0\n');
    expect(await card.available('2')).toBe('4294967295\n'); // %u
    expect(await card.create(UUID)).toBe(36);
  });

  it('MDEV-013 without that it shows the count of the parent, the same for every type', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent({ driver: { maxInstances: 3 } });
    await card.create(UUID, '2');
    expect([await card.available('1'), await card.available('2')]).toEqual(['2\n', '2\n']);
  });

  it('count for each parent of a driver on its own', async () => {
    await using lab = await createLab();
    await using one = await lab.addParent({ name: 'one', driver: { maxInstances: 1 } });
    await using two = await lab.addParent({ name: 'two', driver: { maxInstances: 1 } });
    await one.create(UUID);
    expect([await one.available(), await two.available()]).toEqual(['0\n', '1\n']);
  });
});
