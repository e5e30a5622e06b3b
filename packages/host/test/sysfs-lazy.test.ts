import { describe, expect, it } from 'vitest';
import { Host } from '../src/host.js';
import { SysfsDir } from '../src/sysfs/dir.js';
import type { LazyEntry } from '../src/sysfs/lazy.js';

/** Describes what it is asked for, and remembers each question. */
function entries() {
  const asked: string[] = [];
  const entry: LazyEntry = {
    describeEntry(name) {
      asked.push(name);
      if (name !== 'power') return { name, mode: 0o640, show: () => `${name}\n` };
      return { name, attributes: [{ name: 'control', mode: 0o644, show: () => 'auto\n' }] };
    },
  };
  return { asked, entry };
}

function hostWith() {
  const host = new Host({ checked: true });
  return { host, dir: host.sysfs.devices.mkdir('it'), ...entries() };
}

describe('an entry that is made when somebody looks', () => {
  it('is in the list before, and asked for once', () => {
    const { dir, asked, entry } = hostWith();
    dir.addLazyFile('type', entry);
    dir.addLazyGroup('power', ['control'], entry);
    expect([dir.list(), asked]).toEqual([['type', 'power'], []]);
    const file = dir.lookup('type');
    expect([file?.kind, file?.mode, dir.lookup('type') === file]).toEqual(['file', 0o640, true]);
    expect(dir.lookup('power/control')).toMatchObject({ kind: 'file', mode: 0o644 });
    expect([asked, dir.list()]).toEqual([
      ['type', 'power'],
      ['type', 'power'],
    ]);
  });

  it('keeps a mode and an owner that were given to it', async () => {
    await using host = new Host({ checked: true });
    const dir = host.sysfs.devices.mkdir('it');
    dir.addGroup({ attributes: [{ name: 'value', mode: 0o644, show: () => 'a\n' }] });
    host.init.chmod('/sys/devices/it/value', 0o600);
    host.init.chown('/sys/devices/it/value', 5, 6);
    expect(host.init.stat('/sys/devices/it/value')).toMatchObject({ mode: 0o600, uid: 5, gid: 6 });
    dir.remove();
  });

  it('takes its name', () => {
    const { dir, asked, entry } = hostWith();
    dir.addLazyFile('type', entry);
    expect(() => dir.mkdir('type')).toThrow(expect.objectContaining({ code: 'EEXIST' }));
    expect(() => dir.addLazyGroup('type', [], entry)).toThrow(expect.objectContaining({ code: 'EEXIST' }));
    dir.removeEntry('type');
    expect([dir.empty, dir.lookup('type'), asked]).toEqual([true, undefined, []]);
    dir.mkdir('type');
  });

  it('of a directory that is gone can not be used', () => {
    const { dir, entry } = hostWith();
    dir.addLazyFile('type', entry);
    dir.addLazyGroup('power', ['control'], entry);
    dir.remove();
    const power = dir.lookup('power');
    expect([dir.lookup('type'), power]).toMatchObject([{ removed: true }, { removed: true }]);
    expect(power instanceof SysfsDir && power.lookup('control')).toMatchObject({ removed: true });
  });

  it('fails where the file itself would', () => {
    const { host, dir, entry } = hostWith();
    for (const step of ['sysfs_create_dir:power', 'sysfs_create_file:control']) {
      using _arm = host.faults.failOn(step);
      expect(() => dir.addLazyGroup('power', ['control'], entry)).toThrow(expect.objectContaining({ code: 'ENOMEM' }));
      expect(dir.empty).toBe(true);
    }
    using _arm = host.faults.failOn('sysfs_create_file:type');
    expect(() => dir.addLazyFile('type', entry)).toThrow(expect.objectContaining({ code: 'ENOMEM' }));
  });
});

describe('a link', () => {
  it('to a directory elsewhere is the same link each time, and no part of this directory', () => {
    const { host, dir } = hostWith();
    const target = host.sysfs.bus.mkdir('target');
    dir.addLink('link', target);
    const link = dir.lookup('link');
    expect([link?.kind, dir.lookup('link') === link]).toEqual(['link', true]);
    dir.addLink('other', target);
    dir.remove();
    expect(target.removed).toBe(false);
  });

  it('to a directory below its own is a link all the same', () => {
    const { dir } = hostWith();
    const below = dir.mkdir('below');
    dir.addLink('alias', below);
    expect(dir.lookup('alias')).toMatchObject({ kind: 'link', directory: below });
    dir.removeEntry('alias');
    expect([below.removed, dir.list()]).toEqual([false, ['below']]);
  });
});
