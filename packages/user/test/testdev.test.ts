import { PAGE_SIZE } from '@vfio/host';
import { EventCalls, eventfd, memfd, Seal } from '@vfio/sys';
import { describe, expect, it } from 'vitest';
import { Command } from '../src/index.js';
import { BELL_MATCH, Msix, Reg, regionSizes, TestCommand } from '../src/testdev/index.js';
import { Lab, type LabOptions } from './lab.js';
import { concat, longs, type Message, type RawClient, turn, words } from './raw-client.js';

const [MEMORY, PAGED, REGISTERS, MSIX_BAR, CONFIG] = [0, 1, 2, 4, 7];
const [INTX, MSIX, REQ] = [0, 2, 4];
const [NONE, EVENTFD] = [1, 4];
const [MASK, UNMASK, TRIGGER] = [8, 16, 32];
const [EFAULT, EINVAL, EINPROGRESS] = [14, 22, 115];
const READ_WRITE = 3;
const KEPT = Seal.SHRINK;

/** A client of the test device. */
class TestClient {
  readonly lab: Lab;
  readonly raw: RawClient;

  constructor(lab: Lab, raw: RawClient) {
    this.lab = lab;
    this.raw = raw;
  }

  async read(region: number, offset: number, count: number): Promise<Uint8Array> {
    return (await this.raw.ask(Command.REGION_READ, concat(longs(offset), words(region, count)))).subarray(16);
  }

  async write(region: number, offset: number, bytes: Uint8Array): Promise<void> {
    await this.raw.ask(Command.REGION_WRITE, concat(longs(offset), words(region, bytes.length), bytes));
  }

  async register(offset: number): Promise<number> {
    return wordAt(await this.read(REGISTERS, offset, 4));
  }

  /** Starts a copy; the status that it has with the reply. */
  async copy(command: number, address: number | bigint, length: number, offset = 0): Promise<number> {
    await this.write(REGISTERS, Reg.ADDRESS, concat(longs(address), words(length, offset, command)));
    return await this.register(Reg.STATUS);
  }

  async signal(vector: number): Promise<number> {
    await this.write(REGISTERS, Reg.VECTOR, words(vector));
    await this.write(REGISTERS, Reg.COMMAND, words(TestCommand.SIGNAL));
    return await this.register(Reg.STATUS);
  }

  /** Maps memory; without a file it is reached by messages. */
  map(address: number | bigint, size: number, fds: readonly number[] = [], flags = READ_WRITE): Promise<number> {
    return this.raw.errno(Command.DMA_MAP, concat(words(32, flags), longs(0, address, size)), { fds });
  }

  irqs(flags: number, index: number, start: number, count: number, fds: readonly number[] = []): Promise<number> {
    return this.raw.errno(Command.DEVICE_SET_IRQS, words(20, flags, index, start, count), { fds });
  }

  /** Answers a DMA message. */
  async answer({ id, command, payload }: Message, data: Uint8Array = new Uint8Array(0)): Promise<void> {
    const bytes = new Uint8Array(16 + 16 + data.length);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, id, true);
    view.setUint16(2, command, true);
    view.setUint32(4, bytes.length, true);
    view.setUint32(8, 1, true);
    bytes.set(payload.subarray(0, 16), 16);
    bytes.set(data, 32);
    await this.raw.send(bytes);
  }

  /** Waits until a copy is over. */
  async finish(): Promise<number> {
    for (let turns = 0; turns < 1000; turns++) {
      const status = await this.register(Reg.STATUS);
      if (status !== EINPROGRESS) return status;
      await turn();
    }
    throw new Error('the copy does not end');
  }
}

async function begin(options: LabOptions = {}) {
  const lab = await Lab.create({ device: 'testdev', ...options });
  return {
    lab,
    client: new TestClient(lab, await lab.open()),
    [Symbol.asyncDispose]: () => lab[Symbol.asyncDispose](),
  };
}

function wordAt(bytes: Uint8Array, at = 0): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(at, true);
}

function pattern(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => i * 7 + (i >> 8));
}

describe('the test device', () => {
  it('VFU-044 VFU-046 VFU-069 is a PCI function with its regions and interrupts', async () => {
    await using test = await begin();
    const { raw } = test.client;
    expect([...(await raw.ask(Command.DEVICE_GET_INFO, words(16, 0, 0, 0)))]).toEqual([...words(16, 3, 9, 5)]);
    const sizes: number[] = [];
    for (let index = 0; index < 9; index++) {
      const info = await raw.ask(Command.DEVICE_GET_REGION_INFO, concat(words(32, 0, index, 0), longs(0, 0)));
      sizes.push(wordAt(info, 16));
    }
    expect(sizes).toEqual(regionSizes);
    const irqs: number[][] = [];
    for (let index = 0; index < 5; index++) {
      const info = await raw.ask(Command.DEVICE_GET_IRQ_INFO, words(16, 0, index, 0));
      irqs.push([wordAt(info, 4), wordAt(info, 12)]);
    }
    expect(irqs).toEqual([
      [7, 1],
      [9, 0],
      [9, 32],
      [9, 1],
      [9, 1],
    ]);
  });

  it('VFU-053 VFU-054 VFU-055 says in its config space what it is', async () => {
    await using test = await begin();
    const { client } = test;
    const config = await client.read(CONFIG, 0, 256);
    expect([wordAt(config, 0), wordAt(config, 8)]).toEqual([0x0001_1d1d, 0xff00_0000]);
    const at = config[0x34]!;
    expect([config[at], config[at + 1], wordAt(config, at) >>> 16]).toEqual([0x11, 0, Msix.VECTORS - 1]);
    expect([wordAt(config, at + 4), wordAt(config, at + 8)]).toEqual([MSIX_BAR, Msix.PENDING | MSIX_BAR]);
    await client.write(CONFIG, 0, words(0, 0, 0));
    expect(wordAt(await client.read(CONFIG, 0, 4))).toBe(0x0001_1d1d);
  });

  it('VFU-056 VFU-057 sizes BARs, and takes its command byte by byte', async () => {
    await using test = await begin();
    const { client } = test;
    await client.write(CONFIG, 0x10, new Uint8Array(24).fill(0xff));
    const bars = await client.read(CONFIG, 0x10, 24);
    expect(Array.from({ length: 6 }, (_, i) => wordAt(bars, 4 * i))).toEqual(
      [0xfff0_0000, 0xffff_0000, 0xffff_f000, 0, 0xffff_f000, 0].map((mask) => mask >>> 0),
    );
    await client.write(CONFIG, 4, Uint8Array.of(0xff));
    await client.write(CONFIG, 5, Uint8Array.of(0xff));
    expect(wordAt(await client.read(CONFIG, 4, 4))).toBe(0x0010_0406);
  });

  it('VFU-064 VFU-067 keeps what is written, also for the next client', async () => {
    await using test = await begin();
    const bytes = pattern(1000);
    await test.client.write(MEMORY, 3, bytes);
    await test.client.write(PAGED, 0xf00, bytes);
    for (const width of [1, 2, 4, 8, 3, 999]) {
      expect(await test.client.read(MEMORY, 3 + width, 1000 - width)).toEqual(bytes.subarray(width));
    }
    await test.lab.leave(test.client.raw);
    const next = new TestClient(test.lab, await test.lab.open());
    expect(await next.read(MEMORY, 3, 1000)).toEqual(bytes);
    expect(await next.read(PAGED, 0xf00, 1000)).toEqual(bytes);
  });

  it('VFU-049 VFU-050 VFU-051 gives the parts of region 1 that are mapped, which messages see too', async () => {
    await using test = await begin();
    const { client, lab } = test;
    await client.write(PAGED, 0x1ffc, words(0x1111_1111, 0x2222_2222));
    const request = concat(words(80, 0, PAGED, 0), longs(0, 0));
    const info = await client.raw.request(Command.DEVICE_GET_REGION_INFO, request);
    const areas = new DataView(info.payload.buffer, info.payload.byteOffset + 48, 32);
    expect([0, 8, 16, 24].map((at) => Number(areas.getBigUint64(at, true)))).toEqual([0x1000, 0x1000, 0x4000, 0x2000]);
    expect(info.fds).toHaveLength(1);
    using mapping = lab.linux.map(info.fds[0]!.number, { offset: 0x1000, length: PAGE_SIZE, write: true }, 'a test');
    expect(mapping.view.getUint32(0xffc, true)).toBe(0x1111_1111);
    mapping.view.setUint32(0, 0x3333_3333, true);
    expect(wordAt(await client.read(PAGED, 0x1000, 4))).toBe(0x3333_3333);
    expect(wordAt(await client.read(PAGED, 0x2000, 4))).toBe(0x2222_2222);
  });

  it('VFU-103 a reset clears it, and is counted', async () => {
    await using test = await begin();
    const { client } = test;
    await client.map(0, PAGE_SIZE);
    await client.write(MEMORY, 0, words(1));
    await client.write(REGISTERS, Reg.VECTOR, words(5));
    await client.raw.ask(Command.DEVICE_RESET);
    expect(await client.register(Reg.VECTOR)).toBe(0);
    expect(wordAt(await client.read(MEMORY, 0, 4))).toBe(0);
    expect([await client.register(Reg.RESETS), await client.register(Reg.DMA_REGIONS)]).toEqual([1, 1]);
    await client.raw.ask(Command.DEVICE_RESET);
    expect(await client.register(Reg.RESETS)).toBe(2);
  });

  it('VFU-104 has doorbells that share an eventfd', async () => {
    await using test = await begin();
    const { client, lab } = test;
    const ask = (argsz: number, region = REGISTERS) =>
      client.raw.request(Command.DEVICE_GET_REGION_IO_FDS, words(argsz, 0, region, 0));
    const first = await ask(16);
    expect([...first.payload]).toEqual([...words(96, 0, REGISTERS, 2)]);
    expect(first.fds).toHaveLength(0);
    const whole = await ask(96);
    expect(whole.payload.subarray(16)).toEqual(
      concat(
        longs(Reg.BELL, 4),
        words(0, 0, 0, 0),
        longs(0, Reg.MATCHING_BELL, 4),
        words(0, 0, 1, 0),
        longs(BELL_MATCH),
      ),
    );
    expect(whole.fds).toHaveLength(1);
    const events = new EventCalls(lab.linux);
    events.signal(whole.fds[0]!.number);
    for (let i = 0; i < 20; i++) await client.register(Reg.BELL);
    expect(events.take(whole.fds[0]!.number)).toBe(0n); // the device has heard it
    events[Symbol.dispose]();
    expect([...(await ask(16, MEMORY)).payload]).toEqual([...words(16, 0, MEMORY, 0)]);
    expect((await ask(16, 3)).errno).toBe(EINVAL);
  });
});

describe('interrupts of the test device', () => {
  async function beginWithEvents() {
    const test = await begin();
    const events = new EventCalls(test.lab.linux);
    return {
      ...test,
      count: (fd: { number: number }) => Number(events.take(fd.number)),
      async [Symbol.asyncDispose]() {
        events[Symbol.dispose]();
        await test[Symbol.asyncDispose]();
      },
    };
  }

  it('VFU-072 VFU-082 signals the vector that is asked for, and INTx where MSI-X is not used', async () => {
    await using test = await beginWithEvents();
    const { client, lab, count } = test;
    using first = eventfd(lab.linux);
    using last = eventfd(lab.linux);
    using pin = eventfd(lab.linux);
    await client.irqs(EVENTFD | TRIGGER, INTX, 0, 1, [pin.number]);
    expect(await client.signal(0)).toBe(0);
    expect(count(pin)).toBe(1);
    await client.irqs(EVENTFD | TRIGGER, MSIX, 0, 1, [first.number]);
    await client.irqs(EVENTFD | TRIGGER, MSIX, 31, 1, [last.number]);
    for (const vector of [0, 31, 31]) expect(await client.signal(vector)).toBe(0);
    expect([count(first), count(last), count(pin)]).toEqual([1, 2, 0]);
    expect(await client.signal(32)).toBe(EINVAL);
  });

  it('VFU-083 INTx masks itself, and comes again when it is unmasked', async () => {
    await using test = await beginWithEvents();
    const { client, lab, count } = test;
    using pin = eventfd(lab.linux);
    using unmask = eventfd(lab.linux);
    await client.irqs(EVENTFD | TRIGGER, INTX, 0, 1, [pin.number]);
    await client.signal(0);
    await client.signal(0);
    expect(count(pin)).toBe(1);
    expect(await client.irqs(NONE | UNMASK, INTX, 0, 1)).toBe(0);
    expect(count(pin)).toBe(1);
    expect(await client.irqs(EVENTFD | UNMASK, INTX, 0, 1, [unmask.number])).toBe(0);
    await client.irqs(NONE | MASK, INTX, 0, 1);
    await client.irqs(NONE | TRIGGER, INTX, 0, 1);
    expect(count(pin)).toBe(0);
    const events = new EventCalls(lab.linux);
    events.signal(unmask.number);
    events[Symbol.dispose]();
    for (let i = 0; i < 50; i++) await client.register(0);
    expect(count(pin)).toBe(1);
  });

  it('VFU-083 a masked vector is pending in region 4', async () => {
    await using test = await beginWithEvents();
    const { client, lab, count } = test;
    using fd = eventfd(lab.linux);
    await client.irqs(EVENTFD | TRIGGER, MSIX, 5, 1, [fd.number]);
    expect(await client.irqs(NONE | MASK, MSIX, 5, 1)).toBe(0);
    await client.signal(5);
    expect([count(fd), wordAt(await client.read(MSIX_BAR, Msix.PENDING, 4))]).toEqual([0, 1 << 5]);
    await client.irqs(NONE | UNMASK, MSIX, 5, 1);
    expect([count(fd), wordAt(await client.read(MSIX_BAR, Msix.PENDING, 4))]).toEqual([1, 0]);
  });

  it('VFU-076 VFU-081 refuses what there is not', async () => {
    await using test = await beginWithEvents();
    const { client, lab } = test;
    using fd = eventfd(lab.linux);
    expect(await client.irqs(EVENTFD | TRIGGER, MSIX, 32, 1, [fd.number])).toBe(EINVAL);
    expect(await client.irqs(NONE | MASK, REQ, 0, 1)).toBe(EINVAL);
    expect(await client.irqs(EVENTFD | TRIGGER, REQ, 0, 1, [fd.number])).toBe(0);
    expect(await client.irqs(EVENTFD | MASK, MSIX, 0, 1, [fd.number])).toBe(EINVAL);
  });
});

describe('copies of the test device', () => {
  it('VFU-096 VFU-097 go through a descriptor, and are complete with the reply', async () => {
    await using test = await begin();
    const { client, lab } = test;
    using file = memfd(lab.linux, 'memory', 4 * PAGE_SIZE, KEPT);
    const address = 2n ** 63n;
    expect(await client.map(address, 4 * PAGE_SIZE, [file.number])).toBe(0);
    expect(await client.register(Reg.DMA_REGIONS)).toBe(1);
    const bytes = pattern(8000);
    await client.write(MEMORY, 100, bytes);
    expect(await client.copy(TestCommand.STORE, address + 5n, 8000, 100)).toBe(0);
    expect(await client.copy(TestCommand.FETCH, address + 5n, 8000, 0x10000)).toBe(0);
    expect(await client.read(MEMORY, 0x10000, 8000)).toEqual(bytes);
  });

  it('VFU-100 report what is not mapped, not allowed or not there', async () => {
    await using test = await begin();
    const { client, lab } = test;
    using file = memfd(lab.linux, 'memory', PAGE_SIZE, KEPT);
    await client.map(0x10000, PAGE_SIZE, [file.number], 1);
    for (const command of [TestCommand.FETCH, TestCommand.STORE, TestCommand.FETCH_BY_MESSAGE]) {
      expect(await client.copy(command, 0x20000, 16)).toBe(EFAULT);
    }
    for (const command of [TestCommand.STORE, TestCommand.STORE_BY_MESSAGE]) {
      expect(await client.copy(command, 0x10000, 16)).toBe(EFAULT);
    }
    expect(await client.copy(TestCommand.FETCH, 0x10000, 17, (1 << 20) - 16)).toBe(EINVAL);
    expect(await client.copy(9, 0x10000, 16)).toBe(EINVAL);
    expect(await client.copy(TestCommand.FETCH, 0x10000, PAGE_SIZE)).toBe(0);
  });

  it.each([
    ['memory without a descriptor', TestCommand.FETCH, TestCommand.STORE, false],
    ['memory with one, if asked for', TestCommand.FETCH_BY_MESSAGE, TestCommand.STORE_BY_MESSAGE, true],
  ] as const)(
    'VFU-098 VFU-101 reach %s by messages, and other commands are answered meanwhile',
    async (_, fetch, store, described) => {
      await using test = await begin();
      const { client, lab } = test;
      using file = memfd(lab.linux, 'memory', PAGE_SIZE, KEPT);
      await client.map(0x10000, PAGE_SIZE, described ? [file.number] : []);
      const send = async (command: number) => {
        const values = concat(longs(0x10010), words(64, 8, command));
        await client.raw.send(
          concat(regionWrite(values)), // the message of the device may come before the reply
        );
        const both = [await client.raw.receive(), await client.raw.receive()];
        const dma = both.find((one) => one.command === Command.DMA_READ || one.command === Command.DMA_WRITE);
        if (!dma) throw new Error('there is no DMA message');
        return dma;
      };
      const read = await send(fetch);
      expect([read.command, ...read.payload]).toEqual([Command.DMA_READ, ...longs(0x10010, 64)]);
      expect(await client.register(Reg.STATUS)).toBe(EINPROGRESS);
      await client.write(REGISTERS, Reg.COMMAND, words(fetch));
      expect(await client.register(Reg.STATUS)).toBe(EINPROGRESS); // that of the first
      await client.answer(read, pattern(64));
      expect(await client.finish()).toBe(0);
      expect(await client.read(MEMORY, 8, 64)).toEqual(pattern(64));
      const write = await send(store);
      expect([write.command, ...write.payload]).toEqual([Command.DMA_WRITE, ...longs(0x10010, 64), ...pattern(64)]);
      await client.answer(write);
      expect(await client.finish()).toBe(0);
    },
  );

  it('VFU-103 a reset ends one that waits, and nothing of it arrives', async () => {
    await using test = await begin();
    const { client } = test;
    await client.map(0x10000, PAGE_SIZE);
    await client.raw.send(regionWrite(concat(longs(0x10000), words(16, 0, TestCommand.FETCH))));
    const both = [await client.raw.receive(), await client.raw.receive()];
    const dma = both.find(({ command }) => command === Command.DMA_READ);
    await client.raw.ask(Command.DEVICE_RESET);
    await client.answer(dma!, new Uint8Array(16).fill(1));
    expect(await client.register(Reg.STATUS)).toBe(0);
    expect([...(await client.read(MEMORY, 0, 16))]).toEqual([...new Uint8Array(16)]);
  });
});

/** A write to the registers from the first on. */
function regionWrite(bytes: Uint8Array): Uint8Array {
  const payload = concat(longs(0), words(REGISTERS, bytes.length), bytes);
  const head = new Uint8Array(16);
  const view = new DataView(head.buffer);
  view.setUint16(2, Command.REGION_WRITE, true);
  view.setUint32(4, 16 + payload.length, true);
  return concat(head, payload);
}
