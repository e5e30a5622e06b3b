import { describe, expect, it } from 'vitest';
import { O, type VfsNode } from '../src/index.js';
import { createLab, errno } from './process-lab.js';

const link = (target: string): VfsNode => ({ kind: 'link', mode: 0o777, uid: 0, gid: 0, target: () => target });

function setUp() {
  const lab = createLab();
  const { root, init } = lab;
  const etc = root.mkdir('etc');
  const inner = etc.mkdir('inner');
  const file = inner.create('file', 0o644, init);
  return { ...lab, etc, inner, file, user: lab.processes.spawn({ uid: 1000 }) };
}

describe('Vfs.resolve', () => {
  it('walks names, dots and slashes, and tells the path', () => {
    const { vfs, init, file, root } = setUp();
    for (const path of [
      '/etc/inner/file',
      'etc//inner/./file',
      '/../etc/inner/../inner/file',
      '/dev/../etc/inner/file',
    ]) {
      expect(vfs.resolve(init, path)).toEqual({ node: file, path: '/etc/inner/file' });
    }
    expect(vfs.resolve(init, '/')).toEqual({ node: root, path: '/' });
  });

  it('follows links, relative and absolute, the last one if asked', () => {
    const { vfs, init, etc, inner, file } = setUp();
    etc.add('relative', link('inner/file'));
    inner.add('absolute', link('/etc/relative'));
    etc.add('directory', link('./inner/../inner'));
    expect(vfs.resolve(init, '/etc/inner/absolute')).toEqual({ node: file, path: '/etc/inner/file' });
    expect(vfs.resolve(init, '/etc/directory/file').path).toBe('/etc/inner/file');
    expect(vfs.resolve(init, '/etc/directory', { follow: false }).path).toBe('/etc/directory');
    expect(vfs.resolve(init, '/etc/directory/', { follow: false }).path).toBe('/etc/inner');
  });

  it.each([
    ['ENOENT', ''],
    ['ENOENT', '/none'],
    ['ENOENT', '/none/file'],
    ['ENOTDIR', '/etc/inner/file/more'],
    ['ENOTDIR', '/etc/inner/file/'],
    ['ENOTDIR', '/etc/inner/file/..'],
    ['ENAMETOOLONG', `/${'a'.repeat(256)}`],
    ['ENAMETOOLONG', '/.'.repeat(2048)],
  ])('is %s for %s', (code, path) => {
    const { vfs, init } = setUp();
    expect(() => vfs.resolve(init, path)).toThrow(errno(code));
  });

  it('is ELOOP after 40 links, not before', () => {
    const { vfs, init, etc, file } = setUp();
    etc.add('link0', link('inner/file'));
    for (let i = 1; i <= 40; i++) etc.add(`link${i}`, link(`link${i - 1}`));
    expect(vfs.resolve(init, '/etc/link39').node).toBe(file);
    expect(() => vfs.resolve(init, '/etc/link40')).toThrow(errno('ELOOP'));
    etc.add('round', link('round'));
    expect(() => vfs.resolve(init, '/etc/round')).toThrow(errno('ELOOP'));
  });

  it('is EACCES through a directory that may not be searched', () => {
    const { vfs, init, user, inner } = setUp();
    inner.setMode(0o600);
    expect(() => vfs.resolve(user, '/etc/inner/file')).toThrow(errno('EACCES'));
    expect(() => vfs.resolve(user, '/etc/inner/none')).toThrow(errno('EACCES'));
    expect(vfs.resolve(user, '/etc/inner').node).toBe(inner);
    expect(vfs.resolve(init, '/etc/inner/file').path).toBe('/etc/inner/file');
    inner.setMode(0o711);
    expect(vfs.resolve(user, '/etc/inner/file').path).toBe('/etc/inner/file');
  });
});

describe('Vfs.mount', () => {
  it('covers a directory, once', () => {
    const { vfs, init, etc, devtmpfs } = setUp();
    vfs.mount('/etc/inner', devtmpfs.root);
    expect(vfs.resolve(init, '/etc/inner/null').node.kind).toBe('char');
    expect(vfs.resolve(init, '/etc/inner/..').node).toBe(etc);
    expect(() => vfs.mount('/etc/inner', devtmpfs.root)).toThrow(errno('EBUSY'));
    expect(() => vfs.mount('/none', devtmpfs.root)).toThrow(errno('ENOENT'));
    expect(() => vfs.mount('/dev/null', devtmpfs.root)).toThrow(errno('ENOTDIR'));
  });
});

describe('Process.open', () => {
  it('gives the lowest descriptor, with the flags that stay', async () => {
    const { init } = setUp();
    const fd = await init.open('/etc/inner/file', O.RDWR | O.CREAT | O.TRUNC | O.NONBLOCK | O.CLOEXEC);
    expect(fd).toBe(0);
    expect(init.files.isCloexec(fd)).toBe(true);
    expect(init.files.get(fd)).toMatchObject({ flags: O.RDWR | O.NONBLOCK | O.LARGEFILE, label: '/etc/inner/file' });
  });

  it('is EMFILE before the path is looked at, and gives the number back on failure', async () => {
    const { init } = setUp();
    await expect(init.open('/none', O.RDONLY)).rejects.toEqual(errno('ENOENT', { syscall: 'open', subject: '/none' }));
    expect(await init.open('/dev/null', O.RDONLY)).toBe(0);
    init.setrlimit('nofile', 1);
    await expect(init.open('/none', O.RDONLY)).rejects.toEqual(errno('EMFILE'));
  });

  it.each([
    [0o600, 0, 0, 'EACCES', 'EACCES'],
    [0o604, 0, 0, 'ok', 'EACCES'],
    [0o660, 0, 1000, 'ok', 'ok'],
    [0o606, 0, 1000, 'EACCES', 'EACCES'], // the group decides, not the others
    [0o066, 1000, 1000, 'EACCES', 'EACCES'], // the owner decides
    [0o400, 1000, 0, 'ok', 'EACCES'],
  ])('asks mode %o of %i:%i: reading %s, writing %s', async (mode, uid, gid, read, write) => {
    const { user, file } = setUp();
    file.setMode(mode);
    file.setOwner(uid, gid);
    for (const [flags, answer] of [
      [O.RDONLY, read],
      [O.WRONLY, write],
      [O.RDWR, read === 'ok' ? write : read],
    ] as const) {
      const opened = user.open('/etc/inner/file', flags);
      if (answer === 'ok') await opened;
      else await expect(opened).rejects.toEqual(errno(answer));
    }
  });

  it('lets a supplementary group in, and CAP_DAC_OVERRIDE', async () => {
    const { processes, file } = setUp();
    file.setMode(0o060);
    file.setOwner(0, 77);
    const member = processes.spawn({ uid: 1000, groups: [77] });
    await member.open('/etc/inner/file', O.RDWR);
    const stranger = processes.spawn({ uid: 1000 });
    await expect(stranger.open('/etc/inner/file', O.RDWR)).rejects.toEqual(errno('EACCES'));
    stranger.credentials.capabilities.add('DAC_READ_SEARCH');
    await stranger.open('/etc/inner/file', O.RDONLY);
    await expect(stranger.open('/etc/inner/file', O.RDWR)).rejects.toEqual(errno('EACCES'));
    stranger.credentials.capabilities.add('DAC_OVERRIDE');
    await stranger.open('/etc/inner/file', O.RDWR);
  });

  it('opens a directory for reading only, and has nothing to read in it', async () => {
    const { init } = setUp();
    for (const flags of [O.WRONLY, O.RDWR, O.RDONLY | O.CREAT]) {
      await expect(init.open('/etc', flags)).rejects.toEqual(errno('EISDIR'));
    }
    const fd = await init.open('/etc', O.RDONLY | O.DIRECTORY);
    expect(() => init.read(fd, new Uint8Array(1))).toThrow(errno('EISDIR'));
    expect(() => init.write(fd, new Uint8Array(1))).toThrow(errno('EBADF'));
    await expect(init.open('/dev/null', O.RDONLY | O.DIRECTORY)).rejects.toEqual(errno('ENOTDIR'));
  });

  it('is ELOOP for a link with O_NOFOLLOW', async () => {
    const { init, etc } = setUp();
    etc.add('link', link('inner/file'));
    await expect(init.open('/etc/link', O.RDONLY | O.NOFOLLOW)).rejects.toEqual(errno('ELOOP'));
    await init.open('/etc/link', O.RDONLY);
  });

  it('makes files where that is possible, by umask and owner', async () => {
    const { user, init, procfs } = setUp();
    await user.open('/tmp/new', O.WRONLY | O.CREAT, 0o666);
    expect(user.stat('/tmp/new')).toMatchObject({ kind: 'file', mode: 0o644, uid: 1000, gid: 1000, size: 0 });
    await expect(user.open('/etc/new', O.WRONLY | O.CREAT, 0o666)).rejects.toEqual(errno('EACCES'));
    await expect(init.open('/proc/new', O.WRONLY | O.CREAT)).rejects.toEqual(errno('EACCES'));
    await expect(init.open('/tmp/new', O.WRONLY | O.CREAT | O.EXCL)).rejects.toEqual(errno('EEXIST'));
    await expect(init.open('/tmp/other/', O.WRONLY | O.CREAT)).rejects.toEqual(errno('EISDIR'));
    await expect(init.open('/tmp/a/b', O.WRONLY | O.CREAT)).rejects.toEqual(errno('ENOENT'));
    await expect(init.open('/tmp', O.RDONLY | O.CREAT | O.DIRECTORY)).rejects.toEqual(errno('EINVAL'));
    expect(procfs.root.list?.(init)).not.toContain('new');
  });

  it('makes what a link points to, but not through O_EXCL', async () => {
    const { init, tmp } = setUp();
    tmp.add('link', link('target'));
    await expect(init.open('/tmp/link', O.WRONLY | O.CREAT | O.EXCL)).rejects.toEqual(errno('EEXIST'));
    await init.open('/tmp/link', O.WRONLY | O.CREAT, 0o600);
    expect(init.stat('/tmp/target').mode).toBe(0o600);
  });

  it('cuts a file with O_TRUNC, for who may write it', async () => {
    const { init, user, file } = setUp();
    await init.writeFile('/etc/inner/file', 'text');
    await expect(user.open('/etc/inner/file', O.RDONLY | O.TRUNC)).rejects.toEqual(errno('EACCES'));
    expect(file.size).toBe(4);
    await init.open('/etc/inner/file', O.RDONLY | O.TRUNC);
    expect(file.size).toBe(0);
  });

  it('is ENXIO for a node with nothing behind it', async () => {
    const { init, etc } = setUp();
    etc.add('node', { kind: 'char', mode: 0o666, uid: 0, gid: 0 });
    await expect(init.open('/etc/node', O.RDONLY)).rejects.toEqual(errno('ENXIO'));
  });
});

describe('a descriptor opened with O_PATH', () => {
  it('needs no permission, and can be duplicated, closed and looked at, nothing else', async () => {
    const { user, file } = setUp();
    file.setMode(0);
    const fd = await user.open('/etc/inner/file', O.PATH | O.RDWR | O.CREAT);
    const copy = user.dup(fd);
    expect(user.fstat(copy)).toEqual(user.stat('/etc/inner/file'));
    expect(user.readlink(`/proc/self/fd/${fd}`)).toBe('/etc/inner/file');
    expect(() => user.lseek(fd, 0, 0)).toThrow(errno('EBADF'));
    await expect(user.mmap(fd, { length: 1, prot: 1 })).rejects.toEqual(errno('EBADF'));
    await user.close(fd);
    await user.close(copy);
  });

  it('holds the link itself with O_NOFOLLOW', async () => {
    const { init, etc } = setUp();
    etc.add('link', link('nowhere'));
    const fd = await init.open('/etc/link', O.PATH | O.NOFOLLOW);
    expect(init.fstat(fd).kind).toBe('link');
  });
});

describe('Process.stat', () => {
  it('follows links, lstat does not, and numbers stay', () => {
    const { init, etc } = setUp();
    etc.add('link', link('inner/file'));
    const stat = init.stat('/etc/link');
    expect(stat).toEqual({ ino: expect.any(Number), kind: 'file', mode: 0o644, uid: 0, gid: 0, size: 0 });
    expect(init.stat('/etc/inner/file')).toEqual(stat);
    expect(init.lstat('/etc/link')).toMatchObject({ kind: 'link', mode: 0o777 });
    expect(init.lstat('/etc/link').ino).not.toBe(stat.ino);
    expect(() => init.stat('/none')).toThrow(errno('ENOENT', { syscall: 'stat', subject: '/none' }));
  });
});

describe('Process.readdir', () => {
  it('lists names with kinds', () => {
    const { init, user, etc } = setUp();
    etc.add('link', link('nowhere'));
    expect(init.readdir('/etc')).toEqual([
      { name: 'inner', kind: 'dir' },
      { name: 'link', kind: 'link' },
    ]);
    expect(() => init.readdir('/etc/inner/file')).toThrow(errno('ENOTDIR'));
    etc.setMode(0o711);
    expect(() => user.readdir('/etc')).toThrow(errno('EACCES', { syscall: 'getdents64' }));
  });
});

describe('Process.readlink', () => {
  it('gives the text of a link, and EINVAL for all else', () => {
    const { init, etc } = setUp();
    etc.add('link', link('../nowhere'));
    expect(init.readlink('/etc/link')).toBe('../nowhere');
    expect(() => init.readlink('/etc')).toThrow(errno('EINVAL'));
  });
});

describe('Process.chmod and chown', () => {
  it('are for the owner, CAP_FOWNER and CAP_CHOWN', () => {
    const { init, user, processes, file } = setUp();
    const path = '/etc/inner/file';
    expect(() => user.chmod(path, 0o666)).toThrow(errno('EPERM', { syscall: 'chmod', subject: path }));
    init.chown(path, 1000, -1);
    expect([file.uid, file.gid]).toEqual([1000, 0]);
    user.chmod(path, 0o107777);
    expect(file.mode).toBe(0o7777);
    expect(() => user.chown(path, 0, -1)).toThrow(errno('EPERM'));
    expect(() => user.chown(path, -1, 5)).toThrow(errno('EPERM'));
    user.chown(path, -1, 1000);
    const member = processes.spawn({ uid: 1000, groups: [5] });
    member.chown(path, 1000, 5);
    expect([file.uid, file.gid]).toEqual([1000, 5]);
  });

  it('are EPERM where the file system has no such thing', () => {
    const { init } = setUp();
    expect(() => init.chmod('/proc/self/status', 0o777)).toThrow(errno('EPERM'));
    expect(() => init.chown('/proc/self/status', 1, 1)).toThrow(errno('EPERM'));
  });
});

describe('Process.readFile and writeFile', () => {
  it('read to the end, write once', async () => {
    const { init } = setUp();
    const text = 'a line\n'.repeat(20000);
    expect(await init.writeFile('/etc/inner/file', text)).toBe(text.length);
    expect(await init.readFile('/etc/inner/file')).toBe(text);
    expect(await init.writeFile('/etc/inner/file', 'A')).toBe(1);
    expect((await init.readFile('/etc/inner/file')).slice(0, 4)).toBe('A li');
  });

  it('say whether opening or reading failed', async () => {
    const { init, user, file } = setUp();
    file.setMode(0o600);
    await expect(user.readFile('/etc/inner/file')).rejects.toEqual(errno('EACCES', { syscall: 'open' }));
    await expect(init.readFile('/etc')).rejects.toEqual(errno('EISDIR', { syscall: 'read' }));
    await expect(init.writeFile('/proc/self/limits', 'x')).rejects.toEqual(errno('EIO', { syscall: 'write' }));
  });
});

describe('a tmpfs file', () => {
  it('has holes, an end, and appends', async () => {
    const { init } = setUp();
    const fd = await init.open('/tmp/f', O.RDWR | O.CREAT | O.APPEND, 0o600);
    expect(init.pwrite(fd, Uint8Array.of(1, 2), 0)).toBe(2);
    expect(init.pwrite(fd, Uint8Array.of(3), 0)).toBe(1);
    const other = await init.open('/tmp/f', O.RDWR);
    expect(init.pwrite(other, Uint8Array.of(9), 5)).toBe(1);
    expect(init.write(fd, Uint8Array.of(4))).toBe(1);
    expect(init.lseek(fd, 0, 1)).toBe(7);
    const bytes = new Uint8Array(10);
    expect(init.pread(other, bytes, 0)).toBe(7);
    expect([...bytes.subarray(0, 7)]).toEqual([1, 2, 3, 0, 0, 9, 4]);
    expect(init.lseek(other, 0, 2)).toBe(7);
    expect(() => init.pwrite(other, bytes, 2 ** 31)).toThrow(errno('EFBIG'));
    expect(() => init.pread(other, { addr: 8n, length: 4 }, 0)).toThrow(errno('EFAULT'));
  });
});
