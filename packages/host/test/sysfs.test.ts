import { describe, expect, it } from 'vitest';
import { Completion, O, Poll, Seek, type SysfsDir, type SysfsFile } from '../src/index.js';
import { attribute, errno, TestMachine, tick } from './machine.js';

function machineWith(): { machine: TestMachine; dir: SysfsDir } {
  const machine = new TestMachine();
  return { machine, dir: machine.sysfs.devices.mkdir('it') };
}

describe('the tree', () => {
  it('has the directories that are always there', () => {
    const machine = new TestMachine();
    expect(machine.ls('/sys')).toEqual([
      'block/',
      'bus/',
      'class/',
      'dev/',
      'devices/',
      'firmware/',
      'fs/',
      'kernel/',
      'module/',
      'power/',
    ]);
    expect(machine.ls('/sys/devices')).toEqual(['virtual/']);
    expect(machine.sysfs.lookup('/sys/devices/virtual')).toBe(machine.sysfs.devicesVirtual);
    expect(machine.sysfs.lookup('/sys/')).toBe(machine.sysfs.root);
    expect(machine.sysfs.lookup('devices/nothing/below')).toBeUndefined();
  });

  it('tells where a directory is', () => {
    const { dir } = machineWith();
    expect([dir.mkdir('below').path(), dir.mkdir('other').devpath()]).toEqual([
      '/sys/devices/it/below',
      '/devices/it/other',
    ]);
  });

  it('takes each name once, and complains of the second', () => {
    const { machine, dir } = machineWith();
    dir.addFile(attribute('name'));
    for (const again of [
      () => dir.mkdir('name'),
      () => dir.addFile(attribute('name')),
      () => dir.addLink('name', machine.sysfs.bus),
    ]) {
      expect(again).toThrow(errno('EEXIST'));
    }
    expect(machine.host.log.entries.map(({ text }) => text)).toContain(
      "sysfs: cannot create duplicate filename '/devices/it/name'",
    );
    expect(() => dir.mkdir('a/b')).toThrow(RangeError);
  });

  it('is gone with all below it, and takes nothing any more', () => {
    const { machine, dir } = machineWith();
    const below = dir.mkdir('below');
    below.addFile(attribute('file'));
    dir.remove();
    dir.remove();
    expect([dir.removed, below.removed]).toEqual([true, true]);
    expect(() => machine.process.stat('/sys/devices/it/below/file')).toThrow(errno('ENOENT'));
    expect(() => below.mkdir('late')).toThrow(errno('ENOENT'));
    expect(() => machine.sysfs.bus.addLink('late', below)).toThrow(errno('ENOENT'));
    machine.sysfs.devices.mkdir('it');
  });

  it('is not changed by user space', async () => {
    const { machine } = machineWith();
    await expect(machine.process.open('/sys/devices/it/new', O.WRONLY | O.CREAT, 0o644)).rejects.toThrow(
      errno('EACCES'),
    );
  });
});

describe('links', () => {
  it('are relative, and always end in the name of what they lead to', () => {
    const { machine, dir } = machineWith();
    const deep = dir.mkdir('a').mkdir('b').mkdir('c');
    const links: [SysfsDir, SysfsDir, string][] = [
      [deep, dir, '../../../../it'],
      [deep, dir.mkdir('d'), '../../../d'],
      [dir, deep, 'a/b/c'],
      [machine.sysfs.bus, deep, '../devices/it/a/b/c'],
      [dir, dir, '../it'],
    ];
    for (const [at, to, text] of links) {
      at.addLink('link', to);
      expect(machine.readlink(`${at.path()}/link`)).toBe(text);
      at.removeEntry('link');
    }
  });

  it('can be followed, and dangle when what they lead to is gone', () => {
    const { machine, dir } = machineWith();
    const target = machine.sysfs.bus.mkdir('target');
    target.addFile(attribute('file'));
    dir.addLink('link', () => target);
    expect(machine.ls('/sys/devices/it')).toEqual(['link@']);
    expect(machine.ls('/sys/devices/it/link')).toEqual(['file']);
    expect(machine.process.lstat('/sys/devices/it/link')).toMatchObject({ kind: 'link', mode: 0o777, uid: 0 });
    target.remove();
    expect(machine.readlink('/sys/devices/it/link')).toBe('../../bus/target');
    expect(() => machine.process.stat('/sys/devices/it/link')).toThrow(errno('ENOENT'));
  });
});

describe('files', () => {
  it('are a page large, with the mode of the attribute', () => {
    const { machine, dir } = machineWith();
    dir.addFile({ name: 'remove', mode: 0o200, store: () => {} });
    expect(machine.process.stat('/sys/devices/it/remove')).toMatchObject({
      kind: 'file',
      mode: 0o200,
      uid: 0,
      gid: 0,
      size: 4096,
    });
    dir.addFile(attribute('name'), 0o400);
    expect(machine.process.stat('/sys/devices/it/name')).toMatchObject({ mode: 0o400 });
  });

  it('open for what a mode bit allows to somebody, for root too', async () => {
    const { machine, dir } = machineWith();
    dir.addFile({ name: 'wo', mode: 0o200, store: () => {} });
    dir.addFile(attribute('ro'));
    await expect(machine.cat('/sys/devices/it/wo')).rejects.toThrow(errno('EACCES'));
    await expect(machine.echo('/sys/devices/it/ro', '1')).rejects.toThrow(errno('EACCES'));
    await expect(machine.process.open('/sys/devices/it/ro', O.RDWR)).rejects.toThrow(errno('EACCES'));
    await machine.process.close(await machine.process.open('/sys/devices/it/ro', O.RDONLY));
  });

  it('have owners and modes that can be changed', async () => {
    const { machine, dir } = machineWith();
    dir.addFile({ name: 'wo', mode: 0o200, store: () => {} });
    const user = machine.host.spawn({ uid: 1000 });
    await expect(machine.echo('/sys/devices/it/wo', '1', user)).rejects.toThrow(errno('EACCES'));
    machine.process.chown('/sys/devices/it/wo', 1000, 1000);
    expect(await machine.echo('/sys/devices/it/wo', '1', user)).toBe(1);
    // A mode bit does not make an operation: this opens now, and then there is nothing to read.
    machine.process.chmod('/sys/devices/it/wo', 0o600);
    await expect(machine.cat('/sys/devices/it/wo', user)).rejects.toThrow(errno('EIO'));
    machine.process.chmod('/sys/devices/it', 0o700);
    await expect(machine.echo('/sys/devices/it/wo', '1', user)).rejects.toThrow(errno('EACCES'));
  });

  it('give what is written to the store, byte by byte, with who wrote it', async () => {
    const { machine, dir } = machineWith();
    const seen: unknown[] = [];
    dir.addFile({
      name: 'file',
      mode: 0o200,
      store: (text, process) => {
        seen.push(text, process === machine.process);
      },
    });
    const fd = await machine.process.open('/sys/devices/it/file', O.WRONLY);
    expect(await machine.process.write(fd, Uint8Array.of(0xff, 0, 0x0a))).toBe(3);
    expect(seen).toEqual(['\xff\0\n', true]);
    await machine.process.close(fd);
  });

  it('answer a write of nothing with 0, without asking the store', async () => {
    const { machine, dir } = machineWith();
    let stores = 0;
    dir.addFile({ name: 'file', mode: 0o200, store: () => stores++ });
    expect([await machine.echo('/sys/devices/it/file', ''), stores]).toEqual([0, 0]);
  });

  it('take a page at most, and what the store says that it took', async () => {
    const { machine, dir } = machineWith();
    dir.addFile({ name: 'all', mode: 0o200, store: () => {} });
    dir.addFile({ name: 'some', mode: 0o200, store: () => 2 });
    dir.addFile({
      name: 'none',
      mode: 0o200,
      store: (text) => Promise.reject(Object.assign(new Error(), { code: `E${text}` })),
    });
    expect(await machine.echo('/sys/devices/it/all', 'x'.repeat(5000))).toBe(4096);
    expect(await machine.echo('/sys/devices/it/some', 'xyz')).toBe(2);
    await expect(machine.echo('/sys/devices/it/none', 'X')).rejects.toThrow(errno('EX'));
  });

  it('show anew when read from the beginning, and go on with what was shown', async () => {
    const { machine, dir } = machineWith();
    let shows = 0;
    dir.addFile({ name: 'file', mode: 0o444, show: () => `${++shows}abc\n` });
    const fd = await machine.process.open('/sys/devices/it/file', O.RDONLY);
    const into = new Uint8Array(3);
    const read = async (): Promise<string> => {
      const count = await machine.process.read(fd, into);
      return Buffer.from(into.subarray(0, count)).toString();
    };
    expect([await read(), await read(), await read(), shows]).toEqual(['1ab', 'c\n', '', 1]);
    machine.process.lseek(fd, 0, 0);
    expect([await read(), shows]).toEqual(['2ab', 2]);
    expect(await machine.process.pread(fd, into, 1)).toBe(3);
    expect([Buffer.from(into).toString(), shows]).toEqual(['abc', 3]);
    await machine.process.close(fd);
  });

  it('show less than a page', async () => {
    const { machine, dir } = machineWith();
    for (const [length, shown] of [
      [4095, 4095],
      [4096, 4095],
      [9000, 4095],
    ] as const) {
      dir.addFile({ name: 'file', mode: 0o444, show: () => 'x'.repeat(length) });
      expect((await machine.cat('/sys/devices/it/file')).length).toBe(shown);
      dir.removeEntry('file');
    }
    expect(machine.host.log.entries.filter(({ text }) => text.includes('bad count'))).toHaveLength(2);
  });

  it('are ENODEV for those who have them open when they are removed', async () => {
    const { machine, dir } = machineWith();
    dir.addFile({ name: 'file', mode: 0o644, show: () => 'text\n', store: () => {} });
    const fd = await machine.process.open('/sys/devices/it/file', O.RDWR);
    const first = new Uint8Array(2);
    await machine.process.read(fd, first);
    dir.removeEntry('file');
    const rest = new Uint8Array(8);
    expect(await machine.process.read(fd, rest)).toBe(3);
    expect(() => machine.process.stat('/sys/devices/it/file')).toThrow(errno('ENOENT'));
    for (const gone of [
      () => machine.process.read(fd, rest),
      () => machine.process.pread(fd, rest, 0),
      () => machine.process.write(fd, first),
      () => machine.process.write(fd, new Uint8Array()),
    ]) {
      await expect(gone()).rejects.toThrow(errno('ENODEV'));
    }
    await machine.process.close(fd);
  });

  it('are found by one who opens what he found before the removal no more', () => {
    const { machine, dir } = machineWith();
    const file = dir.addFile(attribute('file'));
    dir.remove();
    expect(() => file.open(machine.process, O.RDONLY)).toThrow(errno('ENODEV'));
  });
});

describe('binary files', () => {
  it('are read and written at offsets, and end at their size', async () => {
    const { machine, dir } = machineWith();
    const bytes = Uint8Array.of(1, 2, 3, 4, 5, 6);
    dir.addFile({
      name: 'config',
      mode: 0o644,
      size: 6,
      read: (offset, length) => bytes.subarray(offset, offset + length),
      write: (offset, from) => bytes.set(from, offset),
    });
    expect(machine.process.stat('/sys/devices/it/config').size).toBe(6);
    const fd = await machine.process.open('/sys/devices/it/config', O.RDWR);
    const into = new Uint8Array(4);
    expect(await machine.process.pread(fd, into, 4)).toBe(2);
    expect([...into]).toEqual([5, 6, 0, 0]);
    expect(await machine.process.pread(fd, into, 6)).toBe(0);
    expect(await machine.process.pwrite(fd, Uint8Array.of(8, 9, 10), 4)).toBe(2);
    expect([...bytes]).toEqual([1, 2, 3, 4, 8, 9]);
    await expect(machine.process.pwrite(fd, into, 6)).rejects.toThrow(errno('EFBIG'));
    await machine.process.close(fd);
  });

  it('without size are as long as their owner says', async () => {
    const { machine, dir } = machineWith();
    const asked: number[] = [];
    dir.addFile({
      name: 'rom',
      mode: 0o600,
      size: 0,
      read: (offset, length) => {
        asked.push(offset, length);
        return new Uint8Array(offset < 5 ? 5 - offset : 0);
      },
    });
    const fd = await machine.process.open('/sys/devices/it/rom', O.RDWR);
    expect(await machine.process.read(fd, new Uint8Array(10000))).toBe(5);
    expect(await machine.process.read(fd, new Uint8Array(10))).toBe(0);
    expect(asked).toEqual([0, 4096, 5, 10]);
    await expect(machine.process.write(fd, new Uint8Array(1))).rejects.toThrow(errno('EIO'));
    await machine.process.close(fd);
  });
});

describe('groups', () => {
  it('put their files into the directory, or into one of their own', () => {
    const { machine, dir } = machineWith();
    const plain = { attributes: [attribute('a'), attribute('b')] };
    const named = {
      name: 'vendor',
      attributes: [attribute('c')],
      binAttributes: [{ name: 'd', mode: 0o400, size: 1 }],
    };
    dir.addGroups([plain, named]);
    expect(machine.ls('/sys/devices/it')).toEqual(['a', 'b', 'vendor/']);
    expect(machine.ls('/sys/devices/it/vendor')).toEqual(['c', 'd']);
    dir.removeGroups([plain, named]);
    expect(machine.ls('/sys/devices/it')).toEqual([]);
  });

  it('leave out what is not visible', () => {
    const { machine, dir } = machineWith();
    dir.addGroup({
      attributes: [attribute('a'), attribute('b')],
      isVisible: ({ name }) => (name === 'a' ? 0 : 0o400),
    });
    expect(machine.ls('/sys/devices/it')).toEqual(['b']);
    expect(machine.process.stat('/sys/devices/it/b').mode).toBe(0o400);
  });

  it('come all or not at all', () => {
    const { machine, dir } = machineWith();
    const taken = { name: 'last', attributes: [attribute('a')] };
    dir.mkdir('last');
    const groups = [{ attributes: [attribute('a')] }, { name: 'vendor', attributes: [attribute('b')] }, taken];
    expect(() => dir.addGroups(groups)).toThrow(errno('EEXIST'));
    expect(() => dir.addGroup({ attributes: [attribute('x'), attribute('last')] })).toThrow(errno('EEXIST'));
    expect(() => dir.addGroup({ name: 'g', attributes: [attribute('x'), attribute('x')] })).toThrow(errno('EEXIST'));
    expect(machine.ls('/sys/devices/it')).toEqual(['last/']);
  });

  it('are missed when they are removed and not there', () => {
    const { machine, dir } = machineWith();
    dir.removeGroup({ name: 'vendor', attributes: [] });
    expect(machine.host.log.warnings().map(({ text }) => text)).toEqual([
      "sysfs group 'vendor' not found for kobject 'it'",
    ]);
  });
});

describe('removal', () => {
  /** A file whose store waits. */
  function slow(): { machine: TestMachine; dir: SysfsDir; go: Completion; running: Promise<number> } {
    const { machine, dir } = machineWith();
    const go = new Completion(machine.host, 'go');
    dir.mkdir('sub').addFile({ name: 'slow', mode: 0o200, store: () => go.wait() });
    return { machine, dir, go, running: machine.echo('/sys/devices/it/sub/slow', '1') };
  }

  it.each<[string, (dir: SysfsDir) => SysfsDir]>([
    ['the file', (dir) => subOf(dir, (sub) => sub.removeEntry('slow'))],
    ['its directory', (dir) => subOf(dir, (sub) => sub.remove())],
    ['its directory, by name', (dir) => itself(dir, () => dir.removeEntry('sub'))],
    ['a directory above', (dir) => itself(dir, () => dir.remove())],
  ])('of %s waits for a store that runs', async (_, remove) => {
    const { machine, dir, go, running } = slow();
    await tick();
    const removed = remove(dir);
    expect(() => machine.process.stat('/sys/devices/it/sub/slow')).toThrow(errno('ENOENT'));
    let drained = false;
    const waiting = removed.drained().then(() => {
      drained = true;
    });
    await tick();
    expect(drained).toBe(false);
    go.completeAll();
    expect(await running).toBe(1);
    await waiting;
    await removed.drained();
  });

  it('keeps the name until the store has returned', async () => {
    const { dir, go, running } = slow();
    await tick();
    const sub = dir.lookup('sub');
    dir.removeEntry('sub');
    expect(() => dir.mkdir('sub')).toThrow(errno('EEXIST'));
    go.completeAll();
    await running;
    expect(dir.mkdir('sub')).not.toBe(sub);
  });

  it('of a link or of nothing is at once', async () => {
    const { machine, dir } = machineWith();
    dir.addLink('link', machine.sysfs.bus);
    dir.removeEntry('link');
    dir.removeEntry('link');
    await dir.drained();
    expect(dir.empty).toBe(true);
  });
});

describe('removeSelf', () => {
  /** A file that removes itself and then waits. */
  function suicidal() {
    const { machine, dir } = machineWith();
    const start = new Completion(machine.host, 'start');
    const go = new Completion(machine.host, 'go');
    const journal: string[] = [];
    const file: SysfsFile = dir.addFile({
      name: 'remove',
      mode: 0o200,
      store: async (text) => {
        await start.wait();
        const won = await dir.removeSelf(file);
        journal.push(`${text} ${won ? 'won' : 'lost'}`);
        if (won) await go.wait();
        journal.push(`${text} returns`);
      },
    });
    return { machine, dir, start, go, journal };
  }

  it('lets one of those who try at the same time do it, and the others wait for its end', async () => {
    const { machine, dir, start, go, journal } = suicidal();
    const writers = ['a', 'b', 'c'].map((who) => machine.echo('/sys/devices/it/remove', who));
    await tick();
    const late = await machine.process.open('/sys/devices/it/remove', O.WRONLY);
    start.completeAll();
    await tick();
    expect(journal).toEqual(['a won']);
    await expect(machine.echo('/sys/devices/it/remove', 'd')).rejects.toThrow(errno('ENOENT'));
    await expect(machine.process.write(late, new Uint8Array(1))).rejects.toThrow(errno('ENODEV'));
    // Whoever removes the directory does not wait for the one that removes itself.
    dir.remove();
    await dir.drained();
    go.completeAll();
    expect(await Promise.all(writers)).toEqual([1, 1, 1]);
    // Who of the others comes first is open.
    expect(journal.slice(0, 2)).toEqual(['a won', 'a returns']);
    expect(journal.slice(2).sort()).toEqual(['b lost', 'b returns', 'c lost', 'c returns']);
  });

  it('waits for those who are busy in the file and do not try', async () => {
    const { machine, dir } = machineWith();
    const reading = new Completion(machine.host, 'reading');
    const file: SysfsFile = dir.addFile({
      name: 'both',
      mode: 0o644,
      show: async () => {
        await reading.wait();
        return 'text';
      },
      store: async () => {
        expect(await dir.removeSelf(file)).toBe(true);
      },
    });
    const shown = machine.cat('/sys/devices/it/both');
    await tick();
    let stored = false;
    const storing = machine.echo('/sys/devices/it/both', '1').then(() => {
      stored = true;
    });
    await tick();
    expect([stored, dir.empty]).toEqual([false, true]);
    reading.completeAll();
    await storing;
    // The reader goes on to the end of the file, and finds it gone.
    await expect(shown).rejects.toThrow(errno('ENODEV'));
  });
});

describe('an open file', () => {
  const value = { name: 'value', mode: 0o644, show: () => 'some text\n', store: () => {} };

  async function opened(flags: number = O.RDWR) {
    const { machine, dir } = machineWith();
    dir.addFile(value);
    const fd = await machine.process.open('/sys/devices/it/value', flags);
    return { dir, fd, process: machine.process };
  }

  it('has its end where stat says', async () => {
    const { process, fd, dir } = await opened();
    expect(process.lseek(fd, 0, Seek.END)).toBe(4096);
    expect(process.lseek(fd, -4090, Seek.CUR)).toBe(6);
    dir.addFile({ name: 'bytes', mode: 0o400, size: 300, read: () => new Uint8Array(1) });
    expect(process.lseek(await process.open('/sys/devices/it/bytes', O.RDONLY), -1, Seek.END)).toBe(299);
    expect(process.lseek(await process.open('/sys/devices/it', O.RDONLY), 0, Seek.END)).toBe(0);
  });

  it('takes no notice of O_APPEND, as far as positions go', async () => {
    const { process, fd } = await opened(O.WRONLY | O.APPEND);
    expect(await process.write(fd, new Uint8Array(3))).toBe(3);
    expect(process.lseek(fd, 0, Seek.CUR)).toBe(3);
  });

  it('is exceptional to who polls, until it is read and once it is gone', async () => {
    const { process, fd, dir } = await opened();
    const events = Poll.IN | Poll.OUT | Poll.PRI;
    const poll = async () => (await process.poll([{ fd, events }], 0))[0];
    expect(await poll()).toBe(events | Poll.ERR);
    await process.write(fd, new Uint8Array(1));
    expect(await poll()).toBe(events | Poll.ERR);
    await process.pread(fd, new Uint8Array(1), 0);
    expect(await poll()).toBe(Poll.IN | Poll.OUT);
    dir.removeEntry('value');
    expect(await poll()).toBe(events | Poll.ERR);
  });

  it('is not looked at for no bytes', async () => {
    const { process, fd, dir } = await opened();
    dir.removeEntry('value');
    expect(await process.read(fd, new Uint8Array(0))).toBe(0);
    await expect(process.read(fd, new Uint8Array(1))).rejects.toThrow(errno('ENODEV'));
  });
});

function itself(dir: SysfsDir, fn: () => void): SysfsDir {
  fn();
  return dir;
}

function subOf(dir: SysfsDir, fn: (sub: SysfsDir) => void): SysfsDir {
  const sub = dir.lookup('sub');
  if (sub?.kind !== 'dir') throw new Error('no sub');
  fn(sub);
  return sub;
}
