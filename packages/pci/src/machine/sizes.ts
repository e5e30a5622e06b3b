/*
 * Sizes in a machine file.
 */
import type { JsonSchema } from '@vfio/core';

/** Bytes as a number, or as `64K`, `16M`, `2G`. */
export type ByteSize = number | string;

const UNITS = ['', 'K', 'M', 'G', 'T'];
const STEP = 1024;
const PATTERN = '^[1-9][0-9]*[KMGT]?$';

/** What a schema says of them. */
export const byteSizeSchema: JsonSchema = {
  title: "a power of two in bytes, or such as '64K' or '16M'",
  type: ['integer', 'string'],
  minimum: 1,
  pattern: PATTERN,
};

/**
 * Bytes of a size.
 *
 * @returns undefined if that is no power of two
 */
export function bytesOfSize(size: ByteSize): number | undefined {
  const text = String(size);
  const unit = UNITS.indexOf(text.replace(/^[0-9]+/, ''));
  const bytes = Number.parseInt(text, 10) * STEP ** Math.max(unit, 0);
  return Number.isInteger(Math.log2(bytes)) ? bytes : undefined;
}

/** A size as people write it. */
export function sizeText(bytes: number): ByteSize {
  let unit = 0;
  let count = bytes;
  while (count >= STEP && count % STEP === 0 && unit + 1 < UNITS.length) {
    count /= STEP;
    unit++;
  }
  return unit === 0 ? bytes : `${count}${UNITS[unit]}`;
}
