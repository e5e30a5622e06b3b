import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type EventFd, eventfdFromFd, Poll } from '../src/index.js';
import { createLab, errno, type Lab, TestFile } from './process-lab.js';

const MAX = 2n ** 64n - 1n;

function bytesOf(value: bigint, little = true): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, little);
  return bytes;
}

function counterOf(bytes: Uint8Array, little = true): bigint {
  return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, little);
}

function setUp(initial = 0, flags: { semaphore?: boolean; nonblock?: boolean } = { nonblock: true }) {
  const lab = createLab();
  const fd = lab.init.eventfd(initial, flags);
  return { ...lab, fd, read: () => readFrom(lab, fd), write: (n: bigint) => lab.init.write(fd, bytesOf(n)) };
}

async function readFrom({ init }: Lab, fd: number): Promise<bigint> {
  const bytes = new Uint8Array(8);
  expect(await init.read(fd, bytes)).toBe(8);
  return counterOf(bytes);
}

describe('Process.eventfd', () => {
  it('counts writes, and a read takes all of them', async () => {
    const { read, write } = setUp(3);
    await write(4n);
    expect(await read()).toBe(7n);
    await expect(read()).rejects.toEqual(errno('EAGAIN', { syscall: 'read' }));
  });

  it('gives one at a time as a semaphore', async () => {
    const { read } = setUp(2, { semaphore: true, nonblock: true });
    expect([await read(), await read()]).toEqual([1n, 1n]);
    await expect(read()).rejects.toEqual(errno('EAGAIN'));
  });

  it('agrees with a counter', async () => {
    const value = fc.oneof(fc.bigInt({ min: 0n, max: 5n }), fc.bigInt({ min: MAX - 5n, max: MAX }));
    const steps = fc.array(
      fc.oneof(
        fc.constant('read' as const),
        value,
        value.map((n) => ({ signal: n })),
      ),
    );
    await fc.assert(
      fc.asyncProperty(fc.nat(3), fc.boolean(), steps, async (initial, semaphore, list) => {
        const { init, fd, read, write } = setUp(initial, { semaphore, nonblock: true });
        const event = eventfdFromFd(init, fd);
        let count = BigInt(initial);
        for (const step of list) {
          if (step === 'read') {
            const taken = semaphore && count > 0n ? 1n : count;
            if (count === 0n) await expect(read()).rejects.toEqual(errno('EAGAIN'));
            else expect(await read()).toBe(taken);
            count -= taken;
          } else if (typeof step === 'object') {
            event.signal(step.signal);
            count = count + step.signal > MAX ? MAX : count + step.signal;
          } else if (step === MAX) {
            expect(() => write(step)).toThrow(errno('EINVAL'));
          } else if (count + step >= MAX) {
            expect(() => write(step)).toThrow(errno('EAGAIN'));
          } else {
            expect(write(step)).toBe(8);
            count += step;
          }
          expect(event.count).toBe(count);
          const bits = (count > 0n ? Poll.IN : 0) | (count === MAX ? Poll.ERR : 0) | (count < MAX - 1n ? Poll.OUT : 0);
          expect(await init.poll([{ fd, events: Poll.IN | Poll.OUT }], 0)).toEqual([bits]);
        }
        event.put();
      }),
      { numRuns: 100 },
    );
  });

  it.each([0, 7])('is EINVAL for a read of %i bytes', (length) => {
    const { init, fd } = setUp(1);
    expect(() => init.read(fd, new Uint8Array(length))).toThrow(errno('EINVAL'));
  });

  it.each([0, 7, 9])('is EINVAL for a write of %i bytes', (length) => {
    const { init, fd } = setUp();
    expect(() => init.write(fd, new Uint8Array(length))).toThrow(errno('EINVAL'));
  });

  it('is EFAULT for memory that is not there', () => {
    const { init, fd } = setUp(1);
    expect(() => init.read(fd, { addr: 8n, length: 8 })).toThrow(errno('EFAULT'));
    expect(() => init.write(fd, { addr: 8n, length: 8 })).toThrow(errno('EFAULT'));
  });

  it('has a position that does not move, and no pread', () => {
    const { init, fd } = setUp(1);
    expect(init.lseek(fd, 5, 0)).toBe(0);
    expect(() => init.pread(fd, new Uint8Array(8), 0)).toThrow(errno('ESPIPE'));
  });

  it('is in the byte order of who reads it', async () => {
    const { processes } = createLab();
    const big = processes.spawn({ byteOrder: 'big' });
    const fd = big.eventfd(0x0102, { nonblock: true });
    await big.write(fd, bytesOf(1n, false));
    const bytes = new Uint8Array(8);
    await big.read(fd, bytes);
    expect(counterOf(bytes, false)).toBe(0x0103n);
  });

  it('is named and described in /proc', async () => {
    const { init, fd } = setUp(0x1f, { semaphore: true, nonblock: true });
    expect(init.readlink(`/proc/self/fd/${fd}`)).toBe('anon_inode:[eventfd]');
    const info = await init.readFile(`/proc/self/fdinfo/${fd}`);
    expect(info).toContain('flags:\t04002\n');
    expect(info.split('\n').slice(4)).toEqual([
      'eventfd-count:               1f',
      'eventfd-id: 0',
      'eventfd-semaphore: 1',
      '',
    ]);
  });

  it('is EMFILE at the limit, with nothing left behind', () => {
    const { init, host } = createLab();
    init.setrlimit('nofile', 1);
    init.eventfd();
    expect(() => init.eventfd()).toThrow(errno('EMFILE', { syscall: 'eventfd2' }));
    expect(host.tracker.count('eventfd')).toBe(1);
  });
});

describe('a blocking eventfd', () => {
  it('waits for a signal', async () => {
    const { init, fd, read } = setUp(0, {});
    const pending = read();
    const event = eventfdFromFd(init, fd);
    await Promise.resolve();
    event.signal();
    expect(await pending).toBe(1n);
    event.put();
  });

  it('lets as many semaphore readers go on as were signalled', async () => {
    const { write, read, init, fd } = setUp(0, { semaphore: true });
    let done = 0;
    const readers = [1, 2, 3].map(async () => {
      await read();
      done++;
    });
    await write(2n);
    await Promise.race(readers);
    for (let i = 0; i < 50; i++) await Promise.resolve();
    expect(done).toBe(2);
    await init.write(fd, bytesOf(1n));
    await Promise.all(readers);
  });

  it('waits with a write that would overflow until a read makes room', async () => {
    const { write, read } = setUp(0, {});
    await write(MAX - 1n);
    const pending = write(5n);
    expect(pending).toBeInstanceOf(Promise);
    expect(await read()).toBe(MAX - 1n);
    expect(await pending).toBe(8);
    expect(await read()).toBe(5n);
  });

  it('is interrupted when the reader is killed, not when the maker is', async () => {
    const { init, fd, processes } = setUp(0, {});
    const maker = processes.spawn();
    const own = maker.eventfd();
    const child = maker.fork();
    await maker.kill();
    const pending = Promise.resolve(child.read(own, new Uint8Array(8)));
    const interrupted = expect(pending).rejects.toEqual(errno('EINTR', { syscall: 'read' }));
    await child.kill();
    await interrupted;
    await init.close(fd);
  });

  it('becomes non-blocking by FIONBIO', async () => {
    const { init, fd, read } = setUp(0, {});
    await init.ioctl(fd, 0x5421, Uint8Array.of(1, 0, 0, 0));
    await expect(read()).rejects.toEqual(errno('EAGAIN'));
  });
});

describe('eventfdFromFd', () => {
  it('is EBADF for no descriptor and EINVAL for another kind', () => {
    const { init } = createLab();
    expect(() => eventfdFromFd(init, 5)).toThrow(errno('EBADF'));
    const fd = init.files.add(new TestFile({}));
    expect(() => eventfdFromFd(init, fd)).toThrow(errno('EINVAL'));
  });

  it('holds the counter beyond the last close, which it hears of', async () => {
    const { init, fd, host } = setUp();
    const copy = init.dup(fd);
    const event: EventFd = eventfdFromFd(init, fd);
    const heard: string[] = [];
    using _signal = event.onSignal(() => heard.push('signal'));
    using _hangup = event.onHangup(() => heard.push('hangup'));
    await init.close(fd);
    event.signal();
    await init.close(copy);
    event.signal();
    expect(heard).toEqual(['signal', 'hangup', 'signal']);
    expect(host.tracker.leaks().map(({ kind }) => kind)).toEqual(['eventfd']);
    event.put();
    expect(host.tracker.leaks()).toEqual([]);
    expect(() => event.put()).toThrow('double-free');
    expect(() => event.get()).toThrow('use-after-free');
  });
});

describe('EventFd.onSignal', () => {
  it('calls within the signal, once for each, until disposed; also from within a call', () => {
    const { init, fd } = setUp();
    const event = eventfdFromFd(init, fd);
    const heard: string[] = [];
    const both = () => void heard.push(`at ${event.count}`);
    const first = event.onSignal(both);
    const second = event.onSignal(() => {
      heard.push('second');
      second[Symbol.dispose]();
      first[Symbol.dispose]();
    });
    event.onSignal(both);
    event.signal(2n);
    event.signal();
    expect(heard).toEqual(['at 2', 'second', 'at 2', 'at 3']);
    event.put();
  });
});
