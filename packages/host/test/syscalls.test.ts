import { describe, expect, it } from 'vitest';
import { O, PAGE_SIZE, Prot, type Syscall, type SyscallOutcome } from '../src/index.js';
import { createLab, errno, install, serve, TestFile } from './process-lab.js';

const RW = Prot.READ | Prot.WRITE;

/** A machine whose calls are written down, both ways. */
function watchedLab() {
  const lab = createLab();
  const seen: { call: Syscall; outcome?: SyscallOutcome }[] = [];
  const subscription = lab.host.syscalls.subscribe((call) => {
    const entry: (typeof seen)[number] = { call };
    seen.push(entry);
    return (outcome) => {
      entry.outcome = outcome;
    };
  });
  return { ...lab, seen, subscription };
}

const summary = ({ call: { name, args }, outcome }: ReturnType<typeof watchedLab>['seen'][number]) => ({
  name,
  args,
  ...outcome,
});

describe('Syscalls.subscribe', () => {
  it('tells of calls on paths and descriptors, with arguments and results', async () => {
    const { init, seen } = watchedLab();
    const fd = await init.open('/dev/null', O.RDWR);
    init.dup(fd);
    await init.close(fd);
    expect(seen.map(summary)).toEqual([
      { name: 'open', args: { path: '/dev/null', flags: O.RDWR, mode: 0 }, value: fd },
      { name: 'dup', args: { fd }, value: fd + 1 },
      { name: 'close', args: { fd }, value: undefined },
    ]);
    expect(seen.every(({ call }) => call.process === init)).toBe(true);
  });

  it('tells of failures, at once or later', async () => {
    const { init, seen } = watchedLab();
    await expect(init.open('/nowhere', O.RDONLY)).rejects.toEqual(errno('ENOENT'));
    expect(() => init.pread(9, new Uint8Array(1), 0)).toThrow(errno('EBADF'));
    expect(seen.map(({ outcome }) => outcome)).toEqual([{ error: errno('ENOENT') }, { error: errno('EBADF') }]);
  });

  it('tells of transfers that answer at once, and leaves them so', () => {
    const { init, seen } = watchedLab();
    const fd = install(init, new TestFile(serve(new Uint8Array(16))));
    const bytes = new Uint8Array(4);
    expect(init.pread(fd, bytes, 8)).toBe(4);
    expect(seen[0]?.call.buffer).toBe(bytes);
    expect(init.pwrite(fd, { addr: init.mm.mmap({ length: PAGE_SIZE, prot: RW }), length: 2 }, 0n)).toBe(2);
    expect(seen.map(summary)).toEqual([
      { name: 'pread', args: { fd, addr: undefined, count: 4, offset: 8 }, value: 4 },
      { name: 'pwrite', args: { fd, addr: expect.any(BigInt), count: 2, offset: 0n }, value: 2 },
    ]);
  });

  it('tells of a transfer that waits when it is done', async () => {
    const { init, seen } = watchedLab();
    let go = (_: number) => {};
    const fd = install(init, new TestFile({ read: () => new Promise((resolve) => (go = resolve)) }));
    const pending = init.pread(fd, new Uint8Array(4), 0);
    expect(seen[0]?.outcome).toBeUndefined();
    go(3);
    expect(await pending).toBe(3);
    expect(seen[0]?.outcome).toEqual({ value: 3 });
  });

  it('shows the bytes of an ioctl at their address, before and after', async () => {
    const { host, init } = createLab();
    const fd = install(
      init,
      new TestFile({
        ioctl: (call) => {
          call.copyOut(Uint8Array.of(7), 3);
          return 5;
        },
      }),
    );
    const bytes: number[][] = [];
    using _watch = host.syscalls.subscribe(({ process, args: { arg = 0n } }) => {
      const peek = () => bytes.push([...process.mm.copyFrom(BigInt(arg), 4)]);
      peek();
      return peek;
    });
    expect(await init.ioctl(fd, 0x3b64, Uint8Array.of(1, 2, 3, 4))).toBe(5);
    expect(bytes).toEqual([
      [1, 2, 3, 4],
      [1, 2, 3, 7],
    ]);
  });

  it('ends with its subscription', async () => {
    const { host, init, seen, subscription } = watchedLab();
    expect(host.syscalls.watched).toBe(true);
    subscription[Symbol.dispose]();
    expect(host.syscalls.watched).toBe(false);
    await init.open('/dev/null', O.RDWR);
    expect(seen).toEqual([]);
  });
});
