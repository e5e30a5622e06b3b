import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  adoptListener,
  connectUnix,
  dup,
  Fd,
  fstat,
  Linux,
  listenUnix,
  memfd,
  NOT_NOW,
  socketPair,
  Transfer,
} from '../src/index.js';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vfio-sys-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

describe('paths', () => {
  it('are for their owner only, whatever the umask, and go with the listener', async () => {
    using linux = await Linux.load();
    const path = join(directory, 'socket');
    const listener = listenUnix(linux, path);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    using client = connectUnix(linux, path);
    using accepted = listener.accept();
    expect(accepted?.isOpen).toBe(true);
    expect(listener.accept()).toBeUndefined();
    expect(client.isOpen).toBe(true);
    listener.close();
    expect(statSync(path, { throwIfNoEntry: false })).toBeUndefined();
  });

  it('are taken over from who has left, and from nobody else', async () => {
    using linux = await Linux.load();
    const path = join(directory, 'socket');
    const first = listenUnix(linux, path);
    expect(() => listenUnix(linux, path)).toThrowError(expect.objectContaining({ code: 'EADDRINUSE' }));
    // as if its process had been killed: the path stays
    linux.calls.close(first.release());
    using second = listenUnix(linux, path);
    using _client = connectUnix(linux, path);
    second.accept()?.close();
    const file = join(directory, 'file');
    writeFileSync(file, 'precious');
    expect(() => listenUnix(linux, file)).toThrowError(expect.objectContaining({ code: 'EADDRINUSE' }));
    expect(statSync(file).size).toBe(8);
  });

  it('have a length', async () => {
    using linux = await Linux.load();
    expect(() => listenUnix(linux, `/tmp/${'x'.repeat(200)}`)).toThrowError(
      expect.objectContaining({ code: 'EINVAL' }),
    );
    expect(() => connectUnix(linux, join(directory, 'nobody'))).toThrowError(
      expect.objectContaining({ code: 'ENOENT', syscall: 'connect' }),
    );
  });

  it('can be opened by somebody else, who passes the descriptor', async () => {
    using linux = await Linux.load();
    const path = join(directory, 'socket');
    using theirs = listenUnix(linux, path);
    const adopted = adoptListener(linux, dup(linux, theirs.number).release());
    using _client = connectUnix(linux, path);
    adopted.accept()?.close();
    adopted.close();
    expect(statSync(path).isSocket()).toBe(true);
    using file = memfd(linux, 'no socket', 0);
    expect(() => adoptListener(linux, file.number)).toThrowError(expect.objectContaining({ code: 'ENOTSOCK' }));
    const [left, right] = socketPair(linux);
    expect(() => adoptListener(linux, left.number)).toThrowError(expect.objectContaining({ code: 'EINVAL' }));
    left.close();
    right.close();
  });
});

describe('Transfer', () => {
  it('moves bytes, and says when there are none, and when it is over', async () => {
    using linux = await Linux.load();
    using transfer = new Transfer(linux);
    using memory = linux.memory(4096, 'bytes');
    const [left, right] = socketPair(linux);
    const fds: number[] = [];
    expect(transfer.receive(right.number, memory.address, 100, fds)).toBe(NOT_NOW);
    memory.bytes.set([1, 2, 3, 4, 5]);
    expect(transfer.send(left.number, memory.address, 5)).toBe(5);
    expect(transfer.receive(right.number, memory.address + 100, 3, fds)).toBe(3);
    expect(transfer.receive(right.number, memory.address + 103, 100, fds)).toBe(2);
    expect([...memory.bytes.subarray(100, 105)]).toEqual([1, 2, 3, 4, 5]);
    expect(fds).toEqual([]);
    left.endWriting();
    expect(transfer.receive(right.number, memory.address, 100, fds)).toBe(0);
    expect(transfer.send(right.number, memory.address, 5)).toBe(5);
    left.close();
    expect(() => transfer.send(right.number, memory.address, 5)).toThrowError(
      expect.objectContaining({ code: 'EPIPE', syscall: 'sendmsg' }),
    );
    right.close();
  });

  it('moves descriptors, and a read ends behind what brought them', async () => {
    using linux = await Linux.load();
    using transfer = new Transfer(linux);
    using memory = linux.memory(4096, 'bytes');
    const [left, right] = socketPair(linux);
    using first = memfd(linux, 'first', 1);
    using second = memfd(linux, 'second', 2);
    transfer.send(left.number, memory.address, 10);
    transfer.send(left.number, memory.address, 20, [first.number, second.number]);
    transfer.send(left.number, memory.address, 30);
    const fds: number[] = [];
    expect(transfer.receive(right.number, memory.address, 4096, fds)).toBe(30);
    expect(transfer.truncated).toBe(false);
    const got = fds.map((fd) => new Fd(linux, fd, 'received'));
    expect(got.map((fd) => fstat(fd.number).size)).toEqual([1, 2]);
    for (const fd of got) fd.close();
    expect(transfer.receive(right.number, memory.address, 4096, fds)).toBe(30);
    expect(fds).toHaveLength(2);
    left.close();
    right.close();
  });

  it('moves 253 descriptors at once', async () => {
    using linux = await Linux.load();
    using transfer = new Transfer(linux);
    using memory = linux.memory(16, 'bytes');
    const [left, right] = socketPair(linux);
    using file = memfd(linux, 'many', 3);
    transfer.send(
      left.number,
      memory.address,
      1,
      Array.from({ length: 253 }, () => file.number),
    );
    const fds: number[] = [];
    expect(transfer.receive(right.number, memory.address, 16, fds)).toBe(1);
    expect(fds).toHaveLength(253);
    for (const fd of fds) linux.check(linux.calls.close(fd), 'close');
    left.close();
    right.close();
  });

  it('says when the other side does not read', async () => {
    using linux = await Linux.load();
    using transfer = new Transfer(linux);
    using memory = linux.memory(65536, 'bytes');
    const [left, right] = socketPair(linux);
    let sent = 0;
    for (;;) {
      const count = transfer.send(left.number, memory.address, 65536);
      if (count === NOT_NOW) break;
      sent += count;
    }
    expect(sent).toBeGreaterThan(0);
    left.close();
    right.close();
  });
});
