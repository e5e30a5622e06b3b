/**
 * Reads the pictures that screens are saved as: PNG, 8 bits for each of red, green, blue and perhaps alpha, not
 * interlaced. Other kinds of PNG are refused.
 */

import { inflateSync } from 'node:zlib';

/** A picture in memory. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  /** Red, green and blue of a point. */
  at(x: number, y: number): readonly [number, number, number];
}

const signature = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');

/** Bytes of a pixel, by the file's colour type. */
const pixelBytes: Readonly<Record<number, number>> = { 2: 3, 6: 4 };

/**
 * Reads a file.
 *
 * @param file - its bytes
 * @throws TypeError - it is no PNG, or one of another kind
 */
export function readPng(file: Buffer): Picture {
  if (!file.subarray(0, signature.length).equals(signature)) throw new TypeError('this is no PNG');
  const head = file.subarray(signature.length + 8);
  const [width, height] = [head.readUInt32BE(0), head.readUInt32BE(4)];
  const bytes = pixelBytes[head.readUInt8(9)];
  if (head.readUInt8(8) !== 8 || head.readUInt8(12) !== 0 || bytes === undefined) {
    throw new TypeError('this PNG is not of 8-bit red, green and blue, row by row');
  }
  const data: Buffer[] = [];
  for (let at = signature.length; at + 12 <= file.length; at += 12 + file.readUInt32BE(at)) {
    const start = at + 8;
    if (file.toString('latin1', at + 4, start) === 'IDAT')
      data.push(file.subarray(start, start + file.readUInt32BE(at)));
  }
  const pixels = unfilter(inflateSync(Buffer.concat(data)), width * bytes, height, bytes);
  return {
    width,
    height,
    at(x, y) {
      const start = (y * width + x) * bytes;
      return [pixels[start] ?? 0, pixels[start + 1] ?? 0, pixels[start + 2] ?? 0];
    },
  };
}

/** Undoes what each row says was done to it: differences to the pixel before, to the row above, or to both. */
function unfilter(rows: Buffer, rowBytes: number, height: number, bytes: number): Uint8Array {
  const out = new Uint8Array(rowBytes * height);
  for (let y = 0; y < height; y++) {
    const from = y * (rowBytes + 1);
    const to = y * rowBytes;
    const filter = rows[from] ?? 0;
    for (let x = 0; x < rowBytes; x++) {
      const left = x < bytes ? 0 : (out[to + x - bytes] ?? 0);
      const up = y === 0 ? 0 : (out[to + x - rowBytes] ?? 0);
      const corner = x < bytes || y === 0 ? 0 : (out[to + x - rowBytes - bytes] ?? 0);
      out[to + x] = (rows[from + 1 + x] ?? 0) + predicted(filter, left, up, corner);
    }
  }
  return out;
}

function predicted(filter: number, left: number, up: number, corner: number): number {
  switch (filter) {
    case 0:
      return 0;
    case 1:
      return left;
    case 2:
      return up;
    case 3:
      return (left + up) >> 1;
    case 4: {
      const guess = left + up - corner;
      const distances = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)] as const;
      if (distances[0] <= distances[1] && distances[0] <= distances[2]) return left;
      return distances[1] <= distances[2] ? up : corner;
    }
    default:
      throw new TypeError(`a row of this PNG has the filter ${filter}`);
  }
}
