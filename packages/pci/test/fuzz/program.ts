/*
 * What a random program does with an open function, as data that a failing run prints. Most steps are such that they can succeed;
 * numbers count among what there is, and those that are too large are as they stand.
 */
import fc from 'fast-check';
import { Command } from '../../src/bus/regs.js';

/** Eventfds that a program has. */
export const EVENTS = 4;
/** From here on the number of a region or of an interrupt index counts in all, not among those that there are. */
export const RAW = 32;

const U32 = 0xffff_ffff;
/** Features that are known, and two that are not. */
const FEATURES = 14;
const LOW_POWER = [3, 4, 5];

const byte = fc.oneof(fc.constantFrom(0, 0xff), fc.integer({ min: 0, max: 0xff }));
const bytes = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(1, 2, 4).chain((n) => fc.array(byte, { minLength: n, maxLength: n })) },
  fc.array(byte, { maxLength: 40 }),
);
const number = fc.oneof({ weight: 4, arbitrary: fc.nat(8) }, fc.constantFrom(0x7fff_ffff, 0x8000_0000, U32, 2048, 16));
const offset = fc.oneof(
  { weight: 4, arbitrary: fc.nat(0x400) },
  fc.nat(0x2_0000),
  // From the end of the region.
  fc.integer({ min: -16, max: -1 }),
  fc.constantFrom(0xa0000, 0xbffff, 0x3b0, 0x3c0, 0x3da, 2 ** 32, 2 ** 39),
);
const region = fc.oneof({ weight: 8, arbitrary: fc.nat(8) }, fc.integer({ min: RAW, max: RAW + 12 }));
const irqIndex = fc.oneof({ weight: 8, arbitrary: fc.nat(4) }, fc.integer({ min: RAW, max: RAW + 6 }));
/** An eventfd by its index, or any other number. */
const descriptor = fc.oneof(
  { weight: 6, arbitrary: fc.nat(EVENTS - 1) },
  { weight: 2, arbitrary: fc.constant(-1) },
  fc.integer({ min: -3, max: 40 }),
);
const irqFlags = fc.oneof(
  { weight: 6, arbitrary: fc.constant(0x24) },
  { weight: 5, arbitrary: fc.tuple(fc.constantFrom(1, 2, 4), fc.constantFrom(8, 0x10, 0x20)).map(([a, b]) => a | b) },
  fc.nat(0x7f),
);
/** Bytes more or fewer than are right. */
const argszError = fc.oneof({ weight: 8, arbitrary: fc.constant(0) }, fc.constantFrom(-4, -1, 1, 4, 64, U32));
const decodes = Command.IO | Command.MEMORY | Command.MASTER;
const command = fc.oneof(fc.constantFrom(decodes, decodes, 0, Command.MEMORY), fc.nat(0xffff));
const page = fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.nat(40));
const pages = fc.oneof({ weight: 4, arbitrary: fc.constant(1) }, number);
const shared = fc.oneof({ weight: 6, arbitrary: fc.constant(true) }, fc.constant(false));
const size = fc.constantFrom(1, 2, 4, 8);
const mapping = fc.nat(3);
const start = fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, number);
const count = fc.oneof({ weight: 3, arbitrary: fc.integer({ min: 1, max: 3 }) }, number);
const operation = fc.oneof({ weight: 3, arbitrary: fc.constant(2) }, fc.nat(8));
const featureFlags = fc
  .tuple(fc.oneof(fc.constantFrom(...LOW_POWER), fc.nat(FEATURES)), operation)
  .map(([feature, what]) => feature | (what << 16));
/** In config space: in a capability or near it, whose places differ from function to function. */
const place = { cap: fc.nat(24), at: fc.oneof({ weight: 3, arbitrary: fc.nat(0x14) }, fc.nat(0x40)) };

const be = <T extends string>(...names: T[]) => fc.constantFrom(...names);
const step = {
  access: fc.record({ do: be('read', 'write'), region, at: offset, bytes }),
  config: fc.record({ do: be('readConfig', 'writeConfig', 'writeConfig'), ...place, bytes }),
  command: fc.record({ do: be('command'), value: command }),
  powerState: fc.record({ do: be('powerState'), value: fc.nat(3) }),
  mmap: fc.record({ do: be('mmap'), region, page, pages, shared }),
  touch: fc.record({ do: be('load', 'store'), mapping, at: fc.nat(0x1008), size }),
  munmap: fc.record({ do: be('munmap'), mapping }),
  setIrqs: fc.record({
    do: be('setIrqs'),
    flags: irqFlags,
    index: irqIndex,
    start,
    count,
    fds: fc.array(descriptor, { minLength: 1, maxLength: 4 }),
    argszError,
  }),
  signal: fc.record({ do: be('signal', 'drain'), event: fc.nat(EVENTS - 1) }),
  interrupt: fc.record({ do: be('interrupt'), vector: fc.nat(4) }),
  info: fc.record({ do: be('info'), kind: fc.nat(2), argsz: fc.nat(200), index: number }),
  plain: fc.record({ do: be('reset', 'reset', 'flr', 'sysfsReset', 'reopen', 'error', 'openBeside') }),
  hotResetInfo: fc.record({ do: be('hotResetInfo'), room: fc.integer({ min: -1, max: 8 }) }),
  hotReset: fc.record({
    do: be('hotReset'),
    flags: fc.constantFrom(0, 0, 0, 1),
    groups: fc.constantFrom(9, 9, 9, 1, 0),
    extra: fc.oneof({ weight: 3, arbitrary: fc.constant<number[]>([]) }, fc.array(descriptor, { maxLength: 2 })),
    argszError,
  }),
  ioeventfd: fc.record({
    do: be('ioeventfd'),
    region,
    at: offset,
    flags: fc.oneof({ weight: 3, arbitrary: fc.constantFrom(1, 2, 4) }, fc.nat(31)),
    data: fc.nat(3),
    fd: descriptor,
  }),
  feature: fc.record({
    do: be('feature'),
    flags: featureFlags,
    data: fc.oneof(fc.constantFrom<number[]>([], [0, 0, 0, 0, 0, 0, 0, 0]), fc.array(byte, { maxLength: 24 })),
    argszError,
  }),
  ioctl: fc.record({
    do: be('ioctl'),
    request: fc.oneof(fc.integer({ min: 0x3b64, max: 0x3b80 }), fc.nat()),
    argument: fc.array(byte, { maxLength: 40 }),
  }),
  time: fc.record({ do: be('time'), ms: fc.constantFrom(1, 100, 5000) }),
};

const action = fc.oneof(
  { weight: 8, arbitrary: step.config },
  { weight: 10, arbitrary: step.setIrqs },
  { weight: 5, arbitrary: step.access },
  { weight: 4, arbitrary: step.plain },
  { weight: 3, arbitrary: fc.oneof(step.command, step.powerState) },
  { weight: 3, arbitrary: step.feature },
  { weight: 3, arbitrary: fc.oneof(step.signal, step.interrupt) },
  { weight: 3, arbitrary: step.ioeventfd },
  { weight: 3, arbitrary: step.mmap },
  { weight: 3, arbitrary: step.touch },
  { weight: 3, arbitrary: fc.oneof(step.hotReset, step.hotResetInfo, step.info) },
  { weight: 2, arbitrary: fc.oneof(step.ioctl, step.time, step.munmap) },
);

/** A step for each of its names. */
type Named<T> = T extends { readonly do: infer N }
  ? N extends string
    ? Omit<T, 'do'> & { readonly do: N }
    : never
  : never;

/** One thing that a program does. `later`: it goes on before that has ended. */
export type Step = Named<typeof action extends fc.Arbitrary<infer T> ? T : never> & { readonly later: boolean };

/** A step of one kind. */
export type StepOf<K extends Step['do']> = Extract<Step, { readonly do: K }>;

/** A random program. */
export const program: fc.Arbitrary<Step[]> = fc.array(
  fc.tuple(action, fc.boolean()).map(([one, later]): Step => ({ ...one, later })),
  { minLength: 1, maxLength: 60, size: 'max' },
);
