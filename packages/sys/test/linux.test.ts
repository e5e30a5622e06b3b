import { describe, expect, it } from 'vitest';
import { eventfd, Linux, memfd, Seal } from '../src/index.js';

describe('Linux', () => {
  it('lists what is still open when it ends, with the stack of who opened it', async () => {
    const linux = await Linux.load({ checked: true });
    const counter = eventfd(linux);
    const memory = linux.memory(100, 'a test');
    expect(linux.table.count()).toBe(2);
    let thrown: unknown;
    try {
      linux[Symbol.dispose]();
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(AggregateError);
    const { errors, message } = thrown as AggregateError;
    expect(message).toBe(`still open: eventfd ${counter.number}, 100 bytes of a test`);
    expect((errors[0] as Error).stack).toContain('linux.test.ts');
    counter.close();
    counter.close();
    memory[Symbol.dispose]();
    memory[Symbol.dispose]();
    linux[Symbol.dispose]();
  });

  it('gives errors with errno and call', async () => {
    using linux = await Linux.load();
    expect(() => linux.map(-1, { offset: 0, length: 4096, write: false }, 'nothing')).toThrowError(
      expect.objectContaining({ code: 'EBADF', errno: -9, syscall: 'mmap' }),
    );
    using file = memfd(linux, 'test', 4096);
    file.close();
    expect(() => file.number).toThrowError(expect.objectContaining({ code: 'EBADF' }));
    expect(linux.table.count()).toBe(0);
  });

  it('maps a file twice, and both see the same bytes', async () => {
    using linux = await Linux.load();
    using file = memfd(linux, 'test', 8192);
    using whole = linux.map(file.number, { offset: 0, length: 8192, write: true }, 'test');
    using second = linux.map(file.number, { offset: 4096, length: 4096, write: false }, 'test');
    whole.bytes[4096] = 7;
    expect(second.bytes[0]).toBe(7);
    whole.view.setUint32(4100, 0x12345678, true);
    expect(second.view.getUint32(4, true)).toBe(0x12345678);
  });

  it('shows zeros behind a mapping that was given back, and nothing of the file', async () => {
    using linux = await Linux.load();
    using file = memfd(linux, 'test', 4096);
    const mapping = linux.map(file.number, { offset: 0, length: 4096, write: true }, 'test');
    const { bytes } = mapping;
    bytes.fill(9);
    mapping[Symbol.dispose]();
    expect(mapping.isOpen).toBe(false);
    expect(bytes[100]).toBe(0);
    bytes[100] = 1;
    using again = linux.map(file.number, { offset: 0, length: 4096, write: false }, 'test');
    expect(again.bytes[100]).toBe(9);
  });

  it('makes memory of zeros, of any length', async () => {
    using linux = await Linux.load();
    using memory = linux.memory(5000, 'a test');
    expect(memory.length).toBe(8192);
    expect(memory.bytes.every((byte) => byte === 0)).toBe(true);
    expect(memory.address % 4096).toBe(0);
  });

  it('has what it needs and nothing else once it is imported: two do not know each other', async () => {
    using first = await Linux.load();
    using second = await Linux.load();
    using _counter = eventfd(first);
    expect(second.table.count()).toBe(0);
  });

  it('says so where there are no such calls, and not before somebody wants them', async () => {
    const real = Object.getOwnPropertyDescriptor(process, 'platform');
    if (real === undefined) throw new Error('no platform');
    Object.defineProperty(process, 'platform', { ...real, value: 'darwin' });
    try {
      await expect(Linux.load()).rejects.toMatchObject({ code: 'ENOSYS', message: expect.stringContaining('darwin') });
    } finally {
      Object.defineProperty(process, 'platform', real);
    }
  });

  it('seals a memfd', async () => {
    using linux = await Linux.load();
    using file = memfd(linux, 'sealed', 4096, Seal.SHRINK);
    expect(linux.calls.ftruncate(file.number, 0)).toBe(-1);
    expect(linux.failure('ftruncate')).toMatchObject({ code: 'EPERM', syscall: 'ftruncate' });
  });
});
