import { describe, expect, it } from 'vitest';
import { Host, Undo } from '../src/index.js';

describe('MiscDevices', () => {
  const open = () => {
    throw new Error('not opened here');
  };

  it('makes a node, a device of class misc and a line in /proc/misc, and takes them away', async () => {
    await using host = new Host();
    const misc = await host.misc.register({ name: 'vfio', minor: 196, nodename: 'vfio/vfio', mode: 0o666, open });
    expect(host.init.stat('/dev/vfio/vfio')).toMatchObject({ rdev: { major: 10, minor: 196 } });
    expect(host.init.stat('/dev/vfio/vfio').mode & 0o777).toBe(0o666);
    expect(await host.init.readFile('/proc/misc')).toBe('196 vfio\n');
    expect(host.init.readlink('/sys/class/misc/vfio')).toBe('../../devices/virtual/misc/vfio');
    expect(await host.init.readFile('/sys/class/misc/vfio/dev')).toBe('10:196\n');
    expect(host.uevents.emitted.at(-1)?.env).toMatchObject({
      ACTION: 'add',
      SUBSYSTEM: 'misc',
      DEVNAME: 'vfio/vfio',
      DEVMODE: '0666',
      MAJOR: '10',
      MINOR: '196',
    });
    await misc.unregister();
    expect(host.init.readdir('/dev').map(({ name }) => name)).toEqual(['null']);
    expect(await host.init.readFile('/proc/misc')).toBe('');
    expect(host.init.readdir('/sys/class/misc')).toEqual([]);
  });

  it('gives out dynamic minors, and refuses one that is taken', async () => {
    await using host = new Host();
    await using undo = new Undo();
    const first = await host.misc.register({ name: 'a', open });
    undo.add(() => first.unregister());
    const second = await host.misc.register({ name: 'b', open });
    undo.add(() => second.unregister());
    expect(second.minor).not.toBe(first.minor);
    await expect(host.misc.register({ name: 'c', minor: first.minor, open })).rejects.toThrow(
      expect.objectContaining({ code: 'EBUSY' }),
    );
    await expect(host.misc.register({ name: 'a', open })).rejects.toThrow(expect.objectContaining({ code: 'EEXIST' }));
    expect(await host.init.readFile('/proc/misc')).toBe(`${second.minor} b\n${first.minor} a\n`);
  });

  it('leaves nothing behind when any step of it fails', async () => {
    await using host = new Host();
    const register = () => host.misc.register({ name: 'vfio', minor: 196, nodename: 'vfio/vfio', open });
    using recording = host.faults.record();
    await (await register()).unregister();
    recording.stop();
    const before = host.tracker.leaks().length;
    for (const [index, { code }] of recording.steps.entries()) {
      const arm = host.faults.failAt(index);
      await expect(register().then((misc) => misc.unregister())).rejects.toThrow(expect.objectContaining({ code }));
      expect(arm.fired).toBe(true);
      expect(host.init.readdir('/dev').map(({ name }) => name)).toEqual(['null']);
      expect(host.init.readdir('/sys/class/misc')).toEqual([]);
      expect(await host.init.readFile('/proc/misc')).toBe('');
      expect(host.tracker.leaks()).toHaveLength(before);
    }
    expect(recording.steps.length).toBeGreaterThan(5);
  });
});
