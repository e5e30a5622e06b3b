import { deflateSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { readPng } from '../src/png.js';

/** A PNG of the rows given, each with its filter in front; checksums are left out, as nobody reads them. */
function png({ width, rows, depth = 8, type = 2 }: { width: number; rows: number[][]; depth?: number; type?: number }) {
  const chunk = (name: string, data: Uint8Array) => {
    const head = Buffer.alloc(8);
    head.writeUInt32BE(data.length);
    head.write(name, 4, 'latin1');
    return Buffer.concat([head, data, Buffer.alloc(4)]);
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(rows.length, 4);
  header.set([depth, type, 0, 0, 0], 8);
  const data = deflateSync(Buffer.from(rows.flat()));
  const half = data.length >> 1;
  return Buffer.concat([
    Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'),
    chunk('IHDR', header),
    chunk('IDAT', data.subarray(0, half)),
    chunk('IDAT', data.subarray(half)),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

describe('readPng', () => {
  it('undoes every filter', () => {
    const rows = [
      [0, 10, 20, 30, 40, 50, 60],
      [1, 1, 2, 3, 4, 5, 6],
      [2, 1, 1, 1, 255, 255, 255],
      [3, 5, 5, 5, 5, 5, 5],
      [4, 1, 0, 0, 0, 0, 2],
    ];
    const picture = readPng(png({ width: 2, rows }));
    const points = [0, 1, 2, 3, 4].map((y) => [picture.at(0, y), picture.at(1, y)]);
    // by hand: left; above; half of left and above; whichever of left, above and corner is nearest to their plane
    expect(points).toEqual([
      [
        [10, 20, 30],
        [40, 50, 60],
      ],
      [
        [1, 2, 3],
        [5, 7, 9],
      ],
      [
        [2, 3, 4],
        [4, 6, 8],
      ],
      [
        [6, 6, 7],
        [10, 11, 12],
      ],
      [
        [7, 6, 7],
        [10, 11, 14],
      ],
    ]);
  });

  it('leaves alpha out', () => {
    const picture = readPng(png({ width: 1, rows: [[0, 1, 2, 3, 4]], type: 6 }));
    expect(picture.at(0, 0)).toEqual([1, 2, 3]);
  });

  it('refuses what it does not read', () => {
    expect(() => readPng(Buffer.from('P6 1 1 255'))).toThrow(TypeError);
    expect(() => readPng(png({ width: 1, rows: [[0, 0]], type: 3 }))).toThrow(TypeError);
    expect(() => readPng(png({ width: 1, rows: [[0, 0, 0, 0, 0, 0, 0]], depth: 16 }))).toThrow(TypeError);
    expect(() => readPng(png({ width: 1, rows: [[9, 0, 0, 0]] }))).toThrow(TypeError);
  });
});
