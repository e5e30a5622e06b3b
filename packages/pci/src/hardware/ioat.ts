/*
 * Intel's I/OAT: a DMA engine that copies memory, as Skylake's servers have it (version 3.3). The engine has one channel here.
 */
import type { PciWidth } from '../bus/function.js';
import { ExpType } from '../bus/regs.js';
import type { BarDevice } from './bar.js';
import { addExpress } from './capabilities/express.js';
import { addMsix } from './capabilities/msix.js';
import { addPowerManagement } from './capabilities/power-management.js';
import { addAer } from './capabilities/simple.js';
import { EmulatedFunction } from './function.js';
import { IoatChannel } from './ioat-channel.js';
import { IoatCap, IoatConfig, IoatIrq, IoatReg } from './ioat-registers.js';

/** What can be chosen about it. */
export interface IoatOptions {
  /** How many bytes a descriptor may move, as a power of two; 20 by default. */
  readonly transferBits?: number;
  readonly multifunction?: boolean;
}

const VERSION_3_3 = 0x33;
const TRANSFER_BITS = 20;
const BAR_BYTES = 0x4000;
const TABLE_AT = 0x2000;
const PBA_AT = 0x3000;
const COMMON_BYTES = IoatReg.CHANNEL_SIZE;
const CONFIG_ERRORS = 0xffff_ffff;

/** The function. */
export class Ioat extends EmulatedFunction {
  readonly channel: IoatChannel;
  #interruptControl = 0;
  #attention = 0;

  constructor({ transferBits = TRANSFER_BITS, multifunction = false }: IoatOptions = {}) {
    super({
      vendor: 0x8086,
      device: 0x2021,
      revision: 0x04,
      classCode: 0x08_8000,
      subsystemVendor: 0x8086,
      pin: 1,
      multifunction,
      extended: true,
    });
    this.channel = new IoatChannel({
      dma: this.dma,
      capacity: 2 ** transferBits,
      interrupt: () => this.#interrupt(),
      failed: (errors) => this.config.putBits(IoatConfig.CHANNEL_ERROR, 4, errors, errors),
    });
    const bar = this.addBar(0, { size: BAR_BYTES, space: 'memory', wide: true }, this.#common(transferBits));
    bar.overlay(COMMON_BYTES, IoatReg.CHANNEL_SIZE, this.channel);
    addExpress(this, { type: ExpType.RC_END, flr: true });
    addPowerManagement(this);
    addMsix(this, { vectors: 1, bar: 0, table: TABLE_AT, pba: PBA_AT });
    addAer(this);
    this.config.clearOnOne(IoatConfig.CHANNEL_ERROR, 4, CONFIG_ERRORS);
    this.config.allow(IoatConfig.CHANNEL_ERROR_MASK, 4, CONFIG_ERRORS);
    this.onReset(() => this.#resetDevice());
    this.onPowerOff(() => this.#resetDevice());
  }

  #resetDevice(): void {
    this.#interruptControl = 0;
    this.#attention = 0;
    this.channel.reset();
  }

  /** Registers that all channels have in common. Bytes are bytes whatever the width of the cycle. */
  #common(transferBits: number): BarDevice {
    const fixed = new Uint8Array(COMMON_BYTES);
    fixed[IoatReg.CHANNEL_COUNT] = 1;
    fixed[IoatReg.TRANSFER_CAPACITY] = transferBits;
    fixed[IoatReg.VERSION] = VERSION_3_3;
    new DataView(fixed.buffer).setUint32(IoatReg.CAPABILITIES, IoatCap.FILL | IoatCap.XOR, true);
    const byteAt = (offset: number) => {
      if (offset === IoatReg.INTERRUPT_CONTROL) return this.#readInterruptControl();
      return offset === IoatReg.ATTENTION ? this.#attention : (fixed[offset] ?? 0);
    };
    return {
      read: (offset, width: PciWidth) => {
        let value = 0;
        for (let byte = 0; byte < width; byte++) value |= byteAt(offset + byte) << (8 * byte);
        // The attention register forgets when it has been read.
        if (offset <= IoatReg.ATTENTION && offset + width > IoatReg.ATTENTION) this.#acknowledge();
        return value >>> 0;
      },
      write: (offset, width, value) => {
        const byte = IoatReg.INTERRUPT_CONTROL - offset;
        if (byte < 0 || byte >= width) return;
        this.#interruptControl = (value >>> (8 * byte)) & (IoatIrq.MASTER_ENABLE | IoatIrq.MSIX_VECTOR);
        this.#updatePin();
      },
    };
  }

  #readInterruptControl(): number {
    const status = this.#attention === 0 ? 0 : IoatIrq.STATUS;
    const enabled = (this.#interruptControl & IoatIrq.MASTER_ENABLE) !== 0;
    return this.#interruptControl | status | (status !== 0 && enabled ? IoatIrq.PENDING : 0);
  }

  #acknowledge(): void {
    this.#attention = 0;
    this.#updatePin();
  }

  #updatePin(): void {
    const enabled = (this.#interruptControl & IoatIrq.MASTER_ENABLE) !== 0;
    this.setIntx(enabled && this.#attention !== 0 && !this.msix?.enabled);
  }

  #interrupt(): void {
    this.#attention = 1;
    if (this.msix?.enabled && (this.#interruptControl & (IoatIrq.MSIX_VECTOR | IoatIrq.MASTER_ENABLE)) !== 0) {
      this.msix.fire(0);
    } else this.#updatePin();
  }
}
