import { describe, expect, it } from 'vitest';
import {
  accessOf,
  dup,
  EventCalls,
  eventfd,
  fstat,
  isShrinkSealed,
  Linux,
  memfd,
  pidfdGetfd,
  pidfdOpen,
  Seal,
  socketPair,
} from '../src/index.js';

describe('files', () => {
  it('knows size and identity of a file, and for what it is open', async () => {
    using linux = await Linux.load();
    using file = memfd(linux, 'test', 12345);
    using same = dup(linux, file.number);
    using other = memfd(linux, 'test', 1);
    const stat = fstat(file.number);
    expect(stat).toMatchObject({ size: 12345, regular: true, socket: false });
    expect(fstat(same.number)).toEqual(stat);
    expect(fstat(other.number).ino).not.toBe(stat.ino);
    expect(accessOf(linux, file.number)).toEqual({ read: true, write: true });
    const [left, right] = socketPair(linux);
    expect(fstat(left.number)).toMatchObject({ regular: false, socket: true });
    left.close();
    right.close();
    expect(() => fstat(999_999)).toThrowError(expect.objectContaining({ code: 'EBADF', syscall: 'fstat' }));
  });

  it('sees whether a file can become shorter', async () => {
    using linux = await Linux.load();
    using open = memfd(linux, 'open', 4096);
    using sealed = memfd(linux, 'sealed', 4096, Seal.SHRINK);
    using counter = eventfd(linux);
    expect(isShrinkSealed(linux, open.number)).toBe(false);
    expect(isShrinkSealed(linux, sealed.number)).toBe(true);
    expect(isShrinkSealed(linux, counter.number)).toBe(false);
  });
});

describe('event counters', () => {
  it('count, and are 0 once they were taken', async () => {
    using linux = await Linux.load();
    using events = new EventCalls(linux);
    using counter = eventfd(linux);
    expect(events.take(counter.number)).toBe(0n);
    expect(events.signal(counter.number)).toBe(true);
    expect(events.signal(counter.number)).toBe(true);
    expect(events.take(counter.number)).toBe(2n);
    expect(events.take(counter.number)).toBe(0n);
  });

  it('do not make the signaller wait when they are full, even if a write would', async () => {
    using linux = await Linux.load();
    using events = new EventCalls(linux);
    using blocking = memfd(linux, 'unused', 0);
    blocking.close();
    const number = linux.check(linux.calls.eventfd(0, 0), 'eventfd');
    using memory = linux.memory(8, 'a counter');
    memory.view.setBigUint64(0, 2n ** 64n - 2n, true);
    expect(linux.calls.write(number, memory.address, 8)).toBe(8);
    expect(events.signal(number)).toBe(false);
    expect(events.take(number)).toBe(2n ** 64n - 2n);
    expect(events.signal(number)).toBe(true);
    linux.calls.close(number);
    expect(events.signal(number)).toBe(false);
  });
});

describe('descriptors of processes', () => {
  it('copy a descriptor', async () => {
    using linux = await Linux.load();
    using pidfd = pidfdOpen(linux, process.pid);
    using file = memfd(linux, 'test', 77);
    using copy = pidfdGetfd(linux, pidfd, file.number);
    expect(fstat(copy.number)).toEqual(fstat(file.number));
    expect(() => pidfdGetfd(linux, pidfd, 999_999)).toThrowError(
      expect.objectContaining({ code: 'EBADF', syscall: 'pidfd_getfd' }),
    );
    expect(() => pidfdOpen(linux, 2 ** 22 + 5)).toThrowError(expect.objectContaining({ syscall: 'pidfd_open' }));
  });
});
