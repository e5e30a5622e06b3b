/**
 * A 16550 the way the kernel's mtty sample has it: transmit and receive share one ring, so that the port hears itself.
 * It differs from a real 16550 in ways that a guest can see; they are kept, each with a remark. This file knows nothing
 * of VFIO: a register is read or written, and an interrupt is raised by calling a function.
 */
import type { SerialPort, SerialPortState } from '../mtty/hw.js';

/**
 * Register offsets. Offset 0 is transmit data, receive data or, with the divisor latch open, its low byte; offset 1 is
 * interrupt enable or its high byte; offset 2 is read as interrupt identification and written as FIFO control.
 *
 * @source include/uapi/linux/serial_reg.h
 */
export const UartRegister = { DATA: 0, IER: 1, IIR: 2, FCR: 2, LCR: 3, MCR: 4, LSR: 5, MSR: 6, SCR: 7 } as const;

/** Interrupt enable register: received data, transmitter empty, line status, modem status. */
export const Ier = { RDI: 0x01, THRI: 0x02, RLSI: 0x04, MSI: 0x08 } as const;

/** Interrupt identification register; the two upper bits say that the FIFO is on. */
export const Iir = { NO_INT: 0x01, THRI: 0x02, RDI: 0x04, RLSI: 0x06, MSI: 0x00, FIFO: 0xc0 } as const;

/** FIFO control register: enable, empty the receiver, empty the transmitter. */
export const Fcr = { ENABLE: 0x01, CLEAR_RECEIVER: 0x02, CLEAR_TRANSMITTER: 0x04 } as const;

/** Line control register: divisor latch access. */
export const Lcr = { DLAB: 0x80 } as const;

/** Modem control register: ready to talk, asks to send, interrupt gate of a PC, automatic flow control. */
export const Mcr = { DTR: 0x01, RTS: 0x02, OUT2: 0x08, LOOP: 0x10, AFE: 0x20 } as const;

/** Line status register: data ready, overrun, holding register empty, transmitter empty. */
export const Lsr = { DR: 0x01, OE: 0x02, THRE: 0x20, TEMT: 0x40 } as const;

/** Modem status register: lines, and the changes of lines. */
export const Msr = { DCTS: 0x01, DDSR: 0x02, CTS: 0x10, DSR: 0x20, DCD: 0x80 } as const;

const REGISTERS = 8;
const RING = 16;
const BYTE = 0xff;
/** Interrupt enable has four bits; the others can be written but never read. */
const IER_MASK = 0x0f;

/**
 * One port. Everything happens at once inside `read` and `write`; there is no clock and no line speed.
 *
 * @source samples/vfio-mdev/mtty.c struct serial_port, handle_bar_read(), handle_bar_write()
 */
export class Uart16550 implements SerialPort {
  readonly #interrupt: () => void;
  readonly #registers = new Uint8Array(REGISTERS);
  readonly #ring = new Uint8Array(RING);
  #head = 0;
  #tail = 0;
  #count = 0;
  #divisorLatch = false;
  #overrun = false;
  #divisor = 0;
  #fifoControl = 0;
  #fifoSize = RING;
  // zero until the first write of FCR: received bytes do not interrupt, yet IIR claims data even when there is none
  #triggerLevel = 0;

  /** @param interrupt - called once for each cause, from inside `read` or `write` */
  constructor(interrupt: () => void) {
    this.#interrupt = interrupt;
  }

  read(offset: number): number {
    switch (offset) {
      case UartRegister.DATA:
        return this.#divisorLatch ? this.#divisor & BYTE : this.#receive();
      case UartRegister.IER:
        return this.#divisorLatch ? this.#divisor >> 8 : this.#register(UartRegister.IER) & IER_MASK;
      case UartRegister.IIR:
        return this.#interruptIdentification();
      case UartRegister.LCR:
      case UartRegister.MCR:
      case UartRegister.SCR:
        return this.#register(offset);
      case UartRegister.LSR:
        return this.#lineStatus();
      case UartRegister.MSR:
        return this.#modemStatus();
      default:
        return 0;
    }
  }

  write(offset: number, value: number): void {
    switch (offset) {
      case UartRegister.DATA:
        // OR, not assignment: a second divisor needs the latch opened again
        if (this.#divisorLatch) this.#divisor |= value;
        else this.#transmit(value);
        break;
      case UartRegister.IER:
        if (this.#divisorLatch) {
          this.#divisor |= value << 8;
        } else {
          this.#registers[UartRegister.IER] = value;
          if ((value & Ier.THRI) !== 0 && this.#empty) this.#interrupt();
        }
        break;
      case UartRegister.FCR:
        this.#controlFifo(value);
        break;
      case UartRegister.LCR:
        this.#divisorLatch = (value & Lcr.DLAB) !== 0;
        if (this.#divisorLatch) this.#divisor = 0;
        this.#registers[UartRegister.LCR] = value;
        break;
      case UartRegister.MCR:
        this.#registers[UartRegister.MCR] = value;
        if ((this.#register(UartRegister.IER) & Ier.MSI) !== 0) {
          // two causes, two calls: an edge-triggered listener counts both
          if ((value & Mcr.OUT2) !== 0) this.#interrupt();
          if ((value & (Mcr.RTS | Mcr.DTR)) !== 0) this.#interrupt();
        }
        break;
      case UartRegister.SCR:
        this.#registers[UartRegister.SCR] = value;
        break;
      default: // LSR and MSR are read only, and there is nothing behind them
        break;
    }
  }

  save(): SerialPortState {
    return {
      registers: this.#registers.slice(),
      ring: this.#ring.slice(),
      head: this.#head,
      tail: this.#tail,
      count: this.#count,
      divisorLatch: this.#divisorLatch,
      overrun: this.#overrun,
      divisor: this.#divisor,
      fifoControl: this.#fifoControl,
      fifoSize: this.#fifoSize,
      triggerLevel: this.#triggerLevel,
    };
  }

  load(state: SerialPortState): void {
    this.#registers.set(state.registers.subarray(0, REGISTERS));
    this.#ring.set(state.ring.subarray(0, RING));
    // Differs: an index beyond the ring would reach foreign memory in C
    this.#head = state.head % RING;
    this.#tail = state.tail % RING;
    this.#count = state.count & BYTE;
    this.#divisorLatch = state.divisorLatch;
    this.#overrun = state.overrun;
    this.#divisor = state.divisor & 0xffff;
    this.#fifoControl = state.fifoControl & BYTE;
    this.#fifoSize = state.fifoSize & BYTE;
    this.#triggerLevel = state.triggerLevel & BYTE;
  }

  /** Not `count === 0`: after sixteen unread bytes the ring looks empty and stays so until FCR clears it. */
  get #empty(): boolean {
    return this.#head === this.#tail;
  }

  #register(offset: number): number {
    return this.#registers[offset] ?? 0;
  }

  #transmit(value: number): void {
    const enabled = this.#register(UartRegister.IER);
    if (this.#count < this.#fifoSize) {
      this.#ring[this.#head] = value;
      this.#count = (this.#count + 1) & BYTE;
      this.#head = (this.#head + 1) % RING;
      this.#overrun = false;
      if ((enabled & Ier.RDI) !== 0 && this.#count === this.#triggerLevel) this.#interrupt();
    } else {
      this.#overrun = true;
      if ((enabled & Ier.RLSI) !== 0) this.#interrupt();
    }
  }

  #receive(): number {
    let value = 0; // Differs: the byte of an empty ring is whatever the kernel's stack holds
    if (!this.#empty) {
      value = this.#ring[this.#tail] ?? 0;
      this.#count = (this.#count - 1) & BYTE;
      this.#tail = (this.#tail + 1) % RING;
    }
    // each read of an empty ring is a cause, not only the one that empties it
    if (this.#empty && (this.#register(UartRegister.IER) & Ier.THRI) !== 0) this.#interrupt();
    return value;
  }

  #controlFifo(value: number): void {
    this.#fifoControl = value;
    if ((value & (Fcr.CLEAR_RECEIVER | Fcr.CLEAR_TRANSMITTER)) !== 0) {
      this.#count = 0;
      this.#head = 0;
      this.#tail = 0; // the overrun stays
    }
    this.#triggerLevel = 1; // whatever the two trigger bits ask for: there is no timer for a partly filled FIFO
    this.#fifoSize = (value & Fcr.ENABLE) !== 0 ? RING : 1;
  }

  #interruptIdentification(): number {
    const enabled = this.#register(UartRegister.IER);
    // the causes are OR-ed instead of ranked: data together with an empty transmitter reads as a line status
    let cause = 0;
    if ((enabled & Ier.RLSI) !== 0 && this.#overrun) cause |= Iir.RLSI;
    if ((enabled & Ier.RDI) !== 0 && this.#count >= this.#triggerLevel) cause |= Iir.RDI;
    if ((enabled & Ier.THRI) !== 0 && this.#empty) cause |= Iir.THRI;
    // a modem status is Iir.MSI, which is 0: alone it reads as "none"
    return (cause === 0 ? Iir.NO_INT : cause) | Iir.FIFO;
  }

  #lineStatus(): number {
    const overrun = this.#overrun ? Lsr.OE : 0;
    return overrun | (this.#empty ? Lsr.TEMT | Lsr.THRE : Lsr.DR);
  }

  #modemStatus(): number {
    const throttled = (this.#register(UartRegister.MCR) & Mcr.AFE) !== 0 && this.#count >= this.#fifoSize;
    // the two changes are reported by every read, they never clear
    return Msr.DSR | Msr.DDSR | Msr.DCD | (throttled ? 0 : Msr.CTS | Msr.DCTS);
  }
}
