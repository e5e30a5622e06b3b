/**
 * The display interface of Bochs: eleven registers of 16 bits that say which part of video memory is shown, and how. They
 * are memory: each takes every value, and what they mean together is found out when somebody asks for the picture.
 */
import { BYTES_PER_PIXEL } from '../common/gfx-plane.js';

/** Numbers of the registers. Source: samples/vfio-mdev/mbochs.c VBE_DISPI_INDEX_* */
export const DispiRegister = {
  ID: 0,
  XRES: 1,
  YRES: 2,
  BPP: 3,
  ENABLE: 4,
  BANK: 5,
  VIRT_WIDTH: 6,
  VIRT_HEIGHT: 7,
  X_OFFSET: 8,
  Y_OFFSET: 9,
  VIDEO_MEMORY_64K: 10,
} as const;

/** How many there are. */
export const DISPI_REGISTERS = 11;

/** Bits of ENABLE. Source: samples/vfio-mdev/mbochs.c VBE_DISPI_ENABLED, VBE_DISPI_LFB_ENABLED */
export const DispiEnable = { ENABLED: 0x01, LFB_ENABLED: 0x40 } as const;

/** Version 5 of the interface. */
const DISPI_ID = 0xb0c5;
/** The one depth that can be shown, in bits per pixel. */
const BPP = 32;
/** Narrower or lower pictures are none. */
const MIN_SIDE = 64;
const MEMORY_UNIT = 0x1_0000;

/** A picture in video memory. */
export interface DisplayMode {
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
  /** Bytes from one row to the next. */
  readonly stride: number;
  /** Bytes from the start of video memory to the first pixel. */
  readonly offset: number;
  /** Bytes of all rows. */
  readonly size: number;
}

/** Whether two modes show the same bytes in the same way. Source: samples/vfio-mdev/mbochs.c mbochs_modes_equal() */
export function modesEqual(a: DisplayMode, b: DisplayMode): boolean {
  return (
    a.width === b.width && a.height === b.height && a.stride === b.stride && a.offset === b.offset && a.size === b.size
  );
}

/** The registers. */
export class Dispi {
  readonly #registers = new Uint16Array(DISPI_REGISTERS);
  readonly #memorySize: number;

  /** @param memorySize - bytes of video memory */
  constructor(memorySize: number) {
    this.#memorySize = memorySize;
    this.reset();
  }

  read(register: number): number {
    return this.#registers[register] ?? 0;
  }

  /** Stores 16 bits, also over what identifies the interface. */
  write(register: number, value: number): void {
    this.#registers[register] = value;
  }

  /** Switches the display off. Source: samples/vfio-mdev/mbochs.c mbochs_reset() */
  reset(): void {
    this.#registers.fill(0);
    this.write(DispiRegister.ID, DISPI_ID);
    this.write(DispiRegister.VIDEO_MEMORY_64K, this.#memorySize / MEMORY_UNIT);
  }

  /**
   * What is shown; undefined while the display is off, or the registers describe nothing that could be shown.
   *
   * @source samples/vfio-mdev/mbochs.c mbochs_check_framebuffer()
   */
  mode(): DisplayMode | undefined {
    const { XRES, YRES, VIRT_WIDTH, X_OFFSET, Y_OFFSET } = DispiRegister;
    if ((this.read(DispiRegister.ENABLE) & DispiEnable.ENABLED) === 0) return undefined;
    if (this.read(DispiRegister.BPP) !== BPP) return undefined;
    const width = this.read(XRES);
    const height = this.read(YRES);
    if (width < MIN_SIDE || height < MIN_SIDE) return undefined;
    const stride = Math.max(this.read(VIRT_WIDTH), width) * BYTES_PER_PIXEL;
    const size = stride * height;
    const offset = this.read(X_OFFSET) * BYTES_PER_PIXEL + this.read(Y_OFFSET) * stride;
    if (offset + size > this.#memorySize) return undefined;
    return { width, height, stride, offset, size };
  }
}
