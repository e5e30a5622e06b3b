import { EventCalls, eventfd, type Fd } from '@vfio/sys';
import { describe, expect, it } from 'vitest';
import { Command } from '../src/index.js';
import { Lab } from './lab.js';
import { concat, longs, words } from './raw-client.js';

const CONFIG = 7;
const [MSI, MSIX] = [1, 2];
const [NONE, BOOL, EVENTFD, TRIGGER] = [1, 2, 4, 32];
const CAP_MSIX = 0x11;

/** A function with MSI-X, and as many eventfds as it has vectors. */
async function begin() {
  const lab = await Lab.create({ device: 'igb' });
  const client = await lab.open();
  const info = await client.ask(Command.DEVICE_GET_IRQ_INFO, words(16, 0, MSIX, 0));
  const vectors = new DataView(info.buffer, info.byteOffset).getUint32(12, true);
  const events = new EventCalls(lab.linux);
  const fds: Fd[] = Array.from({ length: vectors }, () => eventfd(lab.linux));
  return {
    lab,
    client,
    vectors,
    numbers: fds.map((fd) => fd.number),
    /** Vectors that were signalled since the last time. */
    signalled: () => fds.flatMap((fd, vector) => (events.take(fd.number) > 0n ? [vector] : [])),
    set: (flags: number, start: number, count: number, given: readonly number[] = [], data: readonly number[] = []) =>
      client.errno(
        Command.DEVICE_SET_IRQS,
        concat(words(20 + data.length, flags, MSIX, start, count), Uint8Array.from(data)),
        { fds: given },
      ),
    async [Symbol.asyncDispose]() {
      for (const fd of fds) fd.close();
      events[Symbol.dispose]();
      await lab[Symbol.asyncDispose]();
    },
  };
}

describe('MSI-X', () => {
  it('VFU-054 has as many vectors by its capability as by its information', async () => {
    await using test = await begin();
    const config = (await test.client.ask(Command.REGION_READ, concat(longs(0), words(CONFIG, 256)))).subarray(16);
    let at = config[0x34]!;
    while (at !== 0 && config[at] !== CAP_MSIX) at = config[at + 1]!;
    expect(at).not.toBe(0);
    expect((config[at + 2]! | (config[at + 3]! << 8)) & 0x7ff).toBe(test.vectors - 1);
    expect(test.vectors).toBeGreaterThan(2);
  });

  it('VFU-072 VFU-071 ranges are signalled up to the last vector, and those that are meant', async () => {
    await using test = await begin();
    const { vectors, numbers } = test;
    expect(await test.set(EVENTFD | TRIGGER, 0, vectors, numbers)).toBe(0);
    expect(await test.set(NONE | TRIGGER, vectors - 2, 2)).toBe(0);
    expect(test.signalled()).toEqual([vectors - 2, vectors - 1]);
    expect(await test.set(BOOL | TRIGGER, 0, 3, [], [1, 0, 1])).toBe(0);
    expect(test.signalled()).toEqual([0, 2]);
    expect(await test.set(NONE | TRIGGER, vectors - 1, 2)).toBe(22);
    expect(await test.set(NONE | TRIGGER, vectors, 1)).toBe(22);
  });

  it('VFU-075 one vector loses its eventfd, and its neighbours keep theirs', async () => {
    await using test = await begin();
    const { lab, vectors, numbers } = test;
    await test.set(EVENTFD | TRIGGER, 0, vectors, numbers);
    const before = lab.fdCount();
    expect(await test.set(EVENTFD | TRIGGER, 1, 1)).toBe(0);
    expect(lab.fdCount()).toBe(before - 1);
    await test.set(NONE | TRIGGER, 0, 3);
    expect(test.signalled()).toEqual([0, 2]);
  });

  it('is set up as QEMU does it: vector 0 without a descriptor, then one after the other', async () => {
    await using test = await begin();
    const { lab, vectors, numbers } = test;
    const before = lab.fdCount();
    expect(await test.set(EVENTFD | TRIGGER, 0, 1)).toBe(0);
    for (let vector = 0; vector < vectors; vector++) {
      expect(await test.set(EVENTFD | TRIGGER, vector, 1, [numbers[vector]!])).toBe(0);
    }
    await test.set(NONE | TRIGGER, 0, vectors);
    expect(test.signalled()).toEqual(numbers.map((_, vector) => vector));
    expect(await test.set(NONE | TRIGGER, 0, 0)).toBe(0);
    expect(lab.fdCount()).toBe(before);
    const other = words(20, NONE | TRIGGER, MSI, 0, 0);
    expect(await test.client.errno(Command.DEVICE_SET_IRQS, other)).toBe(0);
  });
});
