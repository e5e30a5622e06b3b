import { EventCalls, eventfd } from '@vfio/sys';
import { describe, expect, it } from 'vitest';
import { Command } from '../src/index.js';
import { EduDriver } from './edu.js';
import { Lab } from './lab.js';
import { concat, longs, words } from './raw-client.js';

const EINVAL = 22;
const CONFIG = 7;
const [INTX, MSI, MSIX, ERR, REQ] = [0, 1, 2, 3, 4];
const [NONE, EVENTFD] = [1, 4];
const [MASK, UNMASK, TRIGGER] = [8, 16, 32];
const INFO = { reset: 1, pci: 2 };

function setIrqs(flags: number, index: number, start: number, count: number): Uint8Array {
  return words(20, flags, index, start, count);
}

function wordAt(payload: Uint8Array, offset: number): number {
  return new DataView(payload.buffer, payload.byteOffset).getUint32(offset, true);
}

async function begin() {
  const lab = await Lab.create({ device: 'edu' });
  const client = await lab.open();
  const edu = await EduDriver.start(client);
  const events = new EventCalls(lab.linux);
  return {
    lab,
    client,
    edu,
    count: (fd: number) => Number(events.take(fd)),
    set: (payload: Uint8Array, fds: readonly number[] = []) => client.errno(Command.DEVICE_SET_IRQS, payload, { fds }),
    async [Symbol.asyncDispose]() {
      events[Symbol.dispose]();
      await lab[Symbol.asyncDispose]();
    },
  };
}

describe('a function of vfio-pci', () => {
  it('VFU-044 VFU-069 tells what it has', async () => {
    await using test = await begin();
    const info = await test.client.ask(Command.DEVICE_GET_INFO, words(16, 0, 0, 0));
    expect([wordAt(info, 4) & INFO.pci, wordAt(info, 8), wordAt(info, 12)]).toEqual([INFO.pci, 9, 5]);
    const counts: number[] = [];
    for (let index = 0; index < 5; index++) {
      counts.push(wordAt(await test.client.ask(Command.DEVICE_GET_IRQ_INFO, words(16, 0, index, 0)), 12));
    }
    expect(counts).toEqual([1, 1, 0, 0, 1]);
  });

  it('VFU-056 VFU-057 sizes its BAR, and takes its command register byte by byte', async () => {
    await using test = await begin();
    const { client } = test;
    const read = async (offset: number, count: number) =>
      (await client.ask(Command.REGION_READ, concat(longs(offset), words(CONFIG, count)))).subarray(16);
    await client.ask(Command.REGION_WRITE, concat(longs(0x10), words(CONFIG, 4), words(0xffff_ffff)));
    expect(wordAt(await read(0x10, 4), 0)).toBe(0xfff0_0000);
    for (let byte = 0; byte < 4; byte++) {
      await client.ask(
        Command.REGION_WRITE,
        concat(longs(0x10 + byte), words(CONFIG, 1), Uint8Array.of([0, 0, 0x30, 0xfe][byte]!)),
      );
    }
    expect(wordAt(await read(0x10, 4), 0)).toBe(0xfe30_0000);
    await client.ask(Command.REGION_WRITE, concat(longs(5), words(CONFIG, 1), Uint8Array.of(4)));
    expect([...(await read(4, 2))]).toEqual([6, 4]);
    expect(wordAt(await read(0, 4), 0)).toBe(0x11e8_1234);
  });

  it('VFU-082 signals INTx and MSI apart', async () => {
    await using test = await begin();
    const { edu, lab, client } = test;
    using intx = eventfd(lab.linux);
    using msi = eventfd(lab.linux);
    expect(await test.set(setIrqs(EVENTFD | TRIGGER, INTX, 0, 1), [intx.number])).toBe(0);
    await edu.raise();
    expect([test.count(intx.number), test.count(msi.number)]).toEqual([1, 0]);
    await edu.acknowledge();
    expect(await test.set(setIrqs(NONE | UNMASK, INTX, 0, 1))).toBe(0);
    expect(await test.set(setIrqs(NONE | TRIGGER, INTX, 0, 0))).toBe(0);
    expect(await test.set(setIrqs(EVENTFD | TRIGGER, MSI, 0, 1), [msi.number])).toBe(0);
    await edu.raise();
    expect([test.count(intx.number), test.count(msi.number)]).toEqual([0, 1]);
    expect(await client.errno(Command.DEVICE_SET_IRQS, setIrqs(NONE | TRIGGER, MSI, 0, 1))).toBe(0);
    expect(test.count(msi.number)).toBe(1);
  });

  it('VFU-083 INTx that comes up while it is masked is signalled when it is unmasked', async () => {
    await using test = await begin();
    const { edu, lab } = test;
    using intx = eventfd(lab.linux);
    await test.set(setIrqs(EVENTFD | TRIGGER, INTX, 0, 1), [intx.number]);
    expect(await test.set(setIrqs(NONE | MASK, INTX, 0, 1))).toBe(0);
    await edu.raise();
    expect(test.count(intx.number)).toBe(0);
    expect(await test.set(setIrqs(NONE | UNMASK, INTX, 0, 1))).toBe(0);
    expect(test.count(intx.number)).toBe(1);
  });

  it('VFU-083 INTx is unmasked by an eventfd of the client', async () => {
    await using test = await begin();
    const { edu, lab } = test;
    using intx = eventfd(lab.linux);
    using unmask = eventfd(lab.linux);
    const events = new EventCalls(lab.linux);
    await test.set(setIrqs(EVENTFD | TRIGGER, INTX, 0, 1), [intx.number]);
    expect(await test.set(setIrqs(EVENTFD | UNMASK, INTX, 0, 1), [unmask.number])).toBe(0);
    await edu.raise();
    expect(test.count(intx.number)).toBe(1);
    events.signal(unmask.number);
    for (let i = 0; i < 100; i++) await edu.id();
    expect(test.count(intx.number)).toBe(1); // its pin is still up
    events[Symbol.dispose]();
  });

  it('VFU-081 REQ is set, triggered and taken away; ERR is for those who have it', async () => {
    await using test = await begin();
    const { lab } = test;
    using fd = eventfd(lab.linux);
    expect(await test.set(setIrqs(EVENTFD | TRIGGER, REQ, 0, 1), [fd.number])).toBe(0);
    expect(await test.set(setIrqs(NONE | TRIGGER, REQ, 0, 1))).toBe(0);
    expect(test.count(fd.number)).toBe(1);
    expect(await test.set(setIrqs(NONE | MASK, REQ, 0, 1))).toBe(EINVAL);
    expect(await test.set(setIrqs(EVENTFD | TRIGGER, ERR, 0, 1), [fd.number])).toBe(EINVAL);
    expect(await test.set(setIrqs(EVENTFD | TRIGGER, MSIX, 0, 1), [fd.number])).toBe(EINVAL);
    expect(await test.set(setIrqs(NONE | TRIGGER, REQ, 0, 0))).toBe(0);
  });

  it('VFU-103 VFU-086 a reset keeps mappings', async () => {
    await using test = await begin();
    const { client } = test;
    await client.ask(Command.DMA_MAP, concat(words(32, 3), longs(0, 0x10_0000, 4096)));
    await client.request(Command.DEVICE_RESET);
    expect(await client.errno(Command.DMA_MAP, concat(words(32, 3), longs(0, 0x10_0000, 4096)))).toBe(17);
  });
});
