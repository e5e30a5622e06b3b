import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createSeams, FileTable, Limits, O, PathFile } from '../src/index.js';
import { errno, TestFile } from './process-lab.js';

function setUp(nofile = 64n) {
  const seams = createSeams({ checked: true });
  const limits = new Limits({ nofile: { soft: nofile, hard: nofile } });
  return { seams, table: new FileTable(seams, limits) };
}

describe('FileTable', () => {
  it('gives the lowest number that is neither open nor reserved', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom('add', 'reserve', 'drop'), fc.nat(20))), (steps) => {
        const { table } = setUp(12n);
        const used = new Map<number, 'open' | 'reserved'>();
        for (const [step, which] of steps) {
          if (step === 'drop') {
            const [fd, state] = [...used][which] ?? [];
            if (fd === undefined) continue;
            if (state === 'open') table.remove(fd);
            else table.unreserve(fd);
            used.delete(fd);
            continue;
          }
          let lowest = 0;
          while (used.has(lowest)) lowest++;
          const take = () => (step === 'add' ? table.add(new TestFile({})) : table.reserve());
          if (lowest >= 12) {
            expect(take).toThrow(errno('EMFILE'));
            continue;
          }
          expect(take()).toBe(lowest);
          used.set(lowest, step === 'add' ? 'open' : 'reserved');
        }
        expect(table.descriptors()).toEqual(
          [...used]
            .filter(([, state]) => state === 'open')
            .map(([fd]) => fd)
            .sort((a, b) => a - b),
        );
      }),
      { numRuns: 200 },
    );
  });

  it('does not know a number that is only reserved', () => {
    const { table } = setUp();
    const fd = table.reserve();
    expect(() => table.get(fd)).toThrow(errno('EBADF'));
    expect(() => table.remove(fd)).toThrow(errno('EBADF'));
    const file = new TestFile({});
    table.install(fd, file);
    expect(table.get(fd)).toBe(file);
  });

  it('reserves from a number on', () => {
    const { table } = setUp();
    expect([table.reserve(10), table.reserve(10), table.reserve()]).toEqual([10, 11, 0]);
  });

  it('is EMFILE on a fault', () => {
    const { seams, table } = setUp();
    seams.faults.failOn('alloc_fd:descriptor');
    expect(() => table.reserve()).toThrow(errno('EMFILE'));
    expect(table.reserve()).toBe(0);
  });

  it('hides what was opened with O_PATH from all but getRaw', () => {
    const { table } = setUp();
    const path = new PathFile('/dev/null', { kind: 'char', mode: 0o666, uid: 0, gid: 0 });
    const fd = table.add(path);
    expect(() => table.get(fd)).toThrow(errno('EBADF'));
    expect(table.getOrUndefined(fd)).toBeUndefined();
    expect(table.getRaw(fd)).toBe(path);
    expect([path.readable, path.writable, path.flags]).toEqual([false, false, O.PATH]);
  });

  it('follows a limit that is lowered, and keeps what is open above it', () => {
    const seams = createSeams({ checked: true });
    const limits = new Limits();
    const table = new FileTable(seams, limits);
    for (let i = 0; i < 4; i++) table.add(new TestFile({}));
    limits.set('nofile', { soft: 2n, hard: 2n }, false);
    expect(() => table.reserve()).toThrow(errno('EMFILE'));
    expect(table.get(3)).toBeInstanceOf(TestFile);
    table.remove(1);
    expect(table.reserve()).toBe(1);
  });
});

describe('File', () => {
  it('is released with its last reference, and tracked from its first descriptor on', async () => {
    const { seams, table } = setUp();
    let released = 0;
    const file = new TestFile({ release: () => void released++ }, { label: 'a file' });
    expect(seams.tracker.leaks()).toEqual([]);
    const fd = table.add(file);
    table.add(file.get());
    expect(seams.tracker.leaks()).toEqual([expect.objectContaining({ kind: 'file', what: 'a file, 2 references' })]);
    await table.remove(fd).put();
    expect(released).toBe(0);
    await file.put();
    expect([released, seams.tracker.leaks()]).toEqual([1, []]);
    await expect(file.put()).rejects.toThrow('double-free');
    expect(() => file.get()).toThrow('use-after-free');
  });
});
