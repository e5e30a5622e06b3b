// Commands on event descriptors, and those that wait for something.

import { Poll } from '@vfio/host';
import { type Command, type CommandCall, wordAt } from '../command.js';
import { attempt, showOutcome } from '../outcome.js';
import { hex64 } from '../output.js';
import { getScalar, needScalar, putScalar, type Scalar, swapBytes } from '../scalar.js';

/** How often `await` and `awaitmem` look again. */
const LOOK_AGAIN_MS = 2;

const counter: Scalar = { size: 8, signed: false };

async function eventfd(call: CommandCall): Promise<void> {
  const { process, names } = call.scope;
  let initial = 0n;
  let semaphore = false;
  for (const word of call.words.slice(2)) {
    if (word === 'semaphore') semaphore = true;
    else initial = BigInt.asUintN(32, names.evaluate(word));
  }
  const made = await attempt(() => process.eventfd(Number(initial), { semaphore, nonblock: true, cloexec: true }));
  if (made.ok) names.descriptors.set(wordAt(call, 1), made.value);
  showOutcome(call.result, made, 'fd');
}

async function evread(call: CommandCall): Promise<void> {
  const { process, names } = call.scope;
  const { result } = call;
  const descriptor = names.descriptor(wordAt(call, 1));
  const timeout = call.words.length > 2 ? milliseconds(call, 2) : 0;
  const bytes = new Uint8Array(8);
  const polled = await attempt(() => process.poll([{ fd: descriptor, events: Poll.IN }], timeout));
  const ready = polled.ok && ((polled.value[0] ?? 0) & Poll.IN) !== 0;
  const got = ready ? await attempt(() => process.read(descriptor, bytes)) : undefined;
  if (!got?.ok || got.value !== 8) {
    result.signaled = false;
    return;
  }
  result.signaled = true;
  if (!call.options.quiet) result.count = signed(getScalar(bytes, 0, counter, names.byteOrder));
}

async function evwrite(call: CommandCall): Promise<void> {
  const { process, names } = call.scope;
  const bytes = new Uint8Array(8);
  const count = call.words.length > 2 ? names.evaluate(wordAt(call, 2)) : 1n;
  putScalar(bytes, 0, counter, count, names.byteOrder);
  showOutcome(call.result, await attempt(() => process.write(names.descriptor(wordAt(call, 1)), bytes)));
}

async function poll(call: CommandCall): Promise<void> {
  const { process, names } = call.scope;
  const fd = names.descriptor(wordAt(call, 1));
  const timeout = milliseconds(call, 2);
  const done = await attempt(() => process.poll([{ fd, events: Poll.IN | Poll.OUT | Poll.PRI }], timeout));
  const revents = done.ok ? (done.value[0] ?? 0) : 0;
  showOutcome(call.result, done, revents === 0 ? 0 : 1);
  call.result.revents = pollNames
    .filter(([bit]) => (revents & bit) !== 0)
    .map(([, name]) => `${name} `)
    .join('');
}

const pollNames: readonly (readonly [number, string])[] = [
  [Poll.IN, 'in'],
  [Poll.OUT, 'out'],
  [Poll.PRI, 'pri'],
  [Poll.ERR, 'err'],
  [Poll.HUP, 'hup'],
  [Poll.NVAL, 'nval'],
];

async function awaitRegister(call: CommandCall): Promise<void> {
  const { process, names, clock } = call.scope;
  const descriptor = names.descriptor(wordAt(call, 1));
  const offset = BigInt.asIntN(64, names.evaluate(wordAt(call, 2)));
  const scalar = needScalar(wordAt(call, 3));
  const condition = readCondition(call);
  for (;;) {
    const bytes = new Uint8Array(scalar.size);
    const got = await attempt(() => process.pread(descriptor, bytes, offset));
    if (!got.ok || got.value !== scalar.size) {
      showOutcome(call.result, got);
      return;
    }
    if (showWhenDone(call, condition, getScalar(bytes, 0, scalar, names.byteOrder))) return;
    await clock.sleep(LOOK_AGAIN_MS, call.scope.process.signal);
  }
}

async function awaitMemory(call: CommandCall): Promise<void> {
  const { names, memory, clock } = call.scope;
  const area = names.area(wordAt(call, 1));
  const address = area.address + names.evaluate(wordAt(call, 2));
  const scalar = needScalar(wordAt(call, 3));
  const swap = scalar.order !== undefined && scalar.order !== names.byteOrder;
  const condition = readCondition(call);
  for (;;) {
    const access = memory.load(address, scalar.size);
    if ('fault' in access) {
      call.result.fault = access.fault;
      return;
    }
    const value = swap ? swapBytes(access.value, scalar.size) : access.value;
    if (showWhenDone(call, condition, value)) return;
    await clock.sleep(LOOK_AGAIN_MS, call.scope.process.signal);
  }
}

interface Condition {
  readonly mask: bigint;
  readonly wanted: bigint;
  readonly endMs: number;
}

function readCondition(call: CommandCall): Condition {
  const { names, clock } = call.scope;
  return {
    mask: names.evaluate(wordAt(call, 4)),
    wanted: names.evaluate(wordAt(call, 5)),
    endMs: clock.now() + Number(names.evaluate(wordAt(call, 6))),
  };
}

/** Whether the waiting is over: the condition holds, or its time has passed. */
function showWhenDone(call: CommandCall, { mask, wanted, endMs }: Condition, value: bigint): boolean {
  const ok = (value & mask) === wanted;
  if (!ok && call.scope.clock.now() <= endMs) return false;
  call.result.ok = ok;
  if (!call.options.quiet) call.result.value = hex64(value);
  return true;
}

async function sleep(call: CommandCall): Promise<void> {
  const { clock, names, process } = call.scope;
  await clock.sleep(Number(names.evaluate(wordAt(call, 1))), process.signal);
}

/** A time in milliseconds: 32 bits with a sign; a negative one has no end. */
function milliseconds(call: CommandCall, index: number): number {
  return Number(BigInt.asIntN(32, call.scope.names.evaluate(wordAt(call, index))));
}

/** A number as transcripts have it: 64 bits with a sign. */
function signed(value: bigint): number | bigint {
  const number = BigInt.asIntN(64, value);
  return Number.isSafeInteger(Number(number)) ? Number(number) : number;
}

/** Commands that wait, by name. */
export const waitingCommands: Readonly<Record<string, Command>> = {
  eventfd: { usage: 'eventfd NAME [INITIAL] [semaphore]', words: 2, run: eventfd },
  evread: { usage: 'evread NAME [TIMEOUT_MS]', words: 2, run: evread },
  evwrite: { usage: 'evwrite NAME [VALUE]', words: 2, run: evwrite },
  poll: { usage: 'poll NAME TIMEOUT_MS', words: 3, run: poll },
  await: { usage: 'await FD OFFSET TYPE MASK VALUE TIMEOUT_MS', words: 7, run: awaitRegister },
  awaitmem: { usage: 'awaitmem AREA OFFSET TYPE MASK VALUE TIMEOUT_MS', words: 7, run: awaitMemory },
  sleep: { usage: 'sleep MS', words: 2, run: sleep },
};
