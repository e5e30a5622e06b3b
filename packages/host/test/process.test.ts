import { describe, expect, it } from 'vitest';
import {
  type IoctlCall,
  type MmapRequest,
  O,
  PAGE_SIZE,
  Prot,
  Seek,
  SystemError,
  type UserBuffer,
} from '../src/index.js';
import { createLab, errno, serve, TestFile } from './process-lab.js';

const RW = Prot.READ | Prot.WRITE;
const PAGE = BigInt(PAGE_SIZE);

function withFile(...args: ConstructorParameters<typeof TestFile>) {
  const lab = createLab();
  const file = new TestFile(...args);
  return { ...lab, file, fd: lab.init.files.add(file) };
}

const content = () => Uint8Array.from({ length: 100 }, (_, i) => i);

describe('Process.pread and pwrite', () => {
  it('answer at once when the file does, and leave the position', () => {
    const { init, fd, file } = withFile(serve(content()));
    const bytes = new Uint8Array(4);
    expect(init.pread(fd, bytes, 10)).toBe(4);
    expect([...bytes]).toEqual([10, 11, 12, 13]);
    expect(init.pwrite(fd, Uint8Array.of(1, 2), 20n)).toBe(2);
    expect(init.pread(fd, bytes, 19)).toBe(4);
    expect([...bytes]).toEqual([19, 1, 2, 22]);
    expect(file.position).toBe(0);
  });

  it('wait when the file does, and hold it meanwhile', async () => {
    let go = (_: number) => {};
    const { init, fd, file } = withFile({ read: () => new Promise((resolve) => (go = resolve)) });
    const pending = init.pread(fd, new Uint8Array(4), 0);
    expect(pending).toBeInstanceOf(Promise);
    await init.close(fd);
    expect(file.count).toBe(1);
    go(3);
    expect(await pending).toBe(3);
    expect(file.count).toBe(0);
  });

  it('are EINVAL at a negative offset, before the descriptor is looked at', () => {
    const { init } = createLab();
    expect(() => init.pread(99, new Uint8Array(1), -1)).toThrow(errno('EINVAL', { syscall: 'pread', subject: '99' }));
  });

  it('are EINVAL when the range ends beyond 2^63', () => {
    const { init, fd } = withFile(serve(content()));
    expect(() => init.pread(fd, new Uint8Array(4096), 2n ** 63n - 1n)).toThrow(errno('EINVAL'));
  });

  it.each(['stream', 'noop'] as const)('are ESPIPE on a file without positions: %s', (seek) => {
    const { init, fd } = withFile(serve(content()), { seek });
    expect(() => init.pread(fd, new Uint8Array(1), 0)).toThrow(errno('ESPIPE'));
    expect(() => init.pwrite(fd, new Uint8Array(1), 0)).toThrow(errno('ESPIPE'));
  });

  it('are EBADF on what is not open, not open for that, or open with O_PATH', async () => {
    const { init } = createLab();
    const readOnly = init.files.add(new TestFile(serve(content()), { flags: O.RDONLY }));
    const writeOnly = init.files.add(new TestFile(serve(content()), { flags: O.WRONLY }));
    const path = await init.open('/dev/null', O.PATH);
    expect(() => init.pwrite(readOnly, new Uint8Array(1), 0)).toThrow(errno('EBADF'));
    expect(() => init.pread(writeOnly, new Uint8Array(1), 0)).toThrow(errno('EBADF'));
    expect(() => init.pread(path, new Uint8Array(1), 0)).toThrow(errno('EBADF'));
    expect(() => init.pread(-1, new Uint8Array(1), 0)).toThrow(errno('EBADF'));
  });

  it('are EINVAL without an operation, after the access mode was checked', () => {
    const { init } = createLab();
    const fd = init.files.add(new TestFile({}));
    const readOnly = init.files.add(new TestFile({}, { flags: O.RDONLY }));
    expect(() => init.pread(fd, new Uint8Array(1), 0)).toThrow(errno('EINVAL'));
    expect(() => init.pwrite(fd, new Uint8Array(1), 0)).toThrow(errno('EINVAL'));
    expect(() => init.pwrite(readOnly, new Uint8Array(1), 0)).toThrow(errno('EBADF'));
  });

  it('ask the file also for no bytes at all', () => {
    const lengths: number[] = [];
    const { init, fd } = withFile({ read: (buffer) => lengths.push(buffer.length) - 1 });
    expect(init.pread(fd, new Uint8Array(0), 0)).toBe(0);
    expect(lengths).toEqual([0]);
  });

  it('work on memory of the process, as far as there is some', () => {
    const seen: [number, number][] = [];
    const data = content();
    const { init, fd } = withFile({
      read(buffer: UserBuffer, position: number) {
        seen.push([buffer.length, buffer.bytes.length]);
        return serve(data).read(buffer, position);
      },
    });
    const addr = init.mm.mmap({ length: PAGE_SIZE, prot: RW });
    expect(init.pread(fd, { addr: addr + 5n, length: 3 }, 50)).toBe(3);
    expect([...init.mm.copyFrom(addr + 4n, 5)]).toEqual([0, 50, 51, 52, 0]);
    init.pread(fd, { addr: addr + PAGE - 2n, length: 8 }, 0);
    expect(seen).toEqual([
      [3, 3],
      [8, 2],
    ]);
    expect(() => init.pread(fd, { addr: 2n ** 63n, length: 8 }, 0)).toThrow(errno('EFAULT'));
  });

  it('fill memory that lies in pieces', async () => {
    const data = content();
    for (const wait of [false, true]) {
      const { init, fd } = withFile({
        read: (buffer, position) => {
          const count = serve(data).read(buffer, position);
          return wait ? Promise.resolve(count) : count;
        },
      });
      const addr = init.mm.mmap({ length: 2 * PAGE_SIZE, prot: RW });
      init.mm.mprotect(addr + PAGE, PAGE_SIZE, RW);
      expect(await init.pread(fd, { addr: addr + PAGE - 2n, length: 4 }, 7)).toBe(4);
      expect([...init.mm.copyFrom(addr + PAGE - 2n, 4)]).toEqual([7, 8, 9, 10]);
    }
  });

  it('say where an error comes from, once', async () => {
    const { init, fd } = withFile({
      read: () => {
        throw new SystemError('EIO', 'no answer');
      },
      write: async () => {
        throw new SystemError('EBUSY', 'resetting', { syscall: 'vfio_rw', subject: 'bar 0' });
      },
    });
    expect(() => init.pread(fd, new Uint8Array(1), 0)).toThrow(`EIO: no answer, pread '${fd}'`);
    await expect(init.pwrite(fd, new Uint8Array(1), 0)).rejects.toEqual(
      errno('EBUSY', { syscall: 'vfio_rw', subject: 'bar 0' }),
    );
  });
});

describe('Process.read and write', () => {
  it.each(['normal', 'none'] as const)('move the position on a file of kind %s, by what was moved', async (seek) => {
    const { init, fd, file } = withFile(serve(content()), { seek });
    const bytes = new Uint8Array(8);
    await init.read(fd, bytes);
    expect(init.write(fd, Uint8Array.of(1, 1))).toBe(2);
    expect(file.position).toBe(10);
    file.position = 98;
    expect(init.read(fd, bytes)).toBe(2);
    expect(init.read(fd, bytes)).toBe(0);
    expect(file.position).toBe(100);
  });

  it('have no position on a stream', async () => {
    const { init, fd, file } = withFile(serve(content()), { seek: 'stream' });
    await init.read(fd, new Uint8Array(8));
    expect(file.position).toBe(0);
  });

  it('share the position with a duplicate and with a child', async () => {
    const { init, fd } = withFile(serve(content()));
    const bytes = new Uint8Array(1);
    await init.read(fd, bytes);
    await init.read(init.dup(fd), bytes);
    await init.fork().read(fd, bytes);
    expect([...bytes]).toEqual([2]);
  });
});

describe('Process.lseek', () => {
  it('moves the position of a normal file', () => {
    const { init, fd } = withFile({ size: () => 100 }, { seek: 'normal' });
    expect(init.lseek(fd, 10, Seek.SET)).toBe(10);
    expect(init.lseek(fd, -3, Seek.CUR)).toBe(7);
    expect(init.lseek(fd, 5n, Seek.END)).toBe(105);
  });

  it.each([
    [-1, Seek.SET],
    [2n ** 63n, Seek.SET],
    [0, 9],
  ] as const)('is EINVAL for %s from %i', (offset, whence) => {
    const { init, fd } = withFile({}, { seek: 'normal' });
    expect(() => init.lseek(fd, offset, whence)).toThrow(errno('EINVAL', { syscall: 'lseek' }));
  });

  it.each(['none', 'stream'] as const)('is ESPIPE on a file of kind %s', (seek) => {
    const { init, fd } = withFile({}, { seek });
    expect(() => init.lseek(fd, 0, Seek.CUR)).toThrow(errno('ESPIPE'));
  });

  it('is what the file makes of it, where that has a way of its own', () => {
    const { init, fd } = withFile({ llseek: (offset, whence) => offset * 10 + whence }, { seek: 'normal' });
    expect(init.lseek(fd, 4, Seek.END)).toBe(42);
  });
});

describe('Process.ioctl', () => {
  it('gives the request as 32 bits and the argument as 64', async () => {
    const seen: [number, bigint][] = [];
    const { init, fd } = withFile({ ioctl: ({ request, arg }) => seen.push([request, arg]) });
    await init.ioctl(fd, 0x1_0000_3b64);
    expect(await init.ioctl(fd, -1, -1n)).toBe(2);
    await init.ioctl(fd, 1, 5);
    expect(seen).toEqual([
      [0x3b64, 0n],
      [0xffff_ffff, 2n ** 64n - 1n],
      [1, 5n],
    ]);
  });

  it('changes bytes in place, and any access past them is EFAULT', async () => {
    const { init, fd } = withFile({
      ioctl: async (call: IoctlCall) => {
        await Promise.resolve();
        expect(call.u32()).toBe(0x0403_0201);
        expect(() => call.copyIn(9)).toThrow(errno('EFAULT'));
        call.copyOut(Uint8Array.of(9, 9), 4);
        call.copyOutAt(call.arg + 6n, call.copyInAt(call.arg, 2));
        return 0;
      },
    });
    const bytes = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    expect(await init.ioctl(fd, 1, bytes)).toBe(0);
    expect([...bytes]).toEqual([1, 2, 3, 4, 9, 9, 1, 2]);
  });

  it('writes what comes before the end of the argument', async () => {
    const { init, fd } = withFile({
      ioctl: (call: IoctlCall) => {
        call.copyOut(new Uint8Array(8).fill(9));
        return 0;
      },
    });
    const addr = init.mm.mmap({ length: PAGE_SIZE, prot: RW });
    const arg = addr + PAGE - 4n;
    await expect(init.ioctl(fd, 1, arg)).rejects.toEqual(errno('EFAULT', { syscall: 'ioctl', subject: String(fd) }));
    expect([...init.mm.copyFrom(arg, 4)]).toEqual([9, 9, 9, 9]);
  });

  it('reads numbers in the byte order of the caller', async () => {
    const { processes } = createLab();
    const big = processes.spawn({ byteOrder: 'big' });
    const fd = big.files.add(new TestFile({ ioctl: (call) => call.u32() }));
    expect(await big.ioctl(fd, 1, Uint8Array.of(0, 0, 1, 2))).toBe(0x102);
  });

  it.each([0n, 8n, 2n ** 47n, 2n ** 64n - 4096n])('is EFAULT for an argument at %i', async (arg) => {
    const { init, fd } = withFile({ ioctl: (call) => call.u32() });
    await expect(init.ioctl(fd, 1, arg)).rejects.toEqual(errno('EFAULT'));
  });

  it('is ENOTTY without an operation, and where the file has no such request', async () => {
    const { init } = createLab();
    const none = init.files.add(new TestFile({}));
    const unknown = init.files.add(
      new TestFile({
        ioctl: () => {
          throw new SystemError('ENOIOCTLCMD', 'not mine');
        },
      }),
    );
    await expect(init.ioctl(none, 0x3b64)).rejects.toEqual(errno('ENOTTY'));
    await expect(init.ioctl(unknown, 0x3b64)).rejects.toEqual(errno('ENOTTY'));
  });

  it('is EBADF for what is not open or only a path', async () => {
    const { init } = createLab();
    const path = await init.open('/dev/null', O.PATH);
    for (const fd of [99, path]) await expect(init.ioctl(fd, 0x3b64)).rejects.toEqual(errno('EBADF'));
  });

  it('sets close-on-exec and non-blocking on any file', async () => {
    const { init, fd, file } = withFile({});
    await init.ioctl(fd, 0x5451);
    expect(init.files.isCloexec(fd)).toBe(true);
    await init.ioctl(fd, 0x5450);
    expect(init.files.isCloexec(fd)).toBe(false);
    await init.ioctl(fd, 0x5421, Uint8Array.of(1, 0, 0, 0));
    expect(file.nonblock).toBe(true);
    await init.ioctl(fd, 0x5421, Uint8Array.of(0, 0, 0, 0));
    expect(file.nonblock).toBe(false);
  });

  it('holds the file until it has returned', async () => {
    let finish = () => {};
    const { init, fd, file } = withFile({
      ioctl: () => new Promise((resolve) => (finish = () => resolve(0))),
    });
    const pending = init.ioctl(fd, 1);
    await init.close(fd);
    expect(file.count).toBe(1);
    finish();
    await pending;
    expect(file.count).toBe(0);
  });
});

describe('Process.mmap', () => {
  const io = { kind: 'io', load: () => 5n } as const;

  function mappable(options: { flags?: number } = {}) {
    const requests: MmapRequest[] = [];
    const mmap = (request: MmapRequest) => {
      requests.push(request);
      return io;
    };
    return { ...withFile({ mmap }, options), requests };
  }

  it('asks the file with whole pages, and maps what it answers', async () => {
    const { init, fd, requests, file } = mappable();
    const addr = await init.mmap(fd, { length: 1, prot: Prot.READ, offset: 2n ** 52n });
    expect(requests).toEqual([{ offset: 2 ** 52, length: PAGE_SIZE, prot: Prot.READ, shared: true, process: init }]);
    expect(init.mm.load(addr, 4)).toBe(5n);
    expect(file.count).toBe(2);
    await init.munmap(addr, PAGE_SIZE);
    expect(file.count).toBe(1);
  });

  it.each([
    ['EINVAL', 'length 0', { length: 0, prot: RW }],
    ['EINVAL', 'an offset inside a page', { length: 1, prot: RW, offset: 1 }],
    ['ENOMEM', 'more than user space', { length: 2n ** 47n, prot: RW }],
    ['EOVERFLOW', 'a range beyond the file', { length: PAGE_SIZE, prot: RW, offset: 2n ** 63n }],
    ['EOVERFLOW', 'a negative offset', { length: PAGE_SIZE, prot: RW, offset: -4096n }],
  ] as const)('is %s for %s', async (code, _, options) => {
    const { init, fd, requests } = mappable();
    await expect(init.mmap(fd, options)).rejects.toEqual(errno(code, { syscall: 'mmap' }));
    expect(requests).toEqual([]);
  });

  it('checks the offset, then the descriptor, then the length', async () => {
    const { init, fd } = mappable();
    await expect(init.mmap(99, { length: 0, prot: RW, offset: 1 })).rejects.toEqual(errno('EINVAL'));
    await expect(init.mmap(99, { length: 0, prot: RW })).rejects.toEqual(errno('EBADF'));
    await expect(init.mmap(fd, { length: 0, prot: RW })).rejects.toEqual(errno('EINVAL'));
  });

  it('is EACCES when the descriptor is not open for it', async () => {
    for (const [flags, prot, shared] of [
      [O.RDONLY, RW, true],
      [O.WRONLY, Prot.READ, true],
      [O.WRONLY, Prot.WRITE, true],
      [O.WRONLY, Prot.READ, false],
    ] as const) {
      const { init, fd } = mappable({ flags });
      await expect(init.mmap(fd, { length: 1, prot, shared })).rejects.toEqual(errno('EACCES'));
    }
  });

  it('tells a shared mapping that can never be written from a shared one', async () => {
    const { init, fd, requests } = mappable({ flags: O.RDONLY });
    const addr = await init.mmap(fd, { length: 1, prot: Prot.READ });
    expect(requests[0]?.shared).toBe(false);
    expect(() => init.mprotect(addr, PAGE_SIZE, RW)).toThrow(errno('EACCES', { syscall: 'mprotect' }));
    await init.mmap(fd, { length: 1, prot: RW, shared: false });
  });

  it('is ENODEV for a file that cannot be mapped, after the checks', async () => {
    const { init } = createLab();
    const fd = init.files.add(new TestFile({}, { flags: O.RDONLY }));
    await expect(init.mmap(fd, { length: 1, prot: RW })).rejects.toEqual(errno('EACCES'));
    await expect(init.mmap(fd, { length: 1, prot: Prot.READ })).rejects.toEqual(errno('ENODEV'));
  });

  it('passes on what the file says, and leaves nothing', async () => {
    const { init, fd, file } = withFile({
      mmap: async () => {
        throw new SystemError('EINVAL', 'no such region');
      },
    });
    await expect(init.mmap(fd, { length: 1, prot: RW })).rejects.toEqual(errno('EINVAL', { reason: 'no such region' }));
    expect([file.count, init.mm.size]).toEqual([1, 0]);
  });

  it('closes the mapping again when there is no room for it', async () => {
    let closed = 0;
    const { init, fd, file, host } = withFile({ mmap: () => ({ kind: 'io', close: () => void closed++ }) });
    host.faults.failOn('mmap_region:vma');
    await expect(init.mmap(fd, { length: 1, prot: RW })).rejects.toEqual(errno('ENOMEM'));
    expect([file.count, closed]).toEqual([1, 1]);
  });

  it('lets only who has CAP_SYS_RAWIO map low addresses', async () => {
    const { init, fd } = mappable();
    const options = { addr: 0x1000n, fixed: true, length: 1, prot: RW };
    expect(await init.mmap(fd, options)).toBe(0x1000n);
    init.setuid(1000);
    await expect(init.mmap(fd, options)).rejects.toEqual(errno('EPERM'));
  });
});

describe('Process.close', () => {
  it('resolves when the last reference is released', async () => {
    let released = false;
    const { init, fd, host } = withFile({
      release: async () => {
        await Promise.resolve();
        released = true;
      },
    });
    const copy = init.dup(fd);
    await init.close(fd);
    expect(released).toBe(false);
    await init.close(copy);
    expect(released).toBe(true);
    await expect(init.close(copy)).rejects.toEqual(errno('EBADF', { syscall: 'close', subject: String(copy) }));
    expect(host.tracker.leaks()).toEqual([]);
  });
});

describe('Process.fork', () => {
  it('shares the files and copies who it is', async () => {
    const { init, fd, file } = withFile(serve(content()));
    const second = init.files.add(new TestFile({}), { cloexec: true });
    const child = init.fork('child');
    expect([child.comm, child.parent, child.pid === init.pid]).toEqual(['child', init, false]);
    expect(file.count).toBe(2);
    expect([child.files.isCloexec(fd), child.files.isCloexec(second)]).toEqual([false, true]);
    child.setuid(1000);
    child.setrlimit('memlock', 0);
    expect([init.credentials.uid, init.limits.memlock]).toEqual([0, 8n << 20n]);
    await child.close(fd);
    expect(init.pread(fd, new Uint8Array(1), 0)).toBe(1);
  });

  it('is EAGAIN when there can be no more processes, ENOMEM when there is no memory', () => {
    const { init, host, processes } = createLab();
    init.mm.mmap({ length: 1, prot: RW });
    host.faults.failOn('copy_process:task');
    expect(() => init.fork()).toThrow(errno('EAGAIN', { syscall: 'clone' }));
    host.faults.failOn(/^dup_mmap/);
    expect(() => init.fork()).toThrow(errno('ENOMEM'));
    expect(processes.all()).toEqual([init]);
  });
});

describe('Process.execClose', () => {
  it('closes the descriptors that were to go', async () => {
    const { init, fd } = withFile({});
    const gone = init.files.add(new TestFile({}), { cloexec: true });
    await init.execClose();
    expect([init.files.has(fd), init.files.has(gone)]).toEqual([true, false]);
  });
});

describe('Process.exit', () => {
  it('unmaps memory, then closes descriptors in order', async () => {
    const { init, processes, host } = createLab();
    const log: string[] = [];
    const named = (name: string) => new TestFile({ release: async () => void log.push(name) });
    const mapped = new TestFile({ mmap: () => ({ kind: 'io', close: () => void log.push('unmapped') }) });
    const child = processes.spawn();
    const a = child.files.add(named('a'));
    const b = child.files.add(named('b'));
    const c = child.files.add(mapped);
    await child.mmap(c, { length: 1, prot: RW });
    const d = child.files.add(named('d'));
    expect([a, b, c, d]).toEqual([0, 1, 2, 3]);
    await child.close(a);
    child.files.add(named('a again'));
    await child.exit(3);
    expect(log).toEqual(['a', 'unmapped', 'a again', 'b', 'd']);
    expect(child.exitStatus).toEqual({ code: 3 });
    expect(processes.all()).toEqual([init]);
    expect(host.tracker.leaks()).toEqual([]);
  });

  it('interrupts calls and waits for them', async () => {
    const log: string[] = [];
    const { init, fd } = withFile({
      ioctl: ({ process }) =>
        new Promise((_, reject) => {
          process.signal.addEventListener('abort', () => {
            log.push('interrupted');
            reject(process.signal.reason);
          });
        }),
      release: () => void log.push('released'),
    });
    const interrupted = expect(init.ioctl(fd, 1)).rejects.toEqual(errno('EINTR'));
    await init.kill();
    await interrupted;
    expect(log).toEqual(['interrupted', 'released']);
    expect(init.exitStatus).toEqual({ code: 0, signal: 'SIGKILL' });
  });

  it('takes nothing away from a call that is still under way', async () => {
    const log: string[] = [];
    let finish = () => {};
    const { init, fd } = withFile({
      ioctl: async ({ process, arg }) => {
        await new Promise<void>((resolve) => {
          finish = resolve;
        });
        log.push(`reads ${process.mm.copyFrom(arg, 1)[0]}`);
        return 0;
      },
    });
    init.files.add(new TestFile({ release: () => void log.push('released') }));
    const pending = init.ioctl(fd, 1, Uint8Array.of(7));
    const killed = init.kill();
    await new Promise(setImmediate);
    expect(log).toEqual([]);
    finish();
    await Promise.all([pending, killed]);
    expect(log).toEqual(['reads 7', 'released']);
  });

  it('happens once, even if who hears of it ends the process too', async () => {
    let released = 0;
    const { init } = withFile({ release: () => void released++ });
    let again: Promise<void> | undefined;
    init.signal.addEventListener('abort', () => {
      again = init.exit(2);
    });
    const first = init.kill();
    expect(again).toBe(first);
    await first;
    expect([released, init.exitStatus]).toEqual([1, { code: 0, signal: 'SIGKILL' }]);
  });

  it('happens once, and no call is possible afterwards', async () => {
    const { init, fd } = withFile(serve(content()));
    const first = init.exit(1);
    expect(init.kill()).toBe(first);
    expect(() => init.dup(fd)).toThrow(errno('ESRCH'));
    expect(() => init.pread(fd, new Uint8Array(1), 0)).toThrow(errno('ESRCH'));
    await expect(init.open('/dev/null', O.RDONLY)).rejects.toEqual(errno('ESRCH'));
    await first;
    expect(init.exitStatus).toEqual({ code: 1 });
  });
});

describe('Process.setuid', () => {
  it('drops all capabilities, and cannot be taken back', () => {
    const { init } = createLab();
    init.setgroups([5]);
    init.setgid(1000);
    init.setuid(1000);
    expect(init.credentials.capable('IPC_LOCK')).toBe(false);
    expect([init.credentials.uid, init.credentials.gid, init.credentials.groups]).toEqual([1000, 1000, [5]]);
    init.setuid(1000);
    init.setgid(1000);
    expect(() => init.setuid(0)).toThrow(errno('EPERM', { syscall: 'setuid' }));
    expect(() => init.setgid(0)).toThrow(errno('EPERM'));
    expect(() => init.setgroups([])).toThrow(errno('EPERM'));
  });
});

describe('Process.setrlimit', () => {
  it('lowers for everybody, raises the hard limit for who may', () => {
    const { init } = createLab();
    init.setrlimit('memlock', 1n << 40n);
    expect(init.limits.get('memlock')).toEqual({ soft: 1n << 40n, hard: 1n << 40n });
    init.setuid(1000);
    init.setrlimit('memlock', 4096, 8192);
    init.setrlimit('memlock', 8192, 8192);
    expect(() => init.setrlimit('memlock', 8193)).toThrow(errno('EPERM', { syscall: 'setrlimit' }));
    expect(() => init.setrlimit('memlock', 8193, 8192)).toThrow(errno('EINVAL'));
    expect(init.limits.memlock).toBe(8192n);
  });

  it('is EPERM for more descriptors than the system has, even for root', () => {
    const { init } = createLab();
    expect(() => init.setrlimit('nofile', 2 ** 20 + 1)).toThrow(errno('EPERM'));
    init.setrlimit('nofile', 2 ** 20);
    expect(init.limits.nofile).toBe(2 ** 20);
  });
});
