import { chmodSync, mkdirSync, statSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  controlDirectory,
  knownSockets,
  machineName,
  prepareDirectory,
  socketPath,
} from '../src/control/socket-path.js';
import { temporaryFolder, writeIn } from './lab.js';

const uid = process.getuid?.();

describe('controlDirectory', () => {
  it.each([
    [{ XDG_RUNTIME_DIR: '/run/user/7', TMPDIR: '/var/tmp' }, `/run/user/7/vfio-${uid}`],
    [{ TMPDIR: '/var/tmp' }, `/var/tmp/vfio-${uid}`],
    [{ XDG_RUNTIME_DIR: '', TMPDIR: '/var/tmp' }, `/var/tmp/vfio-${uid}`],
  ])('%j gives %s', (env, directory) => {
    expect(controlDirectory(env)).toBe(directory);
  });
});

describe('prepareDirectory', () => {
  it('makes one that only its user can enter, and takes it again', () => {
    const directory = join(temporaryFolder(), 'a', 'b');
    prepareDirectory(directory);
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    expect(() => prepareDirectory(directory)).not.toThrow();
  });

  it('refuses one that others can enter, and a link to one', () => {
    const folder = temporaryFolder();
    const open = join(folder, 'open');
    mkdirSync(open);
    chmodSync(open, 0o755);
    expect(() => prepareDirectory(open)).toThrow('must be a directory of yours with mode 0700');
    chmodSync(open, 0o700);
    symlinkSync(open, join(folder, 'link'));
    expect(() => prepareDirectory(join(folder, 'link'))).toThrow('must be a directory of yours with mode 0700');
  });
});

describe('socketPath', () => {
  const env = { XDG_RUNTIME_DIR: '/run/user/7' };

  it('is named after the machine', () => {
    expect(socketPath(env, 'lab-1.x')).toBe(`/run/user/7/vfio-${uid}/lab-1.x.sock`);
    expect(machineName(socketPath(env, 'lab'))).toBe('lab');
  });

  it.each(['', '.', '..', '../x', 'a/b', '-x', 'two words', 'a\0b'])('refuses the name %j', (name) => {
    expect(() => socketPath(env, name)).toThrow(expect.objectContaining({ exitCode: 2 }));
  });

  it('refuses a path that no socket can have', () => {
    expect(() => socketPath({ XDG_RUNTIME_DIR: `/${'x'.repeat(100)}` }, 'lab')).toThrow('107 bytes');
  });
});

describe('knownSockets', () => {
  it('lists what is there in order, and nothing where there is no directory', () => {
    const env = { XDG_RUNTIME_DIR: temporaryFolder() };
    expect(knownSockets(env)).toEqual([]);
    const directory = controlDirectory(env);
    prepareDirectory(directory);
    for (const name of ['b.sock', 'a.sock', 'a.log']) writeIn(directory, name, '');
    expect(knownSockets(env)).toEqual([join(directory, 'a.sock'), join(directory, 'b.sock')]);
  });
});
