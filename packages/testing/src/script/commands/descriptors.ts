// Commands on descriptors: open, close, dup, ioctl, read, write and lseek.

import { O, Seek } from '@vfio/host';
import { bytesOf } from '../byte-string.js';
import { type Command, type CommandCall, wordAt } from '../command.js';
import { ScriptMistake } from '../errors.js';
import { buildItems, type ItemBytes } from '../items.js';
import { attempt, showOutcome } from '../outcome.js';
import { showBytes } from '../output.js';

/** An address that no process can have anything at, for `!badptr`. */
const BAD_POINTER = 8n;

/** Longest read that a script may ask for. */
const MAX_READ = 64n << 20n;

const accessModes: Readonly<Record<string, number>> = { rdonly: O.RDONLY, wronly: O.WRONLY, rdwr: O.RDWR };

const openFlags: Readonly<Record<string, number>> = {
  nonblock: O.NONBLOCK,
  cloexec: O.CLOEXEC,
  creat: O.CREAT,
  trunc: O.TRUNC,
  path: O.PATH,
};

async function open(call: CommandCall): Promise<void> {
  const { process, names } = call.scope;
  let access: number = O.RDWR;
  let flags = 0;
  for (const word of wordAt(call, 3).split(',')) {
    const mode = accessModes[word];
    const flag = openFlags[word];
    if (mode !== undefined) access = mode;
    else if (flag !== undefined) flags |= flag;
    else if (word !== '') throw new ScriptMistake(`unknown open flag ${word}`);
  }
  const opened = await attempt(() => process.open(call.scope.path(wordAt(call, 2)), access | flags, 0o600));
  if (opened.ok) names.descriptors.set(wordAt(call, 1), opened.value);
  showOutcome(call.result, opened, 'fd');
}

async function close(call: CommandCall): Promise<void> {
  const { process, names } = call.scope;
  const name = wordAt(call, 1);
  const closed = await attempt(() => process.close(names.descriptor(name)));
  showOutcome(call.result, closed, 0);
  // the name means nothing any more, even if the number comes back
  if (closed.ok && !/^[0-9]/.test(name)) names.descriptors.set(name, -1);
}

async function dup(call: CommandCall): Promise<void> {
  const { process, names } = call.scope;
  const copied = await attempt(() => process.dup(names.descriptor(wordAt(call, 2))));
  if (copied.ok) names.descriptors.set(wordAt(call, 1), copied.value);
  showOutcome(call.result, copied, 'fd');
}

async function ioctl(call: CommandCall): Promise<void> {
  const { process, names, memory } = call.scope;
  const { result, options } = call;
  const descriptor = names.descriptor(wordAt(call, 1));
  const request = Number(BigInt.asUintN(32, names.evaluate(wordAt(call, 2))));
  const { argument, sent } = ioctlArgument(call);
  const done = await attempt(() => process.ioctl(descriptor, request, argument));
  if (done.ok && options.fd !== undefined) names.descriptors.set(options.fd, done.value);
  let shown: string | undefined;
  if (options.noret) shown = '*';
  if (options.fd !== undefined) shown = 'fd';
  showOutcome(result, done, shown);
  if (sent) showBytes(result, memory.read(argument, sent.bytes.length), options, names, sent, done.ok);
}

/** The third argument of an ioctl in its several forms; `sent` if it is a structure, which comes back with the answer. */
function ioctlArgument(call: CommandCall): { argument: bigint; sent?: ItemBytes } {
  const { names, memory } = call.scope;
  const form = wordAt(call, 3);
  switch (form) {
    case 'none':
    case 'null':
      return { argument: 0n };
    case 'int':
    case 'addr':
      return { argument: names.evaluate(argumentWord(call, 'ioctl FD REQUEST int N')) };
    case 'str':
      return { argument: memory.placed(bytesOf(`${argumentWord(call, 'ioctl FD REQUEST str TEXT')}\0`)) };
    case 'buf':
      return { argument: names.address(argumentWord(call, 'ioctl FD REQUEST buf AREA')) };
    case '{': {
      const end = call.words.indexOf('}', 4);
      if (end < 0) throw new ScriptMistake('missing }');
      const sent = buildItems(call.words.slice(4, end), names, call.options.room);
      return { argument: memory.placed(sent.bytes), sent };
    }
  }
  throw new ScriptMistake(`unknown ioctl argument form '${form}'`);
}

function argumentWord(call: CommandCall, usage: string): string {
  const word = call.words[4];
  if (word === undefined) throw new ScriptMistake(`usage: ${usage}`);
  return word;
}

async function read(call: CommandCall): Promise<void> {
  const offset = offsetWord(call, 2);
  await readInto(call, wordAt(call, 3), (descriptor, into) => call.scope.process.pread(descriptor, into, offset));
}

async function sread(call: CommandCall): Promise<void> {
  await readInto(call, wordAt(call, 2), (descriptor, into) => call.scope.process.read(descriptor, into));
}

type Transfer = (descriptor: number, buffer: { addr: bigint; length: number }) => number | Promise<number>;

async function readInto(call: CommandCall, lengthText: string, transfer: Transfer): Promise<void> {
  const { names, memory } = call.scope;
  const wanted = names.evaluate(lengthText);
  if (wanted > MAX_READ) throw new ScriptMistake('read too long');
  const length = Number(wanted);
  const buffer = memory.placed(new Uint8Array(length).fill(0xcc));
  const addr = call.options.badptr ? BAD_POINTER : buffer;
  const done = await attempt(() => transfer(names.descriptor(wordAt(call, 1)), { addr, length }));
  showOutcome(call.result, done);
  if (done.ok) showBytes(call.result, memory.read(buffer, done.value), call.options, names);
}

async function write(call: CommandCall): Promise<void> {
  const offset = offsetWord(call, 2);
  await writeFrom(call, 3, (descriptor, from) => call.scope.process.pwrite(descriptor, from, offset));
}

async function swrite(call: CommandCall): Promise<void> {
  await writeFrom(call, 2, (descriptor, from) => call.scope.process.write(descriptor, from));
}

async function writeFrom(call: CommandCall, firstItem: number, transfer: Transfer): Promise<void> {
  const { names, memory } = call.scope;
  const { bytes } = buildItems(call.words.slice(firstItem), names);
  const buffer = memory.placed(bytes);
  const addr = call.options.badptr ? BAD_POINTER : buffer;
  const done = await attempt(() => transfer(names.descriptor(wordAt(call, 1)), { addr, length: bytes.length }));
  showOutcome(call.result, done);
}

async function lseek(call: CommandCall): Promise<void> {
  const { process, names } = call.scope;
  const from = wordAt(call, 3);
  let whence: number = Seek.END;
  if (from === 'set') whence = Seek.SET;
  if (from === 'cur') whence = Seek.CUR;
  const offset = offsetWord(call, 2);
  showOutcome(call.result, await attempt(() => process.lseek(names.descriptor(wordAt(call, 1)), offset, whence)));
}

/** A file offset: 64 bits with a sign. */
function offsetWord(call: CommandCall, index: number): bigint {
  return BigInt.asIntN(64, call.scope.names.evaluate(wordAt(call, index)));
}

/** Commands on descriptors, by name. */
export const descriptorCommands: Readonly<Record<string, Command>> = {
  open: { usage: 'open NAME PATH [FLAGS]', words: 3, run: open },
  close: { usage: 'close NAME', words: 2, run: close },
  dup: { usage: 'dup NEW OLD', words: 3, run: dup },
  ioctl: { usage: 'ioctl FD REQUEST none|null|int N|addr N|str TEXT|buf AREA|{ items }', words: 4, run: ioctl },
  read: { usage: 'read FD OFFSET LEN', words: 4, run: read },
  sread: { usage: 'sread FD LEN', words: 3, run: sread },
  write: { usage: 'write FD OFFSET ITEMS', words: 3, run: write },
  swrite: { usage: 'swrite FD ITEMS', words: 2, run: swrite },
  lseek: { usage: 'lseek FD OFFSET set|cur|end', words: 4, run: lseek },
};
