import type { ExerciseStep, MachineContext } from '@vfio/core';
import { Machine, type MachineFile } from '@vfio/machine';
import { describe, expect, it } from 'vitest';
import { driverPackage } from '../src/machine.js';
import { OTHER_UUID, UUID } from './lab.js';

/** A machine file with this section. */
function file(section: unknown): MachineFile {
  return { version: 1, modules: ['vfio_iommu_type1'], 'mdev-samples': section };
}

function load(section: unknown): Promise<Machine> {
  return Machine.load(file(section), { drivers: [driverPackage], checked: true });
}

const cards = {
  mtty: {
    devices: [
      { uuid: UUID, type: 'mtty-1' },
      { uuid: OTHER_UUID.toUpperCase(), type: 'mtty-2' },
    ],
  },
};

describe('the section of a machine file', () => {
  it('creates the devices it names', async () => {
    await using machine = await load(cards);
    const { init } = machine.host;
    expect(init.readdir('/sys/bus/mdev/devices').map(({ name }) => name)).toEqual([UUID, OTHER_UUID]);
    expect(init.readlink(`/sys/bus/mdev/devices/${OTHER_UUID}/mdev_type`)).toBe('../mdev_supported_types/mtty-2');
  });

  it('loads a module for its own sake', async () => {
    await using machine = await load({ mtty: {} });
    expect(machine.host.modules.get('mtty')?.state).toBe('live');
    await using other = await load({ mtty: { load: false } });
    expect(other.host.modules.get('mtty')).toBeUndefined();
    expect(other.host.modules.known()).toEqual(expect.arrayContaining(['mdev', 'mtty']));
  });

  it('sets the parameter of a module that has one', async () => {
    await using machine = await load({
      mdpy: { count: 7, devices: [{ uuid: UUID, type: 'mdpy-hd' }] },
      mbochs: { count: 32, devices: [{ uuid: OTHER_UUID, type: 'mbochs-small' }] },
    });
    const left = (module: string, type: string) =>
      machine.host.init.readFile(`/sys/class/mdev_bus/${module}/mdev_supported_types/${type}/available_instances`);
    expect([await left('mdpy', 'mdpy-vga'), await left('mbochs', 'mbochs-medium')]).toEqual(['6\n', '1\n']);
  });

  it.each([
    ['a parameter that a module does not have', { mtty: { count: 1 } }],
    ['a parameter that is no number', { mdpy: { count: '4' } }],
    ['a type of another sample', { mbochs: { devices: [{ uuid: UUID, type: 'mdpy-vga' }] } }],
    ['an unknown sample', { mdtoy: {} }],
    ['an unknown type', { mtty: { devices: [{ uuid: UUID, type: 'mtty-3' }] } }],
    ['no UUID', { mtty: { devices: [{ type: 'mtty-1' }] } }],
    ['a UUID that is none', { mtty: { devices: [{ uuid: `${UUID}0`, type: 'mtty-1' }] } }],
    ['devices of a module that is not loaded', { mtty: { load: false, devices: [{ uuid: UUID, type: 'mtty-1' }] } }],
    ['an unknown property', { mtty: { ports: 2 } }],
  ])('refuses %s', async (_, section) => {
    await expect(load(section)).rejects.toThrow();
  });

  it('leaves the machine to whoever made it when a device can not be created', async () => {
    const twice = { mtty: { devices: [1, 2].map(() => ({ uuid: UUID, type: 'mtty-1' })) } };
    await expect(load(twice)).rejects.toThrow(expect.objectContaining({ code: 'EEXIST' }));
  });
});

describe('exercise', () => {
  it.each([
    [UUID, 1],
    [OTHER_UUID, 2],
  ])('of %s tries each of its ports, and an interrupt', async (uuid, ports) => {
    await using machine = await load(cards);
    const steps: ExerciseStep[] = [];
    for await (const step of machine.exercise(uuid)) steps.push(step);
    expect(steps.filter(({ ok }) => !ok)).toEqual([]);
    const own = steps.filter(({ name }) => name.startsWith('port')).map(({ name }) => name);
    expect(own).toEqual([...Array.from({ length: ports }, (_, port) => `port ${port} loop back`), 'port 0 interrupt']);
  });

  it('tells what a port that does not hear itself did', async () => {
    await using machine = await load(cards);
    const process = machine.process();
    const deaf = {
      name: UUID,
      readRegion: async () => Uint8Array.of(0),
      writeRegion: async () => 1,
      setTriggers: async () => {},
      unmask: async () => {},
      mask: async () => {},
      reset: async () => {},
      mapRegion: notHere,
      mapMemory: notHere,
      queryGfxPlane: notHere,
      getGfxDmabuf: notHere,
    };
    const steps: ExerciseStep[] = [];
    for await (const step of driverPackage.exercise!({ address: UUID, process, device: deaf })!) steps.push(step);
    expect(steps.map(({ ok }) => ok)).toEqual([false, false]);
    expect(steps[0]!.detail).toContain("heard ''");
  });

  it('leaves devices of others alone', async () => {
    await using machine = await load(cards);
    await using without = await Machine.load({ version: 1 }, { drivers: [driverPackage], checked: true });
    for (const process of [machine.process(), without.process()]) {
      const target = { address: '0000:01:00.0', process, device: { name: 'x' } as never };
      expect(driverPackage.exercise!(target)).toBeUndefined();
    }
  });
});

describe('definition', () => {
  it('makes the modules known and loads nothing', async () => {
    await using machine = await Machine.load({ version: 1 }, { drivers: [], checked: true });
    const context: MachineContext = { name: 'm', host: machine.host, vfio: machine.vfio };
    driverPackage.define(context);
    expect(machine.host.modules.known()).toEqual(expect.arrayContaining([...driverPackage.modules]));
    expect(machine.host.modules.loaded()).toEqual([]);
  });
});

async function notHere(): Promise<never> {
  throw new Error('a serial card has none');
}
