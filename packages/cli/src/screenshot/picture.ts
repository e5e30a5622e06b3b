// Pixels as displays have them, and as pictures have them.

import { CommandError } from '../errors.js';

/** Red, green and blue, a byte each, row by row. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** What a display says of its pixels. */
export interface PixelLayout {
  readonly width: number;
  readonly height: number;
  /** Bytes from one row to the next. */
  readonly stride: number;
  /** A code of four characters. */
  readonly drmFormat: number;
}

/** Bits to the right of each colour in a pixel of 32. */
interface Shifts {
  readonly red: number;
  readonly green: number;
  readonly blue: number;
}

const blueFirst: Shifts = { red: 16, green: 8, blue: 0 };
const redFirst: Shifts = { red: 0, green: 8, blue: 16 };

/** Formats by their codes. Source: include/uapi/drm/drm_fourcc.h */
const formats: ReadonlyMap<string, Shifts> = new Map([
  ['XR24', blueFirst],
  ['AR24', blueFirst],
  ['XB24', redFirst],
  ['AB24', redFirst],
]);

const PIXEL_BYTES = 4;
const COLOURS = 3;

/** Bytes from the first pixel to the end of the last one. */
export function bytesOf({ width, height, stride }: PixelLayout): number {
  return height === 0 ? 0 : stride * (height - 1) + width * PIXEL_BYTES;
}

/**
 * Makes a picture.
 *
 * @param load - the 32 bits at an offset, the first byte lowest
 * @throws CommandError - pixels of a format that is not known here, or rows that are shorter than they should be
 */
export function pictureOf(layout: PixelLayout, load: (offset: number) => number): Picture {
  const { width, height, stride, drmFormat } = layout;
  const code = codeOf(drmFormat);
  const shifts = formats.get(code);
  if (!shifts) throw new CommandError(`pixels of format '${code}' can not be written as a picture`);
  if (stride < width * PIXEL_BYTES) throw new CommandError(`rows of ${stride} bytes do not hold ${width} pixels`);
  const { red, green, blue } = shifts;
  const data = new Uint8Array(width * height * COLOURS);
  let at = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const pixel = load(y * stride + x * PIXEL_BYTES);
      data[at++] = pixel >>> red;
      data[at++] = pixel >>> green;
      data[at++] = pixel >>> blue;
    }
  }
  return { width, height, data };
}

function codeOf(drmFormat: number): string {
  return Array.from({ length: 4 }, (_, i) => String.fromCharCode((drmFormat >>> (8 * i)) & 0xff)).join('');
}
