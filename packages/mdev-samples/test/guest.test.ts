import { PciIrqIndex } from '@vfio/core';
import { describe, expect, it } from 'vitest';
import { Guest8250, probeBoard } from './guest-8250.js';
import { type Card, Lab } from './lab.js';

/** Runs the guest's handler for each signal of INTx, as a VMM would, until there are no more. */
async function deliver(card: Card, eventfd: number, guest: Guest8250): Promise<number> {
  let delivered = 0;
  while ((await card.signals(eventfd)) > 0) {
    delivered++;
    await guest.interrupt();
    await card.unmask(); // end of interrupt
  }
  return delivered;
}

describe('a Linux guest', () => {
  it.each([
    ['mtty-1', 1],
    ['mtty-2', 2],
  ] as const)('finds on %s a serial card with %d ports', async (type, ports) => {
    await using lab = await Lab.create();
    const card = await lab.card(type);
    expect(await probeBoard(card)).toEqual({
      id: '4348:3253',
      classCode: 0x0700,
      programmingInterface: 2,
      ports,
      interruptPin: 1,
    });
    expect(Buffer.from(await card.read(7, 0x10, 8)).toString('hex')).toBe(
      ports === 2 ? '01c0000041c00000' : '01c0000000000000',
    );
  });

  it('MTTY-063 starts its port as a 16550A, without the bugs that some have', async () => {
    await using lab = await Lab.create();
    const card = await lab.card();
    await probeBoard(card);
    const guest = new Guest8250(card);
    expect(await guest.startup()).toBe(true);
    expect([guest.thrBug, guest.txenBug]).toEqual([false, false]);
    expect(await card.in(1)).toBe(0x05); // interrupts for data and for errors are on
    expect(await card.in(5)).toBe(0x60);
    expect(await guest.setTermios(0x0c)).toBe(0x0c);
    expect(await guest.setTermios(0x0341)).toBe(0x0341);
  });

  it('MTTY-063 hears what it says, driven by INTx', async () => {
    await using lab = await Lab.create();
    const card = await lab.card('mtty-2');
    await card.info();
    const eventfd = card.eventfd();
    await card.connect(PciIrqIndex.INTX, eventfd);
    const guest = new Guest8250(card, 1);
    await guest.startup();
    await card.signals(eventfd); // of the tests during startup
    await card.unmask();
    await guest.setTermios(1);
    const text = 'Hello, mtty! This is longer than a FIFO, and goes out in several bursts of fifteen bytes.';
    await guest.send(new TextEncoder().encode(text));
    expect(await deliver(card, eventfd, guest)).toBe(1);
    expect(String.fromCharCode(...guest.received)).toBe(text);
    expect([await card.in(1, 1), await card.in(2, 1)]).toEqual([0x05, 0xc1]);
  });
});
