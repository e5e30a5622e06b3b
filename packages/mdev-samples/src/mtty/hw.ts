/**
 * The hardware as the mtty driver sees it: a serial port with eight registers that raises an interrupt now and then, and
 * whose whole state can be taken out and put back. `../hardware/uart-16550.ts` is the port that the sample driver has in
 * the kernel; anything else with these four methods can stand behind the same PCI function.
 */

/** Everything that a port remembers; what one port gives, another takes. */
export interface SerialPortState {
  /** Registers as they were last written, 8 bytes, by offset. */
  readonly registers: Uint8Array;
  /** The ring behind transmit and receive register, 16 bytes. */
  readonly ring: Uint8Array;
  /** Next place to fill, 0 to 15. */
  readonly head: number;
  /** Next place to empty, 0 to 15. */
  readonly tail: number;
  /** Bytes accepted and not yet read, 0 to 255. */
  readonly count: number;
  /** Offsets 0 and 1 reach the divisor instead of data and interrupt enable. */
  readonly divisorLatch: boolean;
  /** A byte was refused since the last one that was accepted. */
  readonly overrun: boolean;
  /** 16 bits. */
  readonly divisor: number;
  /** FIFO control as last written, 8 bits. */
  readonly fifoControl: number;
  /** Bytes that the ring accepts before it overruns, 1 or 16. */
  readonly fifoSize: number;
  /** Bytes at which received data interrupts; 0 before the FIFO control register was written. */
  readonly triggerLevel: number;
}

/** A serial port behind an I/O BAR of eight bytes. */
export interface SerialPort {
  /**
   * Reads a register, with whatever that sets off.
   *
   * @param offset - of the register, 0 to 0xffff; there is nothing from 8 on
   * @returns the byte read, 0 where there is no register
   */
  read(offset: number): number;
  /**
   * Writes a register.
   *
   * @param offset - of the register, 0 to 0xffff; writes from 8 on are lost
   * @param value - one byte
   */
  write(offset: number, value: number): void;
  /** A copy of the state; later accesses do not change it. */
  save(): SerialPortState;
  /** Takes over a state that was saved here or elsewhere, without raising an interrupt. */
  load(state: SerialPortState): void;
}

/**
 * Makes a port that is in the state it has after power on.
 *
 * @param interrupt - called for each cause the port raises, from inside an access; must return at once
 */
export type SerialPortFactory = (interrupt: () => void) => SerialPort;
