/*
 * A channel of an I/OAT engine: it follows a chain of descriptors in memory, as many as it has been told, and says how far it is.
 */
import type { PciWidth } from '../bus/function.js';
import type { BarDevice } from './bar.js';
import type { FunctionDma } from './function-dma.js';
import {
  ChannelCommand,
  ChannelControl,
  ChannelError,
  ChannelReg,
  ChannelState,
  Descriptor,
  Operation,
} from './ioat-registers.js';
import { Later } from './later.js';

/** What a channel needs of its engine. */
export interface ChannelPort {
  readonly dma: FunctionDma;
  /** Bytes that one descriptor may move. */
  readonly capacity: number;
  /** The channel wants to interrupt. */
  interrupt(): void;
  /** It has stopped for these reasons. */
  failed(errors: number): void;
}

/** One step of a chain. */
interface Step {
  readonly length: number;
  readonly control: number;
  readonly operation: number;
  readonly source: bigint;
  readonly destination: bigint;
  readonly next: bigint;
  readonly bytes: DataView<ArrayBuffer>;
}

const REGISTER_BYTES = 0x80;
const ADDRESS_MASK = ~0x3fn;
const COUNT_MASK = 0xffff;
const COMPATIBLE = 0x0002;
const MAX_SOURCES = 5;
/** The extended form with more sources is not there. */
const LEAST_SOURCES = 2;
/** Bytes that are read and written at a time. */
const CHUNK = 0x1_0000;
const STATUS_BYTES = 8;

/** A channel, which is a piece of the engine's BAR. */
export class IoatChannel implements BarDevice {
  readonly #port: ChannelPort;
  readonly #later = new Later();
  readonly #view = new DataView(new ArrayBuffer(REGISTER_BYTES));
  #state: number = ChannelState.HALTED;
  /** Descriptors done since the last reset, in 16 bits as the register counts. */
  #done = 0;
  /** The descriptor that was done last. */
  #completed = 0n;
  /** Where the chain goes on. */
  #next: bigint | undefined;
  #running = false;

  constructor(port: ChannelPort) {
    this.#port = port;
    this.reset();
  }

  /** As at power on. What is under way is lost. */
  reset(): void {
    this.#later.cancel();
    new Uint8Array(this.#view.buffer).fill(0);
    this.#view.setUint16(ChannelReg.COMPATIBILITY, COMPATIBLE, true);
    this.#state = ChannelState.HALTED;
    this.#done = 0;
    this.#completed = 0n;
    this.#next = undefined;
    this.#running = false;
  }

  /** What it was told to do until now is done. */
  async settled(): Promise<void> {
    await this.#later.settled();
  }

  read(offset: number, width: PciWidth): number {
    if (offset >= ChannelReg.STATUS && offset < ChannelReg.STATUS + STATUS_BYTES) {
      const shifted = this.#status() >> BigInt(8 * (offset - ChannelReg.STATUS));
      return Number(BigInt.asUintN(8 * width, shifted));
    }
    const view = this.#view;
    if (width === 4) return view.getUint32(offset, true);
    return width === 2 ? view.getUint16(offset, true) : view.getUint8(offset);
  }

  read64(offset: number): bigint {
    return offset === ChannelReg.STATUS ? this.#status() : this.#view.getBigUint64(offset, true);
  }

  write(offset: number, width: PciWidth, value: number): void {
    for (let byte = 0; byte < width; byte++) {
      const at = offset + byte;
      const part = (value >>> (8 * byte)) & 0xff;
      if (at === ChannelReg.COMMAND) this.#command(part);
      else if (at >= ChannelReg.ERROR && at < ChannelReg.ERROR_MASK) {
        this.#view.setUint8(at, this.#view.getUint8(at) & ~part);
      } else if (isKept(at)) this.#view.setUint8(at, part);
    }
    if (offset + width > ChannelReg.CHAIN_ADDRESS && offset < ChannelReg.COMPLETION_ADDRESS) this.#next = undefined;
    if (offset <= ChannelReg.DMA_COUNT + 1 && offset + width > ChannelReg.DMA_COUNT) this.#counted();
  }

  write64(offset: number, value: bigint): void {
    this.write(offset, 4, Number(BigInt.asUintN(32, value)));
    this.write(offset + 4, 4, Number(BigInt.asUintN(32, value >> 32n)));
  }

  #status(): bigint {
    return (this.#completed & ADDRESS_MASK) | BigInt(this.#state);
  }

  get #count(): number {
    return this.#view.getUint16(ChannelReg.DMA_COUNT, true);
  }

  #command(command: number): void {
    if ((command & ChannelCommand.RESET) !== 0) {
      const errors = this.#view.getUint32(ChannelReg.ERROR, true);
      this.reset();
      // Who looks for the reason finds it after the reset, too.
      this.#view.setUint32(ChannelReg.ERROR, errors, true);
    } else if ((command & ChannelCommand.ABORT) !== 0) this.#halt(0);
    else if ((command & ChannelCommand.SUSPEND) !== 0) {
      if (this.#state !== ChannelState.HALTED) this.#state = ChannelState.SUSPENDED;
    } else if ((command & ChannelCommand.RESUME) !== 0 && this.#state === ChannelState.SUSPENDED) this.#start();
  }

  /** The count was written: there are more descriptors to do, or it begins again. */
  #counted(): void {
    const errors = this.#view.getUint32(ChannelReg.ERROR, true) & ~this.#view.getUint32(ChannelReg.ERROR_MASK, true);
    if (errors !== 0) return;
    // A chain that is named anew is counted from its beginning.
    if (this.#next === undefined) this.#done = 0;
    this.#start();
  }

  #start(): void {
    this.#state = ChannelState.ACTIVE;
    if (this.#running) return;
    this.#running = true;
    this.#later.run(async (ended) => {
      await this.#follow(ended);
      if (!ended()) this.#running = false;
    });
  }

  async #follow(ended: () => boolean): Promise<void> {
    this.#next ??= this.#view.getBigUint64(ChannelReg.CHAIN_ADDRESS, true);
    while (this.#state === ChannelState.ACTIVE && this.#done !== this.#count) {
      const at: bigint = this.#next;
      const [step, unreadable] = await this.#fetch(at);
      if (ended()) return;
      const errors = step ? await this.#perform(step) : unreadable;
      if (ended()) return;
      this.#view.setBigUint64(ChannelReg.DESCRIPTOR_ADDRESS, at, true);
      if (!step || errors !== 0) {
        this.#halt(errors);
        return;
      }
      this.#done = (this.#done + 1) & COUNT_MASK;
      this.#completed = at;
      this.#next = step.next;
      const last = this.#done === this.#count;
      if (last && this.#state === ChannelState.ACTIVE) this.#state = ChannelState.DONE;
      await this.#complete(step);
    }
    if (this.#state === ChannelState.ACTIVE) this.#state = ChannelState.DONE;
  }

  /** @returns the descriptor, or why there is none */
  async #fetch(at: bigint): Promise<readonly [Step | undefined, number]> {
    if ((at & 0x3fn) !== 0n) return [undefined, ChannelError.NEXT_ALIGNMENT];
    const bytes = new DataView(new ArrayBuffer(Descriptor.SIZE));
    if (!(await this.#port.dma.read(at, new Uint8Array(bytes.buffer)))) return [undefined, ChannelError.NEXT_ADDRESS];
    const control = bytes.getUint32(Descriptor.CONTROL, true);
    const step: Step = {
      length: bytes.getUint32(Descriptor.LENGTH, true),
      control,
      operation: control >>> Descriptor.OPERATION_SHIFT,
      source: bytes.getBigUint64(Descriptor.SOURCE, true),
      destination: bytes.getBigUint64(Descriptor.DESTINATION, true),
      next: bytes.getBigUint64(Descriptor.NEXT, true),
      bytes,
    };
    return [step, 0];
  }

  /** @returns what went wrong: `ChannelError`, 0 if nothing */
  async #perform(step: Step): Promise<number> {
    const { length, control, operation } = step;
    if (operation === Operation.COPY && (control & Descriptor.NULL) !== 0) return 0;
    if (length === 0 || length > this.#port.capacity) return ChannelError.LENGTH;
    for (let done = 0; done < length; done += CHUNK) {
      const bytes = new Uint8Array(Math.min(CHUNK, length - done));
      const errors = await this.#part(step, BigInt(done), bytes);
      if (errors !== 0) return errors;
    }
    return 0;
  }

  async #part(step: Step, offset: bigint, bytes: Uint8Array): Promise<number> {
    const { dma } = this.#port;
    switch (step.operation) {
      case Operation.COPY:
        if (!(await dma.read(step.source + offset, bytes))) return ChannelError.READ_DATA | ChannelError.SOURCE_ADDRESS;
        break;
      case Operation.FILL:
        fill(bytes, step.source);
        break;
      case Operation.XOR:
      case Operation.XOR_VALIDATE: {
        const errors = await this.#exclusiveOr(step, offset, bytes);
        if (errors !== 0) return errors;
        if (step.operation === Operation.XOR_VALIDATE) return bytes.every((byte) => byte === 0) ? 0 : ChannelError.XOR;
        break;
      }
      default:
        return ChannelError.CONTROL;
    }
    if (await dma.write(step.destination + offset, bytes)) return 0;
    return ChannelError.WRITE_DATA | ChannelError.DESTINATION_ADDRESS;
  }

  async #exclusiveOr({ control, source, bytes: descriptor }: Step, offset: bigint, into: Uint8Array): Promise<number> {
    const count = LEAST_SOURCES + ((control >>> Descriptor.SOURCES_SHIFT) & Descriptor.SOURCES_MASK);
    if (count > MAX_SOURCES) return ChannelError.CONTROL;
    const part = new Uint8Array(into.length);
    for (let index = 0; index < count; index++) {
      const field = Descriptor.MORE_SOURCES + 8 * (index - 1);
      const from = index === 0 ? source : descriptor.getBigUint64(field, true);
      if (!(await this.#port.dma.read(from + offset, part)))
        return ChannelError.READ_DATA | ChannelError.SOURCE_ADDRESS;
      for (let at = 0; at < into.length; at++) into[at] = (into[at] ?? 0) ^ (part[at] ?? 0);
    }
    return 0;
  }

  /** Tells memory, the processor, or nobody that a descriptor is done. */
  async #complete({ control }: Step): Promise<void> {
    if ((control & Descriptor.COMPLETION) !== 0 && !(await this.#writeStatus())) {
      this.#halt(ChannelError.COMPLETION_ADDRESS);
      return;
    }
    if ((control & Descriptor.INTERRUPT) !== 0) this.#interrupt();
  }

  async #writeStatus(): Promise<boolean> {
    const bytes = new Uint8Array(STATUS_BYTES);
    new DataView(bytes.buffer).setBigUint64(0, this.#status(), true);
    return await this.#port.dma.write(this.#view.getBigUint64(ChannelReg.COMPLETION_ADDRESS, true), bytes);
  }

  #halt(errors: number): void {
    this.#state = ChannelState.HALTED;
    if (errors === 0) return;
    this.#view.setUint32(ChannelReg.ERROR, (this.#view.getUint32(ChannelReg.ERROR, true) | errors) >>> 0, true);
    this.#port.failed(errors);
    const control = this.#view.getUint16(ChannelReg.CONTROL, true);
    if ((control & ChannelControl.ERROR_INTERRUPT) !== 0) this.#interrupt();
  }

  /** One interrupt, until the next is asked for. */
  #interrupt(): void {
    const control = this.#view.getUint16(ChannelReg.CONTROL, true);
    if ((control & ChannelControl.REARM) === 0) return;
    this.#view.setUint16(ChannelReg.CONTROL, control & ~ChannelControl.REARM, true);
    this.#port.interrupt();
  }
}

/** Registers that keep what is written. */
function isKept(at: number): boolean {
  if (at < ChannelReg.COMPATIBILITY) return true;
  if (at >= ChannelReg.DMA_COUNT && at < ChannelReg.STATUS) return true;
  const addresses = at >= ChannelReg.CHAIN_ADDRESS && at < ChannelReg.DESCRIPTOR_ADDRESS;
  return addresses || (at >= ChannelReg.ERROR_MASK && at < ChannelReg.ERROR_MASK + 4);
}

/** Eight bytes again and again. */
function fill(into: Uint8Array, pattern: bigint): void {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, pattern, true);
  for (let at = 0; at < into.length; at++) into[at] = bytes[at % 8] ?? 0;
}
