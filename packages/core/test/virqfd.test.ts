import { Completion, eventfdFromFd, Host, isKernelBug, O, type Process, VirtualClock } from '@vfio/host';
import { beforeEach, describe, expect, it } from 'vitest';
import { type VirqfdCallbacks, type VirqfdSlot, Virqfds } from '../src/virqfd.js';

let host: Host;
let process: Process;
let virqfds: Virqfds;
let slot: VirqfdSlot;
/** What ran, in order. */
let ran: string[];

beforeEach(() => {
  host = new Host({ clock: new VirtualClock(), checked: true });
  process = host.spawn();
  virqfds = new Virqfds(host);
  slot = {};
  ran = [];
});

function write(fd: number, value = 1): void {
  const counter = eventfdFromFd(process, fd);
  counter.signal(BigInt(value));
  counter.put();
}

function count(fd: number): bigint {
  const counter = eventfdFromFd(process, fd);
  counter.put();
  return counter.count;
}

function callbacks(wanted: boolean): VirqfdCallbacks {
  return {
    handler: () => {
      ran.push('handler');
      return wanted;
    },
    thread: () => void ran.push('thread'),
  };
}

/** Lets everything happen that waits for nothing else. */
async function settle(): Promise<void> {
  for (let i = 0; i < 50; i++) await undefined;
}

function eventfdLeaks(): number {
  return host.tracker.leaks().filter(({ kind }) => kind === 'eventfd').length;
}

describe('enable', () => {
  it('CORE-201 runs the handler once for each signal, within it, and takes the counter', async () => {
    const fd = process.eventfd();
    virqfds.enable(process, fd, slot, callbacks(false));
    expect(ran).toEqual([]);
    write(fd, 5);
    expect(ran).toEqual(['handler']);
    expect(count(fd)).toBe(0n);
    write(fd);
    expect(ran).toEqual(['handler', 'handler']);
    await virqfds.disable(slot);
    expect(ran).toEqual(['handler', 'handler']);
  });

  it('CORE-201 schedules the thread when the handler wants it', async () => {
    const fd = process.eventfd();
    virqfds.enable(process, fd, slot, callbacks(true));
    write(fd);
    expect(ran).toEqual(['handler']);
    await virqfds.flushThread(slot);
    expect(ran).toEqual(['handler', 'thread']);
    await virqfds.disable(slot);
  });

  it('CORE-201 schedules the thread at each signal when there is no handler', async () => {
    const fd = process.eventfd();
    virqfds.enable(process, fd, slot, { thread: () => void ran.push('thread') });
    write(fd);
    await virqfds.flushThread(slot);
    write(fd);
    await virqfds.flushThread(slot);
    expect(ran).toEqual(['thread', 'thread']);
    await virqfds.disable(slot);
  });

  it('CORE-201 a handler that wants a thread there is none of is enough', async () => {
    const fd = process.eventfd();
    virqfds.enable(process, fd, slot, { handler: callbacks(true).handler! });
    write(fd);
    await virqfds.flushThread(slot);
    expect(ran).toEqual(['handler']);
    await virqfds.disable(slot);
  });

  it('CORE-201 runs the handler at once when the eventfd is signalled already, and leaves the counter', async () => {
    const fd = process.eventfd(3);
    virqfds.enable(process, fd, slot, callbacks(true));
    expect(ran).toEqual(['handler']);
    expect(count(fd)).toBe(3n);
    await virqfds.flushThread(slot);
    expect(ran).toEqual(['handler', 'thread']);
    await virqfds.disable(slot);
  });

  it('CORE-202 and CORE-129: refuses a slot that is in use, and changes nothing', async () => {
    const first = process.eventfd();
    const second = process.eventfd(1);
    virqfds.enable(process, first, slot, callbacks(false));
    const other = { handler: () => ran.push('other') > 0 };
    expect(() => virqfds.enable(process, second, slot, other)).toThrow(expect.objectContaining({ code: 'EBUSY' }));
    write(second);
    expect(ran).toEqual([]);
    write(first);
    expect(ran).toEqual(['handler']);
    await virqfds.disable(slot);
    await process.close(first);
    await process.close(second);
    expect(eventfdLeaks()).toBe(0);
  });

  it('CORE-202 refuses a descriptor that is closed or no eventfd', async () => {
    const fd = process.eventfd();
    await process.close(fd);
    expect(() => virqfds.enable(process, fd, slot, {})).toThrow(expect.objectContaining({ code: 'EBADF' }));
    const file = await process.open('/dev/null', O.RDWR);
    expect(() => virqfds.enable(process, file, slot, {})).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(slot.virqfd).toBeUndefined();
  });

  it('undoes everything when a step fails for want of memory', async () => {
    const fd = process.eventfd(1);
    const recording = host.faults.record();
    virqfds.enable(process, fd, slot, {});
    recording.stop();
    await virqfds.disable(slot);
    expect(recording.steps.length).toBeGreaterThan(0);
    for (const index of recording.steps.keys()) {
      const arm = host.faults.failAt(index);
      expect(() => virqfds.enable(process, fd, slot, callbacks(false))).toThrow(
        expect.objectContaining({ code: 'ENOMEM' }),
      );
      expect(arm.fired).toBe(true);
      expect(slot.virqfd).toBeUndefined();
      expect(ran).toEqual([]);
    }
    await process.close(fd);
    expect(eventfdLeaks()).toBe(0);
  });
});

describe('disable', () => {
  it('CORE-202 waits for a thread that runs', async () => {
    const fd = process.eventfd();
    const mayEnd = new Completion(host, 'the test');
    virqfds.enable(process, fd, slot, {
      thread: async () => {
        ran.push('begins');
        await mayEnd.wait();
        ran.push('ends');
      },
    });
    write(fd);
    await settle();
    expect(ran).toEqual(['begins']);
    const disabled = virqfds.disable(slot).then(() => ran.push('disabled'));
    expect(slot.virqfd).toBeUndefined();
    await settle();
    expect(ran).toEqual(['begins']);
    mayEnd.complete();
    await disabled;
    expect(ran).toEqual(['begins', 'ends', 'disabled']);
  });

  it('CORE-202 hears no signal any more, and gives the eventfd back', async () => {
    const fd = process.eventfd();
    virqfds.enable(process, fd, slot, callbacks(true));
    await virqfds.disable(slot);
    write(fd);
    await settle();
    expect(ran).toEqual([]);
    expect(count(fd)).toBe(1n);
    await process.close(fd);
    expect(eventfdLeaks()).toBe(0);
  });

  it('CORE-202 takes what is in the counter along: a signal from before is over, too', async () => {
    const fd = process.eventfd(3);
    virqfds.enable(process, fd, slot, callbacks(false));
    expect(count(fd)).toBe(3n);
    await virqfds.disable(slot);
    expect(count(fd)).toBe(0n);
    const semaphore = process.eventfd(3, { semaphore: true });
    virqfds.enable(process, semaphore, slot, callbacks(false));
    await virqfds.disable(slot);
    expect(count(semaphore)).toBe(2n);
  });

  it('CORE-202 of an empty slot waits for what another is ending', async () => {
    const fd = process.eventfd();
    const mayEnd = new Completion(host, 'the test');
    virqfds.enable(process, fd, slot, { thread: () => mayEnd.wait() });
    write(fd);
    await settle();
    const first = virqfds.disable(slot);
    const second = virqfds.disable({}).then(() => ran.push('second'));
    await settle();
    expect(ran).toEqual([]);
    mayEnd.complete();
    await Promise.all([first, second]);
    expect(ran).toEqual(['second']);
  });

  it('leaves the slot free for another eventfd', async () => {
    const fd = process.eventfd();
    virqfds.enable(process, fd, slot, callbacks(false));
    await virqfds.disable(slot);
    virqfds.enable(process, fd, slot, callbacks(false));
    write(fd);
    expect(ran).toEqual(['handler']);
    await virqfds.disable(slot);
  });

  it('a thread that disables its own slot would wait for itself: the lock checker says so', async () => {
    const fd = process.eventfd();
    virqfds.enable(process, fd, slot, { thread: () => virqfds.disable(slot) });
    write(fd);
    await settle();
    expect(host.log.oopses.map((error) => isKernelBug(error, 'lock'))).toEqual([true]);
  });
});

describe('the eventfd is closed', () => {
  it('CORE-201 by its last descriptor only: the slot becomes free, its reference is put', async () => {
    const fd = process.eventfd();
    const copy = process.dup(fd);
    virqfds.enable(process, fd, slot, callbacks(false));
    await process.close(fd);
    expect(slot.virqfd).toBeDefined();
    await process.close(copy);
    expect(slot.virqfd).toBeUndefined();
    await virqfds.disable(slot);
    expect(eventfdLeaks()).toBe(0);
  });

  it('CORE-202 (H42) while disable runs: it is ended once', async () => {
    const fd = process.eventfd();
    virqfds.enable(process, fd, slot, callbacks(true));
    write(fd);
    const disabled = virqfds.disable(slot);
    await process.close(fd);
    await disabled;
    await virqfds.disable(slot);
    expect(eventfdLeaks()).toBe(0);
    expect(host.log.oopses).toEqual([]);
  });

  it('CORE-202 (H42) before disable: disable still waits for the thread', async () => {
    const fd = process.eventfd();
    const mayEnd = new Completion(host, 'the test');
    virqfds.enable(process, fd, slot, {
      thread: async () => {
        await mayEnd.wait();
        ran.push('thread');
      },
    });
    write(fd);
    await settle();
    await process.close(fd);
    const disabled = virqfds.disable(slot).then(() => ran.push('disabled'));
    await settle();
    mayEnd.complete();
    await disabled;
    expect(ran).toEqual(['thread', 'disabled']);
    expect(eventfdLeaks()).toBe(0);
  });

  it('does not empty a slot that another eventfd has meanwhile', async () => {
    const first = process.eventfd();
    const second = process.eventfd();
    virqfds.enable(process, first, slot, callbacks(false));
    const disabled = virqfds.disable(slot);
    virqfds.enable(process, second, slot, callbacks(false));
    await process.close(first);
    await disabled;
    expect(slot.virqfd).toBeDefined();
    write(second);
    expect(ran).toEqual(['handler']);
    await virqfds.disable(slot);
  });
});

describe('flushThread', () => {
  it('waits for the thread, and listening goes on', async () => {
    const fd = process.eventfd();
    const mayEnd = new Completion(host, 'the test');
    virqfds.enable(process, fd, slot, {
      thread: async () => {
        await mayEnd.wait();
        ran.push('thread');
      },
    });
    write(fd);
    const flushed = virqfds.flushThread(slot).then(() => ran.push('flushed'));
    await settle();
    expect(ran).toEqual([]);
    mayEnd.completeAll();
    await flushed;
    expect(ran).toEqual(['thread', 'flushed']);
    write(fd);
    await virqfds.flushThread(slot);
    expect(ran).toEqual(['thread', 'flushed', 'thread']);
    await virqfds.disable(slot);
  });

  it('of an empty slot returns', async () => {
    await virqfds.flushThread(slot);
    expect(slot.virqfd).toBeUndefined();
  });
});

describe('destroy', () => {
  it('waits for what is being ended', async () => {
    const fd = process.eventfd();
    virqfds.enable(process, fd, slot, callbacks(false));
    await process.close(fd);
    await virqfds.destroy();
    expect(eventfdLeaks()).toBe(0);
  });
});
