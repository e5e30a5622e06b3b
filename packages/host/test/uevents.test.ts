import { describe, expect, it } from 'vitest';
import { createSeams, Device, DeviceClass, type Uevent, UeventEnv, Uevents } from '../src/index.js';
import { errno, TestMachine } from './machine.js';

describe('Uevents', () => {
  it('numbers messages, keeps them and tells those who listen', () => {
    const uevents = new Uevents(createSeams());
    const heard: Uevent[] = [];
    const subscription = uevents.subscribe((event) => heard.push(event));
    uevents.emit('add', { devpath: '/devices/a', subsystem: 'mdev' }, (env) => env.addUeventVar('X', 1));
    subscription[Symbol.dispose]();
    uevents.emit('remove', { devpath: '/devices/a', subsystem: 'mdev' });
    expect(heard).toEqual([
      {
        action: 'add',
        devpath: '/devices/a',
        subsystem: 'mdev',
        env: { ACTION: 'add', DEVPATH: '/devices/a', SUBSYSTEM: 'mdev', X: '1', SEQNUM: '1' },
        seqnum: 1,
      },
    ]);
    expect(uevents.emitted.map(({ action, seqnum }) => [action, seqnum])).toEqual([
      ['add', 1],
      ['remove', 2],
    ]);
    expect(uevents.seqnum).toBe(2);
    expect(Object.keys(heard[0]!.env)).toEqual(['ACTION', 'DEVPATH', 'SUBSYSTEM', 'X', 'SEQNUM']);
  });

  it('does not name the modalias when a driver leaves', () => {
    const uevents = new Uevents(createSeams());
    for (const action of ['bind', 'unbind'] as const) {
      uevents.emit(action, { devpath: '/d', subsystem: 's' }, (env) => env.addUeventVar('MODALIAS', 'x'));
    }
    expect(uevents.emitted.map(({ env }) => 'MODALIAS' in env)).toEqual([true, false]);
  });

  it('keeps the last 256', () => {
    const uevents = new Uevents(createSeams());
    for (let i = 0; i < 9000; i++) uevents.emit('change', { devpath: '/d', subsystem: 's' });
    expect([uevents.emitted.length, uevents.emitted.at(0)?.seqnum, uevents.seqnum]).toEqual([256, 8745, 9000]);
  });
});

describe('UeventEnv', () => {
  it('has room for 64 variables and 2048 bytes', () => {
    const seams = createSeams();
    const many = new UeventEnv(seams);
    for (let i = 0; i < 64; i++) many.addUeventVar(`K${i}`, i);
    expect(() => many.addUeventVar('K', 0)).toThrow(errno('ENOMEM'));
    const long = new UeventEnv(seams);
    long.addUeventVar('K', 'x'.repeat(2045));
    expect(() => long.addUeventVar('K', 'x')).toThrow(errno('ENOMEM'));
    expect(seams.log.warnings()).toHaveLength(2);
  });
});

describe('the file uevent', () => {
  async function machineWithDevice(): Promise<{ machine: TestMachine; dev: Device }> {
    const machine = new TestMachine();
    const deviceClass = new DeviceClass(machine.host, 'it', { uevent: (_, env) => env.addUeventVar('OWN', 'x') });
    const dev = new Device({ name: 'dev', class: deviceClass });
    await machine.devices.register(dev);
    return { machine, dev };
  }

  const file = '/sys/devices/virtual/it/dev/uevent';
  const last = (machine: TestMachine) => machine.events().at(-1);

  it('sends an event on demand', async () => {
    const { machine } = await machineWithDevice();
    for (const action of ['add', 'change\n', 'remove\0', 'move', 'online', 'offline', 'bind', 'unbind']) {
      expect(await machine.echo(file, action)).toBe(action.length);
      const name = action.replace(/\W/, '');
      expect(last(machine)?.env).toEqual({
        ACTION: name,
        DEVPATH: '/devices/virtual/it/dev',
        SUBSYSTEM: 'it',
        SYNTH_UUID: '0',
        OWN: 'x',
        SEQNUM: String(machine.uevents.seqnum),
      });
    }
  });

  it('adds what the writer wants to recognise it by', async () => {
    const { machine } = await machineWithDevice();
    const uuid = 'fe4d7c9d-b8c6-4a70-9ef1-3d8a58d18eed';
    await machine.echo(file, `add ${uuid}\n`);
    expect(last(machine)?.env).toMatchObject({ ACTION: 'add', SYNTH_UUID: uuid });
    await machine.echo(file, `change ${uuid} A=1 B2=abc`);
    expect(last(machine)?.env).toMatchObject({ SYNTH_UUID: uuid, SYNTH_ARG_A: '1', SYNTH_ARG_B2: 'abc' });
  });

  it.each([
    '\n',
    'ad',
    'adds',
    ' add',
    'add ',
    'add x',
    'add fe4d7c9d-b8c6-4a70-9ef1-3d8a58d18eedx',
    'add fe4d7c9d-b8c6-4a70-9ef1-3d8a58d18eed ',
    'add fe4d7c9d-b8c6-4a70-9ef1-3d8a58d18eed A',
    'add fe4d7c9d-b8c6-4a70-9ef1-3d8a58d18eed A=',
    'add fe4d7c9d-b8c6-4a70-9ef1-3d8a58d18eed =1',
    'add fe4d7c9d-b8c6-4a70-9ef1-3d8a58d18eed A=1 B_=2',
    'add fe4d7c9d-b8c6-4a70-9ef1-3d8a58d18eed  A=1',
  ])('refuses %j', async (text) => {
    const { machine } = await machineWithDevice();
    const { seqnum } = machine.uevents;
    await expect(machine.echo(file, text)).rejects.toThrow(errno('EINVAL'));
    expect(machine.uevents.seqnum).toBe(seqnum);
    expect(machine.host.log.entries.at(-1)?.text).toMatch(/^synth uevent: \/devices\/virtual\/it\/dev: /);
  });

  it('of a device on no bus and in no class is silent', async () => {
    const machine = new TestMachine();
    await machine.devices.rootDeviceRegister('root');
    expect(await machine.cat('/sys/devices/root/uevent')).toBe('');
    expect(await machine.echo('/sys/devices/root/uevent', 'add')).toBe(3);
    expect(machine.events()).toEqual([]);
  });
});
