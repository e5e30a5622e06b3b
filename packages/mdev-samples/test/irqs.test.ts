import { IrqSetFlag, Request } from '@vfio/core';
import { O } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { type Card, int32, Lab } from './lab.js';

const [INTX, MSI, MSIX, ERR, REQ] = [0, 1, 2, 3, 4];
const { DATA_NONE, DATA_BOOL, DATA_EVENTFD, ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER } = IrqSetFlag;
const [DATA, IER, FCR, MCR] = [0, 1, 2, 4];

function failing(code: string) {
  return expect.objectContaining({ code });
}

/** A card that was asked for its info, so that it knows its interrupts. */
async function informed(lab: Lab): Promise<Card> {
  const card = await lab.card();
  await card.info();
  return card;
}

describe('interrupt info', () => {
  it('MTTY-008 is refused until device info was asked for once, for good', async () => {
    await using lab = await Lab.create();
    const card = await lab.card();
    await expect(card.irq(INTX)).rejects.toThrow(failing('EINVAL'));
    await expect(card.connect(INTX, -1)).rejects.toThrow(failing('EINVAL'));
    await card.info();
    expect(await card.irq(INTX)).toMatchObject({ count: 1 });
    await card.reopen();
    expect(await card.irq(INTX)).toMatchObject({ count: 1 });
    expect(await card.connect(INTX, -1)).toBe(0);
  });

  it('MTTY-008 is given also when the device info could not be written back', async () => {
    await using lab = await Lab.create();
    const card = await lab.card();
    const page = card.process.mm.mmap({ length: 4096, prot: 3 });
    card.process.mm.store(page, 4, 24n);
    card.process.mm.mprotect(page, 4096, 1);
    await expect(card.process.ioctl(card.fd, Request.DEVICE_GET_INFO, page)).rejects.toThrow(failing('EFAULT'));
    expect(await card.irq(MSI)).toMatchObject({ count: 1 });
  });

  it('MTTY-046 INTx masks itself, MSI can not be resized, and there is nothing else', async () => {
    await using lab = await Lab.create();
    const card = await informed(lab);
    expect(await card.irq(INTX)).toMatchObject({ flags: 7, count: 1 });
    expect(await card.irq(MSI)).toMatchObject({ flags: 9, count: 1 });
    for (const index of [MSIX, ERR, REQ, 5, 0xffff_ffff]) {
      await expect(card.irq(index)).rejects.toThrow(failing('EINVAL'));
    }
    await expect(card.irq(INTX, 15)).rejects.toThrow(failing('EINVAL'));
  });
});

describe('INTx', () => {
  let lab: Lab;
  let card: Card;
  let eventfd: number;

  async function connected(fn: () => Promise<void>): Promise<void> {
    await using created = await Lab.create();
    lab = created;
    card = await informed(lab);
    eventfd = card.eventfd();
    await card.connect(INTX, eventfd);
    await fn();
  }

  it('MTTY-037 signals the first cause, and the next after it was unmasked', () =>
    connected(async () => {
      await card.out(IER, 0x02);
      expect(await card.signals(eventfd)).toBe(1);
      await card.out(IER, 0x02);
      expect(await card.signals(eventfd)).toBe(0);
      await card.unmask();
      await card.out(IER, 0x02);
      expect(await card.signals(eventfd)).toBe(1);
    }));

  it('MTTY-038 unmasking does not look for a cause', () =>
    connected(async () => {
      await card.out(IER, 0x02);
      await card.out(IER, 0x02);
      expect(await card.signals(eventfd)).toBe(1);
      await card.unmask();
      expect(await card.signals(eventfd)).toBe(0);
    }));

  it('MTTY-039 can not be masked or unmasked by an eventfd', () =>
    connected(async () => {
      const data = int32(eventfd, card.process);
      for (const action of [ACTION_MASK, ACTION_UNMASK]) {
        await expect(card.setIrqs(INTX, DATA_EVENTFD | action, { data })).rejects.toThrow(failing('ENOTTY'));
      }
    }));

  it('is masked and unmasked without data, and by a boolean that is true', () =>
    connected(async () => {
      const fires = async () => {
        await card.out(IER, 0x02);
        return (await card.signals(eventfd)) === 1;
      };
      await card.setIrqs(INTX, DATA_NONE | ACTION_MASK);
      expect(await fires()).toBe(false);
      await card.setIrqs(INTX, DATA_BOOL | ACTION_UNMASK, { data: Uint8Array.of(0) });
      expect(await fires()).toBe(false);
      await card.setIrqs(INTX, DATA_BOOL | ACTION_UNMASK, { data: Uint8Array.of(2) });
      expect(await fires()).toBe(true);
      await card.unmask();
      await card.setIrqs(INTX, DATA_BOOL | ACTION_MASK, { data: Uint8Array.of(0) });
      expect(await fires()).toBe(true);
      await card.unmask();
      await card.setIrqs(INTX, DATA_BOOL | ACTION_MASK, { data: Uint8Array.of(1) });
      expect(await fires()).toBe(false);
    }));

  it('MTTY-045 is interrupt 0 and no other, also while it is in use', () =>
    connected(async () => {
      for (const action of [ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER]) {
        await expect(card.setIrqs(INTX, DATA_NONE | action, { start: 1 })).rejects.toThrow(failing('EINVAL'));
        await expect(card.setIrqs(INTX, DATA_NONE | action, { count: 2 })).rejects.toThrow(failing('EINVAL'));
      }
      await expect(card.setIrqs(INTX, DATA_NONE | ACTION_MASK, { count: 0 })).rejects.toThrow(failing('EINVAL'));
    }));

  it('is not masked when it is connected again', () =>
    connected(async () => {
      await card.out(IER, 0x02);
      const other = card.eventfd();
      await card.connect(INTX, other);
      await card.out(IER, 0x02);
      expect([await card.signals(eventfd), await card.signals(other)]).toEqual([1, 1]);
    }));

  it('MTTY-040 and CORE-127: keeps MSI out until it is disabled', () =>
    connected(async () => {
      await expect(card.connect(MSI, eventfd)).rejects.toThrow(failing('EINVAL'));
      await expect(card.setIrqs(MSI, DATA_NONE | ACTION_TRIGGER, { count: 0 })).rejects.toThrow(failing('EINVAL'));
      expect(await card.setIrqs(INTX, DATA_NONE | ACTION_TRIGGER, { count: 0 })).toBe(0);
      expect(await card.connect(MSI, eventfd)).toBe(0);
      await expect(card.connect(INTX, eventfd)).rejects.toThrow(failing('EINVAL'));
    }));

  it('MTTY-042 drops its eventfd for a descriptor that is none', () =>
    connected(async () => {
      const file = await card.process.open('/dev/null', O.RDWR);
      await expect(card.connect(INTX, file)).rejects.toThrow(failing('EINVAL'));
      await expect(card.setIrqs(INTX, DATA_NONE | ACTION_TRIGGER)).rejects.toThrow(failing('EINVAL'));
      await card.connect(INTX, eventfd);
      await expect(card.connect(INTX, 999)).rejects.toThrow(failing('EBADF'));
      await card.out(IER, 0x02);
      expect(await card.signals(eventfd)).toBe(0);
    }));

  it.each([-1, -2])('MTTY-043 and CORE-127: is disabled by the descriptor %d', (fd) =>
    connected(async () => {
      expect(await card.connect(INTX, fd)).toBe(0);
      await card.out(IER, 0x02);
      expect(await card.signals(eventfd)).toBe(0);
      expect(await card.connect(MSI, eventfd)).toBe(0);
    }),
  );

  it('MTTY-044, CORE-127 and CORE-128: fires on request: without data, or by a boolean that is true', () =>
    connected(async () => {
      expect(await card.setIrqs(INTX, DATA_BOOL | ACTION_TRIGGER, { data: Uint8Array.of(0) })).toBe(0);
      expect(await card.signals(eventfd)).toBe(0);
      await card.setIrqs(INTX, DATA_BOOL | ACTION_TRIGGER, { data: Uint8Array.of(1) });
      expect(await card.signals(eventfd)).toBe(1);
      await card.unmask();
      await card.setIrqs(INTX, DATA_NONE | ACTION_TRIGGER);
      expect(await card.signals(eventfd)).toBe(1);
    }));
});

describe('MSI', () => {
  it('MTTY-041 is never masked: each cause signals', async () => {
    await using lab = await Lab.create();
    const card = await informed(lab);
    const eventfd = card.eventfd();
    await card.connect(MSI, eventfd);
    await card.out(IER, 0x08);
    await card.out(MCR, 0x0b); // two causes
    await card.out(IER, 0x02);
    expect(await card.signals(eventfd)).toBe(3);
    for (const action of [ACTION_MASK, ACTION_UNMASK]) {
      await expect(card.setIrqs(MSI, DATA_NONE | action)).rejects.toThrow(failing('ENOTTY'));
    }
  });

  it('MTTY-044 fires on request while it is connected, else that is refused', async () => {
    await using lab = await Lab.create();
    const card = await informed(lab);
    const eventfd = card.eventfd();
    for (const index of [INTX, MSI]) {
      for (const [flags, data] of [
        [DATA_NONE, Uint8Array.of()],
        [DATA_BOOL, Uint8Array.of(0)],
      ] as const) {
        await expect(card.setIrqs(index, flags | ACTION_TRIGGER, { data })).rejects.toThrow(failing('EINVAL'));
      }
    }
    await card.connect(MSI, eventfd);
    for (let i = 0; i < 3; i++) await card.setIrqs(MSI, DATA_NONE | ACTION_TRIGGER);
    await card.setIrqs(MSI, DATA_BOOL | ACTION_TRIGGER, { data: Uint8Array.of(1) });
    expect(await card.signals(eventfd)).toBe(4);
  });
});

/** What is asked, and how it is refused. */
const refused: readonly (readonly [string, (card: Card) => Promise<unknown>, string])[] = [
  ['an action on MSI-X', (card) => card.setIrqs(MSIX, DATA_NONE | ACTION_TRIGGER), 'ENOTTY'],
  ['an action on ERR', (card) => card.setIrqs(ERR, DATA_NONE | ACTION_TRIGGER), 'ENOTTY'],
  ['an action on REQ', (card) => card.setIrqs(REQ, DATA_NONE | ACTION_MASK), 'ENOTTY'],
  ['an index that is none', (card) => card.setIrqs(5, DATA_NONE | ACTION_TRIGGER), 'EINVAL'],
  ['a second interrupt', (card) => card.setIrqs(INTX, DATA_NONE | ACTION_TRIGGER, { start: 1 }), 'EINVAL'],
  ['two interrupts', (card) => card.setIrqs(INTX, DATA_NONE | ACTION_TRIGGER, { count: 2 }), 'EINVAL'],
  ['no interrupts, not in use', (card) => card.setIrqs(INTX, DATA_NONE | ACTION_TRIGGER, { count: 0 }), 'EINVAL'],
  ['masking, not in use', (card) => card.setIrqs(INTX, DATA_NONE | ACTION_MASK), 'EINVAL'],
  ['two kinds of data', (card) => card.setIrqs(INTX, DATA_NONE | DATA_BOOL | ACTION_TRIGGER), 'EINVAL'],
  ['an unknown flag', (card) => card.setIrqs(INTX, 0x40 | DATA_NONE | ACTION_TRIGGER), 'EINVAL'],
  ['a short argsz', (card) => card.setIrqs(INTX, DATA_NONE | ACTION_TRIGGER, { argsz: 19 }), 'EINVAL'],
  ['data that argsz has no room for', (card) => card.setIrqs(INTX, DATA_BOOL | ACTION_TRIGGER), 'EINVAL'],
  ['data that is not there', (card) => card.setIrqs(INTX, DATA_EVENTFD | ACTION_TRIGGER, { argsz: 24 }), 'EFAULT'],
];

describe('requests', () => {
  it('MTTY-045 for other interrupts, or more than one, are refused', async () => {
    await using lab = await Lab.create();
    const card = await informed(lab);
    for (const [what, request, code] of refused) {
      await expect(request(card), what).rejects.toThrow(failing(code));
    }
  });

  it('for several actions, or none, do nothing and succeed', async () => {
    await using lab = await Lab.create();
    const card = await informed(lab);
    expect(await card.setIrqs(INTX, DATA_NONE)).toBe(0);
    expect(await card.setIrqs(INTX, DATA_NONE | ACTION_MASK | ACTION_UNMASK)).toBe(0);
    expect(await card.setIrqs(MSI, DATA_NONE | ACTION_TRIGGER | ACTION_MASK)).toBe(0);
    await expect(card.setIrqs(MSIX, DATA_NONE)).rejects.toThrow(failing('ENOTTY'));
  });

  it('of a big-endian program name descriptors in its byte order', async () => {
    await using lab = await Lab.create();
    await lab.create();
    const program = lab.host.spawn({ comm: 's390', byteOrder: 'big' });
    const card = await lab.open(undefined, program);
    await card.info();
    const eventfd = card.eventfd();
    expect(await card.connect(INTX, eventfd)).toBe(0);
    await card.out(FCR, 1);
    await card.out(IER, 1);
    await card.out(DATA, 0x41);
    expect(await card.signals(eventfd)).toBe(1);
    await program.exit();
  });
});

describe('last close', () => {
  it('MTTY-047 gives the eventfds back; another descriptor keeps them', async () => {
    await using lab = await Lab.create();
    const card = await informed(lab);
    const eventfd = card.eventfd();
    await card.connect(INTX, eventfd);
    const second = await card.again();
    await card.process.close(card.fd);
    card.fd = second;
    await card.out(IER, 0x02);
    expect(await card.signals(eventfd)).toBe(1);
    const alive = () => lab.host.tracker.leaks().filter(({ kind }) => kind === 'eventfd').length;
    await card.process.close(eventfd);
    expect(alive()).toBe(1); // the card holds it
    await card.reopen();
    expect(alive()).toBe(0);
    await expect(card.setIrqs(INTX, DATA_NONE | ACTION_TRIGGER)).rejects.toThrow(failing('EINVAL'));
  });
});
