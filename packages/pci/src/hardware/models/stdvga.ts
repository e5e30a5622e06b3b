/*
 * A display as QEMU's standard VGA: a frame buffer, the registers of Bochs' display extension, and the old ports and memory.
 */
import type { PciWidth } from '../../bus/function.js';
import { type BarDevice, MemoryBar } from '../bar.js';
import type { LegacyDevice } from '../function.js';
import type { DeviceModel, ModelContext } from './model.js';

const LEGACY_START = 0xa0000;
const BANK_BYTES = 0x1_0000;
const PORTS_AT = 0x400;
const PORTS_BYTES = 0x20;
const FIRST_PORT = 0x3c0;
const DISPI_AT = 0x500;
const DISPI_REGISTERS = 11;
const EXTENSION_AT = 0x600;
/** Registers of the display extension by index. */
const Dispi = { ID: 0, BANK: 5, VIDEO_MEMORY_64K: 10 } as const;
const DISPI_ID5 = 0xb0c5;
const EXTENSION_BYTES = 8;
const BIG_ENDIAN = 0xbebe_bebe;
const LITTLE_ENDIAN = 0x1e1e_1e1e;
/** Ports with an index, and those with the data of the index. */
const indexed: Readonly<Record<number, number>> = { 965: 0x3c4, 975: 0x3ce, 981: 0x3d4, 949: 0x3b4 };
const ATTRIBUTE = 0x3c0;
const ATTRIBUTE_READ = 0x3c1;
const MISC_WRITE = 0x3c2;
const MISC_READ = 0x3cc;
const STATUS = [0x3da, 0x3ba] as const;

/** The device behind the BARs of a display. */
export function stdvga(context: ModelContext): DeviceModel {
  const memory = new MemoryBar(context.sizeOf(0));
  const dispi = new Uint16Array(DISPI_REGISTERS);
  const ports = new VgaPorts();
  let endian = LITTLE_ENDIAN;
  const reset = () => {
    dispi.fill(0);
    dispi[Dispi.ID] = DISPI_ID5;
    dispi[Dispi.VIDEO_MEMORY_64K] = memory.bytes.length / BANK_BYTES;
    ports.reset();
    endian = LITTLE_ENDIAN;
  };
  reset();
  const registers: BarDevice = {
    read: (offset, width) => {
      if (offset >= PORTS_AT && offset < PORTS_AT + PORTS_BYTES) return ports.read(FIRST_PORT + offset - PORTS_AT);
      if (offset >= DISPI_AT && offset < DISPI_AT + 2 * DISPI_REGISTERS) return dispi[(offset - DISPI_AT) >> 1] ?? 0;
      if (offset === EXTENSION_AT) return EXTENSION_BYTES;
      return offset === EXTENSION_AT + 4 ? endian : width === 4 ? 0xffff_ffff : 2 ** (8 * width) - 1;
    },
    write: (offset, _width, value) => {
      if (offset >= PORTS_AT && offset < PORTS_AT + PORTS_BYTES) ports.write(FIRST_PORT + offset - PORTS_AT, value);
      else if (offset >= DISPI_AT && offset < DISPI_AT + 2 * DISPI_REGISTERS) setDispi((offset - DISPI_AT) >> 1, value);
      else if (offset === EXTENSION_AT + 4 && (value === BIG_ENDIAN || value === LITTLE_ENDIAN)) endian = value;
    },
  };
  const setDispi = (index: number, value: number) => {
    if (index !== Dispi.ID && index !== Dispi.VIDEO_MEMORY_64K) dispi[index] = value;
  };
  const banked = (address: number) => ((address - LEGACY_START) % BANK_BYTES) + (dispi[Dispi.BANK] ?? 0) * BANK_BYTES;
  const legacy: LegacyDevice = {
    read: (space, address, width) => {
      if (space === 'memory') return memory.read(banked(address), width);
      return each(width, (byte) => ports.read(address + byte));
    },
    write: (space, address, width, value) => {
      if (space === 'memory') memory.write(banked(address), width, value);
      else for (let byte = 0; byte < width; byte++) ports.write(address + byte, (value >>> (8 * byte)) & 0xff);
    },
  };
  return { bars: { 0: memory, 2: registers }, legacy, reset };
}

/** Old ports: pairs of index and data, and some that stand alone. */
class VgaPorts {
  readonly #plain = new Map<number, number>();
  readonly #registers = new Map<number, number>();
  /** The attribute port takes index and data in turn. */
  #attributeData = false;

  reset(): void {
    this.#plain.clear();
    this.#registers.clear();
    this.#attributeData = false;
  }

  read(port: number): number {
    const index = indexed[port];
    if (index !== undefined) return this.#registers.get(this.#key(index)) ?? 0;
    if (port === ATTRIBUTE_READ) return this.#registers.get(this.#key(ATTRIBUTE)) ?? 0;
    if (port === MISC_READ) return this.#plain.get(MISC_WRITE) ?? 0;
    if (STATUS.some((status) => status === port)) {
      this.#attributeData = false;
      return 0;
    }
    return this.#plain.get(port) ?? 0;
  }

  write(port: number, value: number): void {
    const index = indexed[port];
    if (index !== undefined) this.#registers.set(this.#key(index), value & 0xff);
    else if (port === ATTRIBUTE && this.#attributeData) this.#registers.set(this.#key(ATTRIBUTE), value & 0xff);
    else this.#plain.set(port, value & 0xff);
    if (port === ATTRIBUTE) this.#attributeData = !this.#attributeData;
  }

  #key(port: number): number {
    return (port << 8) | (this.#plain.get(port) ?? 0);
  }
}

function each(width: PciWidth, read: (byte: number) => number): number {
  let value = 0;
  for (let byte = 0; byte < width; byte++) value |= read(byte) << (8 * byte);
  return value >>> 0;
}
