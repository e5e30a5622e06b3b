import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { Uart16550 } from '../src/hardware/index.js';

const [DATA, IER, IIR, FCR, LCR, MCR, LSR, MSR, SCR] = [0, 1, 2, 2, 3, 4, 5, 6, 7];

let interrupts: number;
let uart: Uart16550;

beforeEach(() => {
  interrupts = 0;
  uart = new Uart16550(() => {
    interrupts++;
  });
});

function send(...bytes: number[]): void {
  for (const byte of bytes) uart.write(DATA, byte);
}

function receive(count: number): number[] {
  return Array.from({ length: count }, () => uart.read(DATA));
}

/** Interrupts since the last call. */
function raised(): number {
  const count = interrupts;
  interrupts = 0;
  return count;
}

describe('after power on', () => {
  it('has these registers', () => {
    expect([IER, IIR, LCR, MCR, LSR, MSR, SCR].map((register) => uart.read(register))).toEqual([
      0, 0xc1, 0, 0, 0x60, 0xb3, 0,
    ]);
  });
});

describe('loop', () => {
  it('MTTY-018 what is sent comes back', () => {
    send(0x41);
    expect(receive(1)).toEqual([0x41]);
  });

  it('MTTY-019 line status is 0x60 when empty, 0x01 with data', () => {
    expect(uart.read(LSR)).toBe(0x60);
    send(1);
    expect(uart.read(LSR)).toBe(0x01);
    receive(1);
    expect(uart.read(LSR)).toBe(0x60);
  });

  it('MTTY-020 fifteen bytes come back in order', () => {
    const bytes = Array.from({ length: 15 }, (_, i) => 0x40 + i);
    send(...bytes);
    expect(receive(15)).toEqual(bytes);
  });

  it('MTTY-021 sixteen unread bytes look like none, and reading gives none of them', () => {
    send(...Array(16).fill(0x55));
    expect(uart.read(LSR)).toBe(0x60);
    expect(receive(17)).toEqual(Array(17).fill(0));
    expect(uart.read(LSR)).toBe(0x60);
  });

  it('MTTY-022 one more overruns; FCR 0x07 empties the ring but not the overrun', () => {
    send(...Array(17).fill(0x55));
    expect(uart.read(LSR)).toBe(0x62);
    uart.write(FCR, 0x07);
    expect(uart.read(LSR)).toBe(0x62);
    send(0x66);
    expect(receive(1)).toEqual([0x66]);
  });

  it('MTTY-023 the next byte that is accepted clears the overrun', () => {
    send(...Array(17).fill(0x55));
    uart.write(FCR, 0x07);
    send(1);
    expect(uart.read(LSR)).toBe(0x01);
  });

  it('MTTY-024 without FIFO the second unread byte overruns', () => {
    uart.write(FCR, 0x00);
    send(1);
    expect(uart.read(LSR)).toBe(0x01);
    send(2);
    expect(uart.read(LSR)).toBe(0x03);
    expect(receive(1)).toEqual([1]);
  });

  it('wraps around its end as often as one likes', () => {
    for (let i = 0; i < 100; i++) {
      send(i, i + 1, i + 2);
      expect(receive(3)).toEqual([i, i + 1, i + 2]);
    }
  });

  it('does not care for the loop bit', () => {
    uart.write(MCR, 0x10);
    send(0x12);
    expect(receive(1)).toEqual([0x12]);
  });
});

describe('registers', () => {
  it('MTTY-025 IER reads back its four bits', () => {
    uart.write(IER, 0xff);
    expect(uart.read(IER)).toBe(0x0f);
  });

  it('MTTY-026 the latch opens with the divisor 0, and takes bits but never gives them up', () => {
    uart.write(LCR, 0x80);
    uart.write(DATA, 0x0c);
    uart.write(IER, 0x00);
    expect([uart.read(DATA), uart.read(IER)]).toEqual([0x0c, 0]);
    uart.write(DATA, 0x30);
    expect(uart.read(DATA)).toBe(0x3c);
    uart.write(IER, 0x81);
    expect([uart.read(DATA), uart.read(IER)]).toEqual([0x3c, 0x81]);
    uart.write(LCR, 0x83);
    expect([uart.read(DATA), uart.read(IER), uart.read(LCR)]).toEqual([0, 0, 0x83]);
  });

  it('MTTY-026 a closed latch shows data and IER again', () => {
    uart.write(IER, 0x05);
    send(0x77);
    uart.write(LCR, 0x80);
    uart.write(DATA, 0x01);
    uart.write(LCR, 0x03);
    expect([uart.read(IER), uart.read(DATA), uart.read(LCR)]).toEqual([0x05, 0x77, 0x03]);
  });

  it('MTTY-035 the scratch register keeps its value, status registers take none', () => {
    uart.write(SCR, 0xa5);
    uart.write(LSR, 0xff);
    uart.write(MSR, 0xff);
    expect([uart.read(SCR), uart.read(LSR), uart.read(MSR)]).toEqual([0xa5, 0x60, 0xb3]);
  });

  it('has nothing from offset 8 on', () => {
    for (const offset of [8, 9, 0xffff]) {
      uart.write(offset, 0xff);
      expect(uart.read(offset)).toBe(0);
    }
    expect([IER, LCR, MCR, LSR, SCR].map((register) => uart.read(register))).toEqual([0, 0, 0, 0x60, 0]);
  });

  it('MTTY-034 modem status is 0xb3, and 0xa2 with flow control and a full ring', () => {
    expect(uart.read(MSR)).toBe(0xb3);
    uart.write(FCR, 0x00);
    uart.write(MCR, 0x20);
    expect(uart.read(MSR)).toBe(0xb3);
    send(1);
    expect(uart.read(MSR)).toBe(0xa2);
    uart.write(MCR, 0);
    expect(uart.read(MSR)).toBe(0xb3);
  });
});

describe('interrupts', () => {
  it('MTTY-027 identification is 0xc1 without a cause', () => {
    expect(uart.read(IIR)).toBe(0xc1);
    uart.write(IER, 0x0d);
    uart.write(FCR, 0x01);
    expect(uart.read(IIR)).toBe(0xc1);
    expect(raised()).toBe(0);
  });

  it('MTTY-028 an empty transmitter interrupts when that is enabled, each time', () => {
    uart.write(IER, 0x02);
    expect([raised(), uart.read(IIR)]).toEqual([1, 0xc2]);
    expect(uart.read(IIR)).toBe(0xc2); // reading clears nothing
    uart.write(IER, 0x02);
    expect(raised()).toBe(1);
    send(1);
    uart.write(IER, 0x02);
    expect(raised()).toBe(0);
    receive(1);
    expect(raised()).toBe(1);
    receive(1); // empty before and after
    expect(raised()).toBe(1);
  });

  it('MTTY-029 data reads 0xc4, and 0xc6 together with an empty transmitter', () => {
    uart.write(FCR, 0x01);
    uart.write(IER, 0x03);
    send(1);
    expect(uart.read(IIR)).toBe(0xc4);
    send(...Array(15).fill(2));
    expect(uart.read(IIR)).toBe(0xc6);
  });

  it('MTTY-030 before the first write of FCR data is claimed while empty, and does not interrupt', () => {
    uart.write(IER, 0x01);
    expect(uart.read(IIR)).toBe(0xc4);
    send(1, 2, 3);
    expect(raised()).toBe(0);
  });

  it.each([0x01, 0x41, 0x81, 0xc1, 0x00])(
    'MTTY-031 after FCR 0x%s the first byte interrupts, and no other',
    (value) => {
      uart.write(FCR, value);
      uart.write(IER, 0x01);
      send(1);
      expect([raised(), uart.read(IIR)]).toEqual([1, 0xc4]);
      send(2);
      expect(raised()).toBe(0);
    },
  );

  it('MTTY-032 an overrun interrupts and reads 0xc6', () => {
    uart.write(FCR, 0x00);
    uart.write(IER, 0x04);
    send(1);
    expect(raised()).toBe(0);
    send(2);
    expect([raised(), uart.read(IIR)]).toEqual([1, 0xc6]);
    send(3);
    expect(raised()).toBe(1);
  });

  it('MTTY-033 MCR 0x0b interrupts twice, and the modem status reads as none', () => {
    uart.write(IER, 0x08);
    uart.write(MCR, 0x0b);
    expect([raised(), uart.read(IIR)]).toEqual([2, 0xc1]);
    uart.write(MCR, 0x08);
    expect(raised()).toBe(1);
    uart.write(MCR, 0x02);
    expect(raised()).toBe(1);
    uart.write(MCR, 0x04);
    expect(raised()).toBe(0);
    uart.write(IER, 0);
    uart.write(MCR, 0x0b);
    expect(raised()).toBe(0);
  });
});

describe('state', () => {
  it('continues in another port where it was saved', () => {
    const access = fc.record({
      write: fc.boolean(),
      offset: fc.integer({ min: 0, max: 8 }),
      value: fc.integer({ min: 0, max: 0xff }),
    });
    fc.assert(
      fc.property(fc.array(access), fc.array(access), (before, after) => {
        const seen: number[] = [];
        const [one, two] = [0, 1].map((index) => new Uart16550(() => seen.push(0x100 + index)));
        const run = (port: Uart16550, accesses: typeof before): number[] =>
          accesses.map(({ write, offset, value }) => {
            if (!write) return port.read(offset);
            port.write(offset, value);
            return seen.length;
          });
        run(one!, before);
        seen.length = 0;
        two!.load(one!.save());
        expect(seen).toEqual([]); // loading raises nothing
        const first = run(one!, after);
        seen.length = 0;
        expect(run(two!, after)).toEqual(first);
      }),
    );
  });

  it('is a copy', () => {
    send(1, 2);
    const state = uart.save();
    send(3);
    receive(3);
    const other = new Uart16550(() => {});
    other.load(state);
    state.ring.fill(0xee);
    expect([other.read(DATA), other.read(DATA), other.read(LSR)]).toEqual([1, 2, 0x60]);
  });

  it('keeps foreign ring indexes inside the ring', () => {
    const state = { ...uart.save(), head: 0xff, tail: 0x1e, ring: Uint8Array.from({ length: 16 }, (_, i) => i) };
    uart.load(state);
    expect(uart.read(LSR)).toBe(0x01);
    expect(receive(2)).toEqual([0x0e, 0]);
    expect(uart.save()).toMatchObject({ head: 15, tail: 15, count: 255 });
  });

  it('agrees with a plain model of the loop', () => {
    const command = fc.oneof(
      fc.integer({ min: 0, max: 0xff }).map((byte) => ({ send: byte })),
      fc.constant({ receive: true }),
      fc.constant({ clear: true }),
    );
    fc.assert(
      fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
        const port = new Uart16550(() => {});
        port.write(FCR, 0x07);
        let queue: number[] = [];
        let stuck = false; // a full ring that looks empty
        for (const one of commands) {
          if ('send' in one) {
            port.write(DATA, one.send);
            if (queue.length < 16) queue.push(one.send);
            stuck ||= queue.length === 16;
          } else if ('receive' in one) {
            expect(port.read(DATA)).toBe(stuck ? 0 : (queue.shift() ?? 0));
          } else {
            port.write(FCR, 0x07);
            queue = [];
            stuck = false;
          }
          expect(port.read(LSR) & 0x61).toBe(queue.length === 0 || stuck ? 0x60 : 0x01);
        }
      }),
    );
  });
});
