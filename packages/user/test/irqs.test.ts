import { EventCalls, eventfd, type Fd, memfd } from '@vfio/sys';
import { describe, expect, it } from 'vitest';
import { Command } from '../src/index.js';
import { Lab } from './lab.js';
import { concat, type RawClient, turn, words } from './raw-client.js';

const EINVAL = 22;
const [INTX, MSI, MSIX, ERR, REQ] = [0, 1, 2, 3, 4];
const [NONE, BOOL, EVENTFD] = [1, 2, 4];
const [MASK, UNMASK, TRIGGER] = [8, 16, 32];

/** The payload of SET_IRQS. */
function setIrqs(flags: number, index: number, start: number, count: number, data: readonly number[] = []): Uint8Array {
  return concat(words(20 + data.length, flags, index, start, count), Uint8Array.from(data));
}

/** A lab, a client, and eventfds with their counts. */
async function begin() {
  const lab = await Lab.create();
  const client = await lab.open();
  const events = new EventCalls(lab.linux);
  const fds: Fd[] = [];
  return {
    lab,
    client,
    eventfd() {
      const fd = eventfd(lab.linux);
      fds.push(fd);
      return fd.number;
    },
    count: (fd: number) => Number(events.take(fd)),
    async [Symbol.asyncDispose]() {
      for (const fd of fds) fd.close();
      events[Symbol.dispose]();
      await lab[Symbol.asyncDispose]();
    },
  };
}

function set(client: RawClient, payload: Uint8Array, fds: readonly number[] = []): Promise<number> {
  return client.errno(Command.DEVICE_SET_IRQS, payload, { fds });
}

describe('SET_IRQS', () => {
  it.each([INTX, MSI])('VFU-070 VFU-071 an eventfd is signalled by none and by bool (index %i)', async (index) => {
    await using test = await begin();
    const { client } = test;
    const fd = test.eventfd();
    expect(await set(client, setIrqs(EVENTFD | TRIGGER, index, 0, 1), [fd])).toBe(0);
    expect(test.count(fd)).toBe(0);
    expect(await set(client, setIrqs(NONE | TRIGGER, index, 0, 1))).toBe(0);
    expect(test.count(fd)).toBe(1);
    if (index === INTX) expect(await set(client, setIrqs(NONE | UNMASK, index, 0, 1))).toBe(0);
    expect(await set(client, setIrqs(BOOL | TRIGGER, index, 0, 1, [0]))).toBe(0);
    expect(test.count(fd)).toBe(0);
    expect(await set(client, setIrqs(BOOL | TRIGGER, index, 0, 1, [7]))).toBe(0);
    expect(test.count(fd)).toBe(1);
  });

  it('VFU-073 another eventfd replaces the first, which is closed', async () => {
    await using test = await begin();
    const { client, lab } = test;
    const [first, second] = [test.eventfd(), test.eventfd()];
    const before = lab.fdCount();
    await set(client, setIrqs(EVENTFD | TRIGGER, MSI, 0, 1), [first]);
    expect(lab.fdCount()).toBe(before + 1);
    await set(client, setIrqs(EVENTFD | TRIGGER, MSI, 0, 1), [second]);
    expect(lab.fdCount()).toBe(before + 1);
    await set(client, setIrqs(NONE | TRIGGER, MSI, 0, 1));
    expect([test.count(first), test.count(second)]).toEqual([0, 1]);
  });

  it('VFU-074 disabling closes and silences, and may be done twice', async () => {
    await using test = await begin();
    const { client, lab } = test;
    const fd = test.eventfd();
    const before = lab.fdCount();
    expect(await set(client, setIrqs(NONE | TRIGGER, MSI, 0, 0))).toBe(0);
    await set(client, setIrqs(EVENTFD | TRIGGER, MSI, 0, 1), [fd]);
    expect(await set(client, setIrqs(NONE | TRIGGER, MSI, 0, 0))).toBe(0);
    expect(lab.fdCount()).toBe(before);
    expect(await set(client, setIrqs(NONE | TRIGGER, MSI, 0, 0))).toBe(0);
    await set(client, setIrqs(NONE | TRIGGER, MSI, 0, 1));
    expect(test.count(fd)).toBe(0);
  });

  it('VFU-075 a vector loses its eventfd when none comes along', async () => {
    await using test = await begin();
    const { client, lab } = test;
    const fd = test.eventfd();
    const before = lab.fdCount();
    await set(client, setIrqs(EVENTFD | TRIGGER, INTX, 0, 1), [fd]);
    expect(await set(client, setIrqs(EVENTFD | TRIGGER, INTX, 0, 1))).toBe(0);
    expect(lab.fdCount()).toBe(before);
  });

  it('VFU-072 VFU-076 ranges end with the last vector, and do not wrap', async () => {
    await using test = await begin();
    const { client } = test;
    for (const [start, count] of [
      [1, 1],
      [0, 2],
      [0xffff_ffff, 1],
      [0xffff_ffff, 2],
      [1, 0xffff_ffff],
      [0, 0xffff_ffff],
    ] as const) {
      expect(await set(client, setIrqs(NONE | TRIGGER, MSI, start, count))).toBe(EINVAL);
      expect(await set(client, setIrqs(EVENTFD | TRIGGER, MSI, start, count))).toBe(EINVAL);
    }
    expect(await set(client, setIrqs(NONE | TRIGGER, MSIX, 0, 1))).toBe(EINVAL);
    expect(await set(client, setIrqs(NONE | TRIGGER, 5, 0, 1))).toBe(EINVAL);
  });

  it('VFU-077 exactly one flag of each group', async () => {
    await using test = await begin();
    const { client } = test;
    for (const flags of [
      0,
      NONE,
      TRIGGER,
      NONE | BOOL | TRIGGER,
      NONE | MASK | UNMASK,
      7 | TRIGGER,
      NONE | TRIGGER | 64,
    ]) {
      expect(await set(client, setIrqs(flags, INTX, 0, 1))).toBe(EINVAL);
    }
  });

  it('VFU-078 as many descriptors as vectors or none, and those of a failed message are closed', async () => {
    await using test = await begin();
    const { client, lab } = test;
    const fd = test.eventfd();
    const before = lab.fdCount();
    expect(await set(client, setIrqs(EVENTFD | TRIGGER, MSI, 0, 1), [fd, fd])).toBe(EINVAL);
    expect(await set(client, setIrqs(NONE | TRIGGER, MSI, 0, 1), [fd])).toBe(EINVAL);
    expect(await set(client, setIrqs(EVENTFD | TRIGGER, MSIX, 0, 1), [fd])).toBe(EINVAL);
    using file = memfd(lab.linux, 'no eventfd', 4096);
    expect(await set(client, setIrqs(EVENTFD | UNMASK, INTX, 0, 1), [file.number])).toBe(EINVAL);
    file.close();
    expect(lab.fdCount()).toBe(before);
  });

  it('VFU-079 a byte for each vector, with bool', async () => {
    await using test = await begin();
    const { client } = test;
    await set(client, setIrqs(EVENTFD | TRIGGER, MSI, 0, 1), [test.eventfd()]);
    expect(await set(client, setIrqs(BOOL | TRIGGER, MSI, 0, 1))).toBe(EINVAL);
    expect(await set(client, setIrqs(BOOL | TRIGGER, MSI, 0, 1, [1, 1]))).toBe(EINVAL);
    expect(await set(client, setIrqs(NONE | TRIGGER, MSI, 0, 1, [1]))).toBe(EINVAL);
  });

  it('VFU-080 a count of 0 disables, and means nothing else', async () => {
    await using test = await begin();
    const { client } = test;
    for (const flags of [BOOL | TRIGGER, EVENTFD | TRIGGER, NONE | MASK, NONE | UNMASK]) {
      expect(await set(client, setIrqs(flags, INTX, 0, 0))).toBe(EINVAL);
    }
    expect(await set(client, setIrqs(NONE | TRIGGER, INTX, 1, 0))).toBe(EINVAL);
    expect(await set(client, setIrqs(NONE | TRIGGER, INTX, 0, 0))).toBe(0);
  });

  it('VFU-081 a device without ERR and REQ refuses them', async () => {
    await using test = await begin();
    for (const index of [ERR, REQ]) {
      expect(await set(test.client, setIrqs(EVENTFD | TRIGGER, index, 0, 1), [test.eventfd()])).toBe(EINVAL);
      expect(await set(test.client, setIrqs(NONE | MASK, index, 0, 1))).toBe(EINVAL);
    }
  });

  it('VFU-083 INTx masks itself; unmasked it fires again', async () => {
    await using test = await begin();
    const { client } = test;
    const fd = test.eventfd();
    await set(client, setIrqs(EVENTFD | TRIGGER, INTX, 0, 1), [fd]);
    await set(client, setIrqs(NONE | TRIGGER, INTX, 0, 1));
    await set(client, setIrqs(NONE | TRIGGER, INTX, 0, 1));
    expect(test.count(fd)).toBe(1);
    expect(await set(client, setIrqs(NONE | UNMASK, INTX, 0, 1))).toBe(0);
    await set(client, setIrqs(NONE | TRIGGER, INTX, 0, 1));
    expect(test.count(fd)).toBe(1);
    expect(await set(client, setIrqs(BOOL | UNMASK, INTX, 0, 1, [1]))).toBe(0);
    expect(await set(client, setIrqs(NONE | MASK, INTX, 0, 1))).toBe(0);
    await set(client, setIrqs(NONE | TRIGGER, INTX, 0, 1));
    expect(test.count(fd)).toBe(0);
  });

  it('VFU-084 all are closed with the client', async () => {
    await using test = await begin();
    const { client, lab } = test;
    const fd = test.eventfd();
    const before = lab.fdCount();
    await set(client, setIrqs(EVENTFD | TRIGGER, MSI, 0, 1), [fd]);
    await lab.leave(client);
    expect(lab.fdCount()).toBe(before - 2); // both ends of the connection
    expect(lab.machine.host.tracker.count('eventfd')).toBe(0);
  });

  it('VFU-085 a full eventfd holds nobody up', async () => {
    await using test = await begin();
    const { client, lab } = test;
    const blocking = lab.linux.check(lab.linux.calls.eventfd(0, 0), 'eventfd');
    using memory = lab.linux.memory(8, 'a counter');
    memory.view.setBigUint64(0, 2n ** 64n - 2n, true);
    lab.linux.calls.write(blocking, memory.address, 8);
    await set(client, setIrqs(EVENTFD | TRIGGER, MSI, 0, 1), [blocking]);
    expect(await set(client, setIrqs(NONE | TRIGGER, MSI, 0, 1))).toBe(0);
    lab.linux.calls.close(blocking);
  });

  it('a short request, or argsz, is refused', async () => {
    await using test = await begin();
    const { client } = test;
    expect(await set(client, setIrqs(NONE | TRIGGER, MSI, 0, 1).subarray(0, 19))).toBe(EINVAL);
    expect(await set(client, concat(words(19, NONE | TRIGGER, MSI, 0, 0)))).toBe(EINVAL);
    await turn();
  });
});
