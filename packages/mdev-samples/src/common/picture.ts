/** A picture for the trial of a display: stripes that differ from row to row and from one display to the next. */
import type { ExerciseMapping } from '@vfio/core';

/** Where a picture is in a mapping. */
export interface Frame {
  /** Bytes from the start of the mapping to the first pixel. */
  readonly offset: number;
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
  /** Bytes from one row to the next. */
  readonly stride: number;
}

/** A pixel of every so many columns is drawn, and the last one. */
const COLUMN_STEP = 16;

/** Draws stripes. */
export function paint(mapping: ExerciseMapping, frame: Frame, seed: number): void {
  for (const [offset, pixel] of stripes(frame, seed)) mapping.store(offset, 4, BigInt(pixel));
}

/**
 * Looks at what was drawn.
 *
 * @returns how many pixels were compared
 * @throws Error - a pixel is another one
 */
export function compare(mapping: ExerciseMapping, frame: Frame, seed: number): number {
  let count = 0;
  for (const [offset, pixel] of stripes(frame, seed)) {
    const found = Number(mapping.load(offset, 4));
    if (found !== pixel) throw new Error(`pixel 0x${pixel.toString(16)} reads 0x${found.toString(16)} at ${offset}`);
    count++;
  }
  return count;
}

function* stripes({ offset, width, height, stride }: Frame, seed: number): Generator<[offset: number, pixel: number]> {
  const row = (y: number, x: number): [number, number] => [
    offset + y * stride + 4 * x,
    ((seed << 24) | (y << 12) | x) >>> 0,
  ];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width - 1; x += COLUMN_STEP) yield row(y, x);
    yield row(y, width - 1);
  }
}
