import { describe, expect, it } from 'vitest';
import { O } from '../src/index.js';
import { createLab, errno, TestFile } from './process-lab.js';

const node = (path: string, more = {}) => ({
  path,
  mode: 0o600,
  major: 244,
  minor: 2,
  open: (_: unknown, flags: number) => new TestFile({}, { flags, label: `/dev/${path}` }),
  ...more,
});

describe('Devtmpfs.add', () => {
  it('makes a node with the directories above it, and takes them away again', () => {
    const { devtmpfs, init } = createLab();
    const a = devtmpfs.add(node('vfio/devices/vfio0'));
    const b = devtmpfs.add(node('vfio/2'));
    expect(init.lstat('/dev/vfio')).toMatchObject({ kind: 'dir', mode: 0o755, uid: 0, gid: 0 });
    expect(init.stat('/dev/vfio/2')).toMatchObject({ kind: 'char', mode: 0o600, rdev: { major: 244, minor: 2 } });
    expect(init.readdir('/dev/vfio')).toEqual([
      { name: 'devices', kind: 'dir' },
      { name: '2', kind: 'char' },
    ]);
    a.remove();
    expect(init.readdir('/dev/vfio')).toEqual([{ name: '2', kind: 'char' }]);
    b.remove();
    b.remove();
    expect(init.readdir('/dev')).toEqual([{ name: 'null', kind: 'char' }]);
  });

  it('is EEXIST for a path that is there, ENOTDIR below a node, and leaves nothing', () => {
    const { devtmpfs, init } = createLab();
    devtmpfs.add(node('vfio/2'));
    expect(() => devtmpfs.add(node('vfio/2'))).toThrow(errno('EEXIST'));
    expect(() => devtmpfs.add(node('null/2'))).toThrow(errno('ENOTDIR'));
    expect(() => devtmpfs.add(node('vfio/2/new/one'))).toThrow(errno('ENOTDIR'));
    expect(init.readdir('/dev/vfio')).toHaveLength(1);
  });

  it('is ENOMEM on a fault, with nothing made', () => {
    const { devtmpfs, host, init } = createLab();
    host.faults.failOn('devtmpfs_create_node:vfio/2');
    expect(() => devtmpfs.add(node('vfio/2'))).toThrow(errno('ENOMEM'));
    expect(init.readdir('/dev')).toHaveLength(1);
  });
});

describe('a node of /dev', () => {
  it('opens for who may, and its mode and owner can be changed', async () => {
    const { devtmpfs, init, processes } = createLab();
    devtmpfs.add(node('vfio/2'));
    const user = processes.spawn({ uid: 1000 });
    await expect(user.open('/dev/vfio/2', O.RDWR)).rejects.toEqual(errno('EACCES'));
    init.chmod('/dev/vfio/2', 0o666);
    const fd = await user.open('/dev/vfio/2', O.RDWR);
    expect(user.fstat(fd)).toEqual(user.stat('/dev/vfio/2'));
    init.chmod('/dev/vfio/2', 0o600);
    init.chown('/dev/vfio/2', 1000, -1);
    await user.open('/dev/vfio/2', O.RDWR);
  });

  it('is ENOENT when it is gone, and stays open for who has it', async () => {
    const { devtmpfs, init } = createLab();
    const made = devtmpfs.add(node('vfio/2'));
    const fd = await init.open('/dev/vfio/2', O.RDWR);
    expect(init.readlink(`/proc/self/fd/${fd}`)).toBe('/dev/vfio/2');
    made.remove();
    await expect(init.open('/dev/vfio/2', O.RDWR)).rejects.toEqual(errno('ENOENT'));
    expect(init.fstat(fd).kind).toBe('char');
    expect(init.readlink(`/proc/self/fd/${fd}`)).toBe('/dev/vfio/2 (deleted)');
    await init.close(fd);
  });

  it('is ENXIO for who finds it through a descriptor when it is gone', async () => {
    const { devtmpfs, init } = createLab();
    const made = devtmpfs.add(node('vfio/2'));
    const fd = await init.open('/dev/vfio/2', O.PATH);
    await init.open(`/proc/self/fd/${fd}`, O.RDWR);
    made.remove();
    await expect(init.open(`/proc/self/fd/${fd}`, O.RDWR)).rejects.toEqual(errno('ENXIO'));
  });

  it('opens what its numbers say when nothing else is said', async () => {
    const { devtmpfs, chrdevs, init } = createLab();
    devtmpfs.add({ path: 'thing', major: 240, minor: 5 });
    expect(init.stat('/dev/thing').mode).toBe(0o600);
    await expect(init.open('/dev/thing', O.RDWR)).rejects.toEqual(errno('ENXIO'));
    const cdev = chrdevs.add(
      240,
      4,
      2,
      (_process, flags, { minor }) => new TestFile({}, { flags, label: `minor ${minor}` }),
    );
    const fd = await init.open('/dev/thing', O.RDWR);
    expect(init.files.get(fd).label).toBe('minor 5');
    cdev.remove();
    await expect(init.open('/dev/thing', O.RDWR)).rejects.toEqual(errno('ENXIO'));
  });
});

describe('/dev/null', () => {
  it('has nothing to read and takes everything', async () => {
    const { init, processes } = createLab();
    const user = processes.spawn({ uid: 1000 });
    const fd = await user.open('/dev/null', O.RDWR);
    expect(user.read(fd, new Uint8Array(8))).toBe(0);
    expect(user.write(fd, new Uint8Array(8))).toBe(8);
    expect(user.write(fd, { addr: 8n, length: 5 })).toBe(5);
    expect(user.lseek(fd, 100, 0)).toBe(0);
    await expect(user.mmap(fd, { length: 1, prot: 1 })).rejects.toEqual(errno('ENODEV'));
    expect(init.stat('/dev/null')).toMatchObject({ mode: 0o666, rdev: { major: 1, minor: 3 } });
  });
});
