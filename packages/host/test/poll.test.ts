import { describe, expect, it } from 'vitest';
import { O, Poll } from '../src/index.js';
import { createLab, errno, TestFile } from './process-lab.js';

const IN_OUT = Poll.IN | Poll.OUT;
const ALL = IN_OUT | Poll.PRI;

function setUp() {
  const lab = createLab();
  let bits = 0;
  const woken = new Set<() => void>();
  const file = new TestFile({
    poll: () => bits,
    onPoll: (fn) => {
      woken.add(fn);
      return { [Symbol.dispose]: () => void woken.delete(fn) };
    },
  });
  const set = (value: number) => {
    bits = value;
    for (const fn of woken) fn();
  };
  return { ...lab, file, fd: lab.init.files.add(file), set, woken };
}

describe('Process.poll', () => {
  it('answers in and out for a file that does not say', async () => {
    const { init } = createLab();
    const fd = init.files.add(new TestFile({}));
    expect(await init.poll([{ fd, events: ALL }], 0)).toEqual([IN_OUT]);
    expect(await init.poll([{ fd, events: Poll.OUT }], -1)).toEqual([Poll.OUT]);
  });

  it('answers NVAL for what is not open, and nothing for a negative number', async () => {
    const { init } = createLab();
    const path = await init.open('/dev/null', O.PATH);
    expect(
      await init.poll(
        [
          { fd: 77, events: 0 },
          { fd: -1, events: ALL },
          { fd: path, events: ALL },
        ],
        -1,
      ),
    ).toEqual([Poll.NVAL, 0, Poll.NVAL]);
  });

  it('answers errors and hang-ups that nobody asked for', async () => {
    const { init, fd, set } = setUp();
    set(Poll.ERR | Poll.HUP | Poll.IN);
    expect(await init.poll([{ fd, events: 0 }], 0)).toEqual([Poll.ERR | Poll.HUP]);
  });

  it('waits until one is ready', async () => {
    const { init, fd, set, woken } = setUp();
    const pending = init.poll([{ fd, events: Poll.IN }], -1);
    await Promise.resolve();
    set(Poll.OUT);
    set(Poll.IN);
    expect(await pending).toEqual([Poll.IN]);
    expect(woken.size).toBe(0);
  });

  it('ends at the timeout of the clock, and leaves no timer when it ends before', async () => {
    const { init, fd, clock, set, host } = setUp();
    const late = init.poll([{ fd, events: Poll.IN }], 100);
    await clock.advance(99);
    expect(host.tracker.count('timer')).toBe(1);
    await clock.advance(1);
    expect(await late).toEqual([0]);
    const early = init.poll([{ fd, events: Poll.IN }], 100);
    await Promise.resolve();
    set(Poll.IN);
    expect(await early).toEqual([Poll.IN]);
    expect(host.tracker.count('timer')).toBe(0);
  });

  it('holds the files while it waits', async () => {
    const { init, fd, file, set } = setUp();
    const pending = init.poll([{ fd, events: Poll.IN }], -1);
    await Promise.resolve();
    await init.close(fd);
    expect(file.count).toBe(1);
    set(Poll.IN);
    await pending;
    expect(file.count).toBe(0);
  });

  it('is EINTR when the process is killed', async () => {
    const { init, fd, woken } = setUp();
    const interrupted = expect(init.poll([{ fd, events: Poll.IN }], -1)).rejects.toEqual(
      errno('EINTR', { syscall: 'poll' }),
    );
    await init.kill();
    await interrupted;
    expect(woken.size).toBe(0);
  });

  it('is EINVAL for more requests than descriptors may be open', async () => {
    const { init } = createLab();
    init.setrlimit('nofile', 2);
    await expect(init.poll(Array(3).fill({ fd: -1, events: 0 }), 0)).rejects.toEqual(errno('EINVAL'));
  });
});
