import { describe, expect, it } from 'vitest';
import { O, PAGE_SIZE, Prot, RLIM_INFINITY, Seek } from '../src/index.js';
import { createLab, errno, TestFile } from './process-lab.js';

describe('/proc', () => {
  it('has a directory for each process, and self', async () => {
    const { init, processes } = createLab();
    const other = processes.spawn({ comm: 'other' });
    expect(
      init
        .readdir('/proc')
        .filter(({ kind }) => kind === 'dir')
        .map(({ name }) => name),
    ).toEqual(['1', '2']);
    expect(init.readlink('/proc/self')).toBe('1');
    expect(await other.readFile('/proc/self/comm')).toBe('other\n');
    expect(await init.readFile('/proc/2/comm')).toBe('other\n');
    expect(() => init.stat('/proc/02')).toThrow(errno('ENOENT'));
    await other.exit();
    expect(() => init.stat('/proc/2')).toThrow(errno('ENOENT'));
  });

  it('has the files that are added', async () => {
    const { init, procfs } = createLab();
    {
      using _modules = procfs.addFile('modules', (process) => `for ${process.pid}\n`);
      expect(await init.readFile('/proc/modules')).toBe('for 1\n');
    }
    await expect(init.readFile('/proc/modules')).rejects.toEqual(errno('ENOENT'));
  });

  it('makes a text when it is read from the start, or from where no read ended', async () => {
    const { init, procfs } = createLab();
    let made = 0;
    procfs.addFile('counter', () => `text ${++made}\n`);
    const fd = await init.open('/proc/counter', O.RDONLY);
    const read = (length: number, offset?: number) => {
      const into = new Uint8Array(length);
      const count = offset === undefined ? init.read(fd, into) : init.pread(fd, into, offset);
      return new TextDecoder().decode(into.subarray(0, Number(count)));
    };
    expect([read(0), read(3, 5), read(3, 6), read(2), read(9), read(9), made]).toEqual([
      '',
      '1\n',
      '\n',
      'te',
      'xt 3\n',
      '',
      3,
    ]);
    expect(() => init.lseek(fd, 0, Seek.END)).toThrow(errno('EINVAL'));
    expect(() => init.lseek(fd, -8, Seek.CUR)).toThrow(errno('EINVAL'));
    expect(init.lseek(fd, -2, Seek.CUR)).toBe(5);
    expect(read(9)).toBe('4\n');
    const addr = init.mm.mmap({ length: PAGE_SIZE, prot: Prot.READ | Prot.WRITE });
    expect(init.pread(fd, { addr: addr + BigInt(PAGE_SIZE - 2), length: 9 }, 0)).toBe(2);
    expect(() => init.pread(fd, { addr: addr + BigInt(PAGE_SIZE), length: 9 }, 0)).toThrow(errno('EFAULT'));
  });
});

describe('/proc/<pid>/fd', () => {
  it('links to what is open, with the access as mode', async () => {
    const { init } = createLab();
    const fd = init.files.add(new TestFile({}, { label: 'anon_inode:[vfio-device]' }));
    const readOnly = await init.open('/dev/null', O.RDONLY);
    expect(init.readlink(`/proc/self/fd/${fd}`)).toBe('anon_inode:[vfio-device]');
    expect(init.readlink(`/proc/1/fd/${readOnly}`)).toBe('/dev/null');
    expect(init.readdir('/proc/self/fd')).toEqual([
      { name: '0', kind: 'link' },
      { name: '1', kind: 'link' },
    ]);
    expect([init.lstat('/proc/self/fd/0').mode, init.lstat('/proc/self/fd/1').mode]).toEqual([0o700, 0o500]);
    for (const name of ['2', '-1', '00', '']) {
      expect(() => init.readlink(`/proc/self/fd/${name || 'x'}`)).toThrow(errno('ENOENT'));
    }
  });

  it('opens the file anew, but not an anonymous inode', async () => {
    const { init } = createLab();
    const fd = await init.open('/tmp/file', O.RDWR | O.CREAT, 0o600);
    await init.write(fd, Uint8Array.of(1, 2));
    const again = await init.open(`/proc/self/fd/${fd}`, O.RDWR);
    expect(init.read(again, new Uint8Array(8))).toBe(2);
    expect(init.readlink(`/proc/self/fd/${again}`)).toBe('/tmp/file');
    const anonymous = init.files.add(new TestFile({}));
    await expect(init.open(`/proc/self/fd/${anonymous}`, O.RDWR)).rejects.toEqual(errno('ENXIO'));
    expect(init.stat(`/proc/self/fd/${anonymous}`)).toMatchObject({ kind: 'file', mode: 0o600 });
  });

  it('is closed to other users', () => {
    const { init, processes } = createLab();
    init.files.add(new TestFile({}));
    const user = processes.spawn({ uid: 1000 });
    expect(() => user.readlink('/proc/1/fd/0')).toThrow(errno('EACCES'));
    expect(() => user.readdir('/proc/1/fd')).toThrow(errno('EACCES'));
    expect(user.readdir('/proc/self/fd')).toEqual([]);
  });
});

describe('/proc/<pid>/fdinfo', () => {
  it('tells position and flags, then what the file adds', async () => {
    const { init } = createLab();
    const file = new TestFile({ fdinfo: () => ['vfio-device-syspath: /sys/devices/x'] }, { flags: O.RDWR });
    const fd = init.files.add(file, { cloexec: true });
    file.position = 12;
    expect(await init.readFile(`/proc/self/fdinfo/${fd}`)).toBe(
      'pos:\t12\nflags:\t02000002\nmnt_id:\t0\nino:\t0\nvfio-device-syspath: /sys/devices/x\n',
    );
    const opened = await init.open('/dev/null', O.RDONLY | O.NONBLOCK);
    const { ino } = init.stat('/dev/null');
    expect(await init.readFile(`/proc/self/fdinfo/${opened}`)).toBe(
      `pos:\t0\nflags:\t0104000\nmnt_id:\t0\nino:\t${ino}\n`,
    );
  });
});

describe('/proc/<pid>/status', () => {
  it('tells who the process is and what it has locked', async () => {
    const { init } = createLab();
    const child = init.fork('a-name-that-is-too-long');
    child.mm.mmap({ length: 8 * PAGE_SIZE, prot: Prot.READ });
    child.mm.accountLocked(3, undefined);
    child.mm.accountPinned(2);
    child.setgroups([4, 5]);
    child.setuid(1000);
    child.credentials.capabilities.add('IPC_LOCK');
    const lines = (await child.readFile('/proc/self/status')).split('\n');
    expect(lines).toEqual(
      expect.arrayContaining([
        'Name:\ta-name-that-is-',
        'Pid:\t2',
        'PPid:\t1',
        'Uid:\t1000\t1000\t1000\t1000',
        'Gid:\t0\t0\t0\t0',
        'FDSize:\t64',
        'Groups:\t4 5 ',
        'VmSize:\t      32 kB',
        'VmLck:\t      12 kB',
        'VmPin:\t       8 kB',
        'CapEff:\t0000000000004000',
      ]),
    );
  });
});

describe('/proc/<pid>/limits', () => {
  it('tells soft and hard limits', async () => {
    const { init } = createLab();
    init.setrlimit('memlock', 65536, RLIM_INFINITY);
    expect(await init.readFile('/proc/self/limits')).toBe(
      [
        'Limit                     Soft Limit           Hard Limit           Units     ',
        'Max open files            1024                 4096                 files     ',
        'Max locked memory         65536                unlimited            bytes     ',
        '',
      ].join('\n'),
    );
  });
});

describe('/proc/<pid>/maps', () => {
  it('lists the mappings', async () => {
    const { init } = createLab();
    init.mm.mmap({ addr: 0x10000n, fixed: true, length: 2 * PAGE_SIZE, prot: Prot.READ | Prot.WRITE });
    const fd = init.files.add(new TestFile({ mmap: () => ({ kind: 'io' }) }, { label: 'anon_inode:[vfio-device]' }));
    const addr = await init.mmap(fd, {
      addr: 0x20000n,
      fixed: true,
      length: 2 * PAGE_SIZE,
      prot: Prot.READ,
      offset: 2n ** 40n,
    });
    await init.munmap(addr, PAGE_SIZE);
    expect(await init.readFile('/proc/self/maps')).toBe(
      [
        '00010000-00012000 rw-p 00000000 00:00 0 ',
        `${'00021000-00022000 r--s 10000001000 00:00 0'.padEnd(72)} anon_inode:[vfio-device]`,
        '',
      ].join('\n'),
    );
  });
});

describe('/proc/<pid>/comm', () => {
  it('can be written by the process itself', async () => {
    const { init, processes } = createLab();
    await init.writeFile('/proc/self/comm', 'renamed-to-something\n');
    expect(init.comm).toBe('renamed-to-some');
    const other = processes.spawn();
    await expect(other.writeFile('/proc/1/comm', 'x')).rejects.toEqual(errno('EINVAL', { syscall: 'write' }));
  });
});
