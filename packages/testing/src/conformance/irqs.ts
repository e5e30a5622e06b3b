/* Interrupts: VFIO_DEVICE_GET_IRQ_INFO, what VFIO_DEVICE_SET_IRQS checks of every request, and the way to an eventfd. */
import type { Device, Irq } from '@vfio/client';
import { IrqSetFlag, irqInfo, irqSet, Request } from '@vfio/core';
import type { DriverConformance } from './options.js';
import { ends, keeps, outcomeOf } from './promise.js';
import { type CaseSpec, padded, type Subject, writtenPast } from './subject.js';

const U32_MAX = 0xffff_ffff;
/** Vectors of an index that are tried. */
const MOST_VECTORS = 4;

const { DATA_NONE, DATA_BOOL, DATA_EVENTFD, ACTION_TRIGGER } = IrqSetFlag;

const hasIrqs = ({ irqs }: DriverConformance) => irqs > 0;

/** The indices that are described and have interrupts. */
async function present(device: Device): Promise<Irq[]> {
  return (await device.irqs()).filter(({ count }) => count > 0);
}

async function withEventfd(device: Device): Promise<Irq[]> {
  return (await present(device)).filter(({ eventfd }) => eventfd);
}

interface SetRequest {
  readonly argsz?: number;
  readonly flags: number;
  readonly index: number;
  readonly start?: number;
  readonly count?: number;
  readonly data?: Uint8Array;
}

/** SET_IRQS, whatever is wrong with it. */
function setIrqs(subject: Subject, device: Device, request: SetRequest): Promise<number> {
  const { data = new Uint8Array(0), start = 0, count = 0, flags, index } = request;
  const argsz = request.argsz ?? irqSet.size + data.length;
  const head = irqSet.encode({ argsz, flags, index, start, count }, subject.order);
  return subject.ioctl(device, Request.DEVICE_SET_IRQS, Uint8Array.from([...head, ...data]));
}

/** A case on each index that has interrupts, with requests that are all refused. */
function refuses(
  name: string,
  code: 'EINVAL' | 'EFAULT',
  requests: (irq: Irq, options: DriverConformance) => readonly (SetRequest & { readonly what: string })[],
): CaseSpec {
  return {
    name: `set irqs: ${name}`,
    when: hasIrqs,
    async run(subject) {
      await using device = await subject.open();
      for (const irq of await present(device)) {
        for (const { what, ...request } of requests(irq, subject.options)) {
          await ends(() => setIrqs(subject, device, request), code, `SET_IRQS of index ${irq.index} refuses ${what}`);
        }
      }
    },
  };
}

const fire = ACTION_TRIGGER | DATA_NONE;
const connect = ACTION_TRIGGER | DATA_EVENTFD;

/** Interrupt info. */
const descriptions: readonly CaseSpec[] = [
  {
    name: 'irqs: argsz below 16 is EINVAL',
    when: hasIrqs,
    async run(subject) {
      await using device = await subject.open();
      for (const argsz of [0, irqInfo.size - 1]) {
        const bytes = irqInfo.encode({ argsz, index: 0 }, subject.order);
        await ends(
          () => subject.ioctl(device, Request.DEVICE_GET_IRQ_INFO, bytes),
          'EINVAL',
          `GET_IRQ_INFO refuses argsz ${argsz}: the struct has ${irqInfo.size} bytes`,
        );
      }
    },
  },
  {
    name: 'irqs: 16 bytes are enough, and nothing is written past argsz',
    when: hasIrqs,
    async run(subject) {
      await using device = await subject.open();
      for (const { index } of await device.irqs()) {
        for (const argsz of [irqInfo.size, 2 * irqInfo.size]) {
          const bytes = padded(irqInfo.encode({ argsz, index }, subject.order), irqInfo.size, 64);
          const promised = `GET_IRQ_INFO of index ${index} takes argsz ${argsz}`;
          await ends(() => subject.ioctl(device, Request.DEVICE_GET_IRQ_INFO, bytes), 0, promised);
          const at = writtenPast(bytes, irqInfo.size);
          keeps(at === undefined, `GET_IRQ_INFO of index ${index} writes its 16 bytes`, `byte ${at} was written`);
        }
      }
    },
  },
  {
    name: 'irqs: an index past the last is EINVAL',
    when: hasIrqs,
    async run(subject) {
      await using device = await subject.open();
      const { irqs } = subject.options;
      for (const index of [irqs, irqs + 1, U32_MAX]) {
        const bytes = irqInfo.encode({ argsz: irqInfo.size, index }, subject.order);
        await ends(
          () => subject.ioctl(device, Request.DEVICE_GET_IRQ_INFO, bytes),
          'EINVAL',
          `GET_IRQ_INFO refuses index ${index} of ${irqs}`,
        );
      }
    },
  },
  {
    name: 'irqs: counts are what they should be',
    when: ({ irqCounts }) => irqCounts !== undefined,
    async run(subject) {
      await using device = await subject.open();
      const { irqs, irqCounts = {} } = subject.options;
      const found = new Map((await device.irqs()).map(({ index, count }) => [index, count]));
      for (let index = 0; index < irqs; index++) {
        const expected = irqCounts[index] ?? 0;
        const count = found.get(index) ?? 0;
        keeps(count === expected, `interrupt index ${index} has ${expected} interrupts`, `${count}`);
      }
    },
  },
];

/** What is refused, whatever the driver. Source: drivers/vfio/vfio_main.c vfio_set_irqs_validate_and_prepare() */
const refusals: readonly CaseSpec[] = [
  refuses('argsz below 20 is EINVAL', 'EINVAL', ({ index }) =>
    [0, irqSet.size - 1].map((argsz) => ({ what: `argsz ${argsz}`, argsz, index, flags: fire, count: 1 })),
  ),
  refuses('an index past the last is EINVAL', 'EINVAL', (_, { irqs }) =>
    [irqs, U32_MAX].map((index) => ({ what: `index ${index} of ${irqs}`, index, flags: fire, count: 1 })),
  ),
  refuses('an unknown flag is EINVAL', 'EINVAL', ({ index }) =>
    [0x40, 0x8000_0000].map((bit) => ({
      what: `flag 0x${bit.toString(16)}`,
      index,
      flags: (fire | bit) >>> 0,
      count: 1,
    })),
  ),
  refuses('not exactly one kind of data is EINVAL', 'EINVAL', ({ index }) =>
    [0, DATA_NONE | DATA_BOOL, DATA_BOOL | DATA_EVENTFD, DATA_NONE | DATA_EVENTFD].map((kinds) => ({
      what: `kinds of data ${kinds}`,
      index,
      flags: ACTION_TRIGGER | kinds,
      count: 1,
      data: new Uint8Array(4),
    })),
  ),
  refuses('interrupts past the last are EINVAL', 'EINVAL', ({ index, count }) =>
    [
      { start: count, count: 0 },
      { start: count, count: 1 },
      { start: 0, count: count + 1 },
      { start: 1, count },
      { start: U32_MAX, count: 1 },
      { start: 1, count: U32_MAX },
      { start: 0, count: U32_MAX },
    ].map((range) => ({
      what: `${range.count} interrupts from ${range.start} on, of ${count}`,
      index,
      flags: fire,
      ...range,
    })),
  ),
  refuses('argsz without room for the data is EINVAL', 'EINVAL', ({ index }) => [
    { what: 'an eventfd in 3 bytes', index, flags: connect, count: 1, argsz: irqSet.size + 3, data: new Uint8Array(4) },
    { what: 'a boolean in none', index, flags: ACTION_TRIGGER | DATA_BOOL, count: 1, argsz: irqSet.size },
  ]),
  refuses('data that is not there is EFAULT', 'EFAULT', ({ index }) => [
    { what: 'an eventfd that can not be read', index, flags: connect, count: 1, argsz: irqSet.size + 4 },
    { what: 'a cut off eventfd', index, flags: connect, count: 1, argsz: irqSet.size + 4, data: new Uint8Array(3) },
    {
      what: 'a boolean that can not be read',
      index,
      flags: ACTION_TRIGGER | DATA_BOOL,
      count: 1,
      argsz: irqSet.size + 1,
    },
  ]),
];

/** An index with an eventfd on each of its first interrupts. */
interface Connected {
  readonly irq: Irq;
  readonly eventfds: readonly number[];
  /** What each of them counted since the last look. */
  events(): bigint[];
}

/** Runs something on each index that signals eventfds; the index is disconnected afterwards. */
async function onEach(subject: Subject, run: (connected: Connected, device: Device) => Promise<void>): Promise<void> {
  await using device = await subject.open();
  const { transport } = device;
  for (const irq of await withEventfd(device)) {
    const eventfds = Array.from({ length: Math.min(irq.count, MOST_VECTORS) }, () => transport.eventfd());
    await connectAll(irq, eventfds, transport);
    await run({ irq, eventfds, events: () => eventfds.map((fd) => transport.takeEvents(fd)) }, device);
    await irq.setEventfds(eventfds.map(() => undefined));
    await outcomeOf(() => irq.disable());
    for (const eventfd of eventfds) await transport.close(eventfd);
  }
}

/** Connects as many as there are vectors; the others are closed. */
async function connectAll(irq: Irq, eventfds: number[], transport: Device['transport']): Promise<void> {
  const promised = (count: number) => `index ${irq.index} takes eventfds for its first ${count} interrupts`;
  const available = await outcomeOf(() => irq.setEventfds(eventfds));
  if (typeof available === 'number' && available > 0 && available < eventfds.length) {
    for (const eventfd of eventfds.splice(available)) await transport.close(eventfd);
    await ends(() => irq.setEventfds(eventfds), 0, promised(available));
  } else keeps(available === 0, `${promised(eventfds.length)}: 0`, String(available));
}

function expectEvents({ irq, events }: Connected, expected: readonly boolean[], promised: string): void {
  const found = events().map(Number);
  const wanted = expected.map(Number);
  const same = found.every((count, i) => count === wanted[i]);
  keeps(same, `${promised} of index ${irq.index}: eventfds count ${wanted.join(', ')}`, found.join(', '));
}

/** What connected eventfds see. */
const signals: readonly CaseSpec[] = [
  {
    name: 'set irqs: TRIGGER signals the eventfds of its range',
    when: hasIrqs,
    run: (subject) =>
      onEach(subject, async (connected) => {
        const { irq, eventfds } = connected;
        for (const [vector] of eventfds.entries()) {
          await ends(() => irq.trigger(vector), 0, `TRIGGER of interrupt ${vector} of index ${irq.index} is taken`);
          expectEvents(
            connected,
            eventfds.map((_, i) => i === vector),
            `TRIGGER of interrupt ${vector}`,
          );
          // one that masks itself has to be asked for the next
          if (irq.automasked) await irq.unmask(vector);
        }
      }),
  },
  {
    name: 'set irqs: BOOL signals where it is true',
    when: hasIrqs,
    run: (subject) =>
      onEach(subject, async (connected) => {
        const { irq, eventfds } = connected;
        const none = eventfds.map(() => false);
        await ends(() => irq.triggerWhere(none), 0, `TRIGGER of index ${irq.index} with BOOL is taken`);
        expectEvents(connected, none, 'TRIGGER where nothing is true');
        const some = eventfds.map((_, i) => i % 2 === 0);
        await ends(() => irq.triggerWhere(some), 0, `TRIGGER of index ${irq.index} with BOOL is taken`);
        expectEvents(connected, some, 'TRIGGER where every other is true');
      }),
  },
  {
    name: 'set irqs: an eventfd of -1 disconnects',
    when: hasIrqs,
    run: (subject) =>
      onEach(subject, async (connected) => {
        const { irq, eventfds } = connected;
        const first = eventfds.map((_, i) => i === 0);
        await ends(() => irq.setEventfds([undefined]), 0, `interrupt 0 of index ${irq.index} is disconnected by -1`);
        await outcomeOf(() => irq.triggerWhere(first));
        expectEvents(
          connected,
          eventfds.map(() => false),
          'after -1, TRIGGER of interrupt 0',
        );
      }),
  },
  {
    name: 'set irqs: another eventfd takes the place of the first',
    when: hasIrqs,
    run: (subject) =>
      onEach(subject, async (connected, { transport }) => {
        const { irq, eventfds } = connected;
        const other = transport.eventfd();
        await ends(() => irq.setEventfds([other]), 0, `interrupt 0 of index ${irq.index} takes another eventfd`);
        await irq.trigger();
        expectEvents(
          connected,
          eventfds.map(() => false),
          'after another took its place, the first eventfd',
        );
        const count = transport.takeEvents(other);
        keeps(
          count === 1n,
          `TRIGGER of index ${irq.index} signals the eventfd that was connected last`,
          `${count} signals`,
        );
        await irq.setEventfds([undefined]);
        await transport.close(other);
      }),
  },
  {
    name: 'set irqs: TRIGGER with NONE and count 0 disables the index',
    when: hasIrqs,
    run: (subject) =>
      onEach(subject, async (connected) => {
        const { irq, eventfds } = connected;
        await ends(() => irq.disable(), 0, `index ${irq.index} is disabled by count 0`);
        await outcomeOf(() => irq.trigger());
        expectEvents(
          connected,
          eventfds.map(() => false),
          'after disabling, TRIGGER',
        );
      }),
  },
  {
    name: 'set irqs: what is no eventfd is EBADF or EINVAL, and harms nothing',
    when: hasIrqs,
    async run(subject) {
      await using device = await subject.open();
      for (const irq of await withEventfd(device)) {
        const promised = `index ${irq.index} refuses`;
        await ends(() => irq.setEventfds([0x7fff]), 'EBADF', `${promised} a descriptor that is not open`);
        await ends(() => irq.setEventfds([device.fd]), 'EINVAL', `${promised} a descriptor that is no eventfd`);
      }
      await device.close();
      // refused ones are forgotten
      await onEach(subject, async (connected) => {
        await connected.irq.trigger();
        expectEvents(
          connected,
          connected.eventfds.map((_, i) => i === 0),
          'after bad ones were refused, TRIGGER',
        );
      });
    },
  },
  {
    name: 'set irqs: MASK and UNMASK are for an index with flag MASKABLE',
    when: hasIrqs,
    run: (subject) =>
      onEach(subject, async ({ irq }) => {
        const { index } = irq;
        const expected = irq.maskable ? 0 : 'any error';
        const promised = irq.maskable ? `index ${index} has flag MASKABLE` : `index ${index} has not flag MASKABLE`;
        await ends(() => irq.mask(), expected, `${promised}, MASK`);
        await ends(() => irq.unmask(), expected, `${promised}, UNMASK`);
      }),
  },
  {
    name: 'set irqs: the last close lets go of the eventfds',
    when: hasIrqs,
    async run(subject) {
      const { host } = subject;
      const before = host.tracker.count('eventfd');
      const device = await subject.open();
      const { transport } = device;
      let previous: Irq | undefined;
      for (const irq of await withEventfd(device)) {
        // some exclude each other
        await previous?.setEventfds([undefined]);
        await outcomeOf(() => previous?.disable() ?? 0);
        const eventfd = transport.eventfd();
        await irq.setEventfds([eventfd]);
        await transport.close(eventfd);
        previous = irq;
      }
      await device.close();
      const held = host.tracker.count('eventfd') - before;
      keeps(held === 0, 'a device that nobody has open holds no eventfd', `${held}`);
    },
  },
];

/** Interrupts. */
export const irqCases: readonly CaseSpec[] = [...descriptions, ...refusals, ...signals];
