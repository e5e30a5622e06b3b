// A server that checks nothing and does nothing: what Node and its system calls cost. It is right for the client in C, which
// sends only what is correct and waits where it has to, and wrong for everybody else.
//
//   node user-probe.js [--polling] SOCKET

import { Epoll, EventCalls, Linux, listenUnix, NOT_NOW, PollEvent, Transfer, type UnixSocket } from '@vfio/sys';

/** Offsets from the start of a message. */
const at = {
  id: 0,
  command: 2,
  size: 4,
  flags: 8,
  error: 12,
  payload: 16,
  irqFlags: 20,
  count: 28,
  irqCount: 28,
  regionSize: 32,
};

/** Commands that need more than the bytes of their reply. */
const command = { version: 1, unmap: 3, info: 4, region: 5, irq: 7, setIrqs: 8, read: 9, write: 10 };

/** Bytes behind the header of a reply, without data. */
const payloads = new Map([
  [command.unmap, 24],
  [command.info, 16],
  [command.region, 32],
  [command.irq, 16],
  [command.read, 16],
  [command.write, 16],
]);

const isReply = 1;
const noReply = 0x10;
/** SET_IRQS: no data, trigger. */
const triggerNow = 0x21;
const regionBytes = 1n << 20n;
const vectors = 32;
const bufferBytes = 8 << 20;
/** How long it asks again and again after the last message, if it polls. */
const spinMs = 20;
/** How long it blocks at a time. */
const blockMs = 1000;

const words = process.argv.slice(2);
const polling = words[0] === '--polling';
const linux = await Linux.load();
const transfer = new Transfer(linux);
const events = new EventCalls(linux);
const input = linux.memory(bufferBytes, 'input');
const output = linux.memory(bufferBytes, 'output');
const source = input.view;
const target = output.view;
const capabilities = new TextEncoder().encode('{"capabilities":{"max_data_xfer_size":1048576}}\0');
/** The vector's event counter. */
let vector = -1;

/** Does what the message at an offset asks for, and writes its reply; the offset behind the reply. */
function answer(from: number, to: number, fds: number[]): number {
  const kind = source.getUint16(from + at.command, true);
  if (source.getUint32(from + at.flags, true) & noReply) return to;
  let size = at.payload + (payloads.get(kind) ?? 0);
  for (let offset = at.payload; offset < size; offset += 4) {
    target.setUint32(to + offset, source.getUint32(from + offset, true), true);
  }
  if (kind === command.read) size += source.getUint32(from + at.count, true);
  else if (kind === command.setIrqs) setIrqs(from, fds);
  else if (kind === command.region) target.setBigUint64(to + at.regionSize, regionBytes, true);
  else if (kind === command.irq) target.setUint32(to + at.irqCount, vectors, true);
  else if (kind === command.version) {
    size += 4 + capabilities.length;
    target.setUint32(to + at.payload, 0, true);
    output.bytes.set(capabilities, to + at.payload + 4);
  }
  for (const fd of fds.splice(0)) linux.calls.close(fd);
  target.setUint16(to + at.id, source.getUint16(from + at.id, true), true);
  target.setUint16(to + at.command, kind, true);
  target.setUint32(to + at.size, size, true);
  target.setUint32(to + at.flags, isReply, true);
  target.setUint32(to + at.error, 0, true);
  return to + size;
}

function setIrqs(from: number, fds: number[]): void {
  if (source.getUint32(from + at.irqFlags, true) === triggerNow) events.signal(vector);
  const fd = fds.shift();
  if (fd === undefined) return;
  if (vector >= 0) linux.calls.close(vector);
  vector = fd;
}

/** Sends all of the replies; the client reads them. */
function send(socket: UnixSocket, length: number): void {
  let sent = transfer.send(socket.number, output.address, length);
  if (sent === length) return;
  epoll.modify(socket.number, PollEvent.OUT);
  for (sent = Math.max(sent, 0); sent < length; ) {
    epoll.wait(blockMs);
    const count = transfer.send(socket.number, output.address + sent, length - sent);
    if (count !== NOT_NOW) sent += count;
  }
  epoll.modify(socket.number, PollEvent.IN);
}

/** Answers all messages that are there as a whole; bytes of them. */
function answerAll(socket: UnixSocket, have: number, fds: number[]): number {
  let from = 0;
  let to = 0;
  while (have - from >= at.payload) {
    const size = source.getUint32(from + at.size, true);
    if (have - from < size) break;
    to = answer(from, to, fds);
    from += size;
  }
  if (to > 0) send(socket, to);
  return from;
}

/** Serves a client until it leaves. */
function serve(socket: UnixSocket): void {
  const fds: number[] = [];
  let have = 0;
  let last = 0;
  for (;;) {
    const count = transfer.receive(socket.number, input.address + have, bufferBytes - have, fds);
    if (count === 0) return;
    if (count === NOT_NOW) {
      if (!polling || performance.now() - last > spinMs) epoll.wait(blockMs);
      continue;
    }
    if (polling) last = performance.now();
    have += count;
    const done = answerAll(socket, have, fds);
    if (done < have) input.bytes.copyWithin(0, done, have);
    have -= done;
  }
}

const listener = listenUnix(linux, words.at(-1) ?? '');
const epoll = new Epoll(linux);
// nobody else runs in this thread, and the signal that ends it needs no handler
for (;;) {
  epoll.add(listener.number, PollEvent.IN);
  epoll.wait(blockMs);
  epoll.remove(listener.number);
  using socket = listener.accept();
  if (!socket) continue;
  epoll.add(socket.number, PollEvent.IN);
  serve(socket);
  epoll.remove(socket.number);
}
