/*
 * What a Linux guest does with the card: finds it by its class, sizes its BARs, starts a port as 8250_port.c does, and
 * then talks through it in its interrupt handler.
 */
import type { Card } from './lab.js';

const [BAR0, CONFIG] = [0, 7];
const [DATA, IER, IIR, FCR, LCR, MCR, LSR, MSR] = [0, 1, 2, 2, 3, 4, 5, 6];
const NO_INT = 0x01;
const [RDI, THRI, RLSI] = [0x01, 0x02, 0x04];
const [DR, THRE, TEMT] = [0x01, 0x20, 0x40];
const [DTR, RTS, OUT2] = [0x01, 0x02, 0x08];
const FIFO_SIZE = 16;

/** What the guest found in config space. Source: drivers/tty/serial/8250/8250_pci.c serial_pci_guess_board() */
export interface Board {
  readonly id: string;
  readonly classCode: number;
  readonly programmingInterface: number;
  /** I/O BARs of eight bytes, one after the other from BAR0 on: one port each. */
  readonly ports: number;
  readonly interruptPin: number;
}

/** Looks at a PCI function as the guest's PCI core and its serial driver do, and gives it an address. */
export async function probeBoard(card: Card): Promise<Board> {
  const config = new DataView((await card.read(CONFIG, 0, 0x40)).slice().buffer);
  let ports = 0;
  for (let bar = 0; bar < 6; bar++) {
    const size = await sizeBar(card, 0x10 + 4 * bar);
    if (size === 8 && ports === bar) ports++;
    if (size !== 0) await writeConfig32(card, 0x10 + 4 * bar, 0xc000 + 0x40 * bar);
  }
  await card.write(CONFIG, 0x04, 0x01, 0x00); // I/O on
  await card.write(CONFIG, 0x3c, 0x0b);
  return {
    id: `${hex(config.getUint16(0, true))}:${hex(config.getUint16(2, true))}`,
    classCode: config.getUint16(0x0a, true),
    programmingInterface: config.getUint8(0x09),
    ports,
    interruptPin: config.getUint8(0x3d),
  };
}

async function sizeBar(card: Card, register: number): Promise<number> {
  const before = await readConfig32(card, register);
  await writeConfig32(card, register, 0xffff_ffff);
  const mask = await readConfig32(card, register);
  await writeConfig32(card, register, before);
  return mask === 0 ? 0 : (~(mask & ~0x3) + 1) >>> 0;
}

/** One port of the board, driven by a program with an eventfd for INTx. */
export class Guest8250 {
  readonly #card: Card;
  readonly #port: number;
  #interruptEnable = 0;
  #lineControl = 0;
  readonly #toSend: number[] = [];
  readonly received: number[] = [];
  /** Writing IER does not raise the interrupt again that is due. */
  thrBug = false;
  /** Enabling the transmitter's interrupt does not raise it. */
  txenBug = false;

  constructor(card: Card, port = BAR0) {
    this.#card = card;
    this.#port = port;
  }

  /**
   * Starts the port.
   *
   * @returns false if there is none
   * @source drivers/tty/serial/8250/8250_port.c serial8250_do_startup()
   */
  async startup(): Promise<boolean> {
    for (const value of [0x01, 0x07, 0x00]) await this.#out(FCR, value);
    await this.#clearInterrupts();
    if ((await this.#in(LSR)) === 0xff) return false;
    await this.#testThre();
    await this.#out(LCR, 0x03);
    this.#lineControl = 0x03;
    await this.#out(MCR, OUT2);
    await this.#testTxen();
    await this.#clearInterrupts();
    await this.#setInterruptEnable(RLSI | RDI);
    return true;
  }

  /** Sets the speed. Source: 8250_port.c serial8250_do_set_termios() */
  async setTermios(divisor: number): Promise<number> {
    await this.#out(LCR, this.#lineControl | 0x80);
    await this.#out(DATA, divisor & 0xff);
    await this.#out(IER, divisor >> 8);
    const taken = (await this.#in(DATA)) | ((await this.#in(IER)) << 8);
    await this.#out(LCR, this.#lineControl);
    await this.#out(FCR, 0x81); // interrupt at eight bytes, says the driver
    await this.#out(MCR, OUT2 | DTR | RTS);
    return taken;
  }

  /** Queues bytes and lets the transmitter ask for them. Source: 8250_port.c serial8250_start_tx() */
  async send(bytes: Iterable<number>): Promise<void> {
    this.#toSend.push(...bytes);
    if ((this.#interruptEnable & THRI) === 0) await this.#setInterruptEnable(this.#interruptEnable | THRI);
  }

  /**
   * The interrupt handler: goes on until the port has nothing more to say.
   *
   * @returns rounds that found something
   * @source drivers/tty/serial/8250/8250_core.c serial8250_interrupt(); 8250_port.c serial8250_handle_irq()
   */
  async interrupt(): Promise<number> {
    let rounds = 0;
    for (; ((await this.#in(IIR)) & NO_INT) === 0 && rounds < 512; rounds++) {
      let status = await this.#in(LSR);
      while ((status & DR) !== 0) {
        this.received.push(await this.#in(DATA));
        status = await this.#in(LSR);
      }
      await this.#in(MSR);
      if ((status & THRE) !== 0 && (this.#interruptEnable & THRI) !== 0) await this.#transmit();
    }
    return rounds;
  }

  async #transmit(): Promise<void> {
    // one less than the ring takes: a full one looks empty
    for (const byte of this.#toSend.splice(0, FIFO_SIZE - 1)) await this.#out(DATA, byte);
    if (this.#toSend.length === 0) await this.#setInterruptEnable(this.#interruptEnable & ~THRI);
  }

  /** Source: 8250_port.c serial8250_THRE_test() */
  async #testThre(): Promise<void> {
    await this.#out(IER, THRI);
    const first = await this.#in(IIR);
    await this.#out(IER, 0);
    await this.#out(IER, THRI);
    const second = await this.#in(IIR);
    await this.#out(IER, 0);
    this.thrBug = (first & NO_INT) !== 0 || (second & NO_INT) !== 0;
  }

  /** Source: 8250_port.c serial8250_initialize() */
  async #testTxen(): Promise<void> {
    await this.#out(IER, THRI);
    const status = await this.#in(LSR);
    const cause = await this.#in(IIR);
    await this.#out(IER, 0);
    this.txenBug = (status & TEMT) !== 0 && (cause & NO_INT) !== 0;
  }

  async #clearInterrupts(): Promise<void> {
    for (const register of [LSR, DATA, IIR, MSR]) await this.#in(register);
  }

  async #setInterruptEnable(value: number): Promise<void> {
    this.#interruptEnable = value;
    await this.#out(IER, value);
  }

  #in(register: number): Promise<number> {
    return this.#card.in(register, this.#port);
  }

  #out(register: number, value: number): Promise<void> {
    return this.#card.out(register, value, this.#port);
  }
}

async function readConfig32(card: Card, offset: number): Promise<number> {
  return new DataView((await card.read(CONFIG, offset, 4)).slice().buffer).getUint32(0, true);
}

async function writeConfig32(card: Card, offset: number, value: number): Promise<void> {
  await card.write(CONFIG, offset, value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24);
}

function hex(id: number): string {
  return id.toString(16).padStart(4, '0');
}
