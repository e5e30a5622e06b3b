import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LineSplitter, LineTooLongError } from '../src/control/lines.js';

describe('LineSplitter', () => {
  it('gives the same lines however the bytes are cut', () => {
    const line = fc.string({ unit: 'binary' }).filter((text) => !text.includes('\n'));
    fc.assert(
      fc.property(fc.array(line), fc.array(fc.nat()), (lines, cuts) => {
        const bytes = Buffer.from(lines.map((one) => `${one}\n`).join(''));
        const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
        const splitter = new LineSplitter(1 << 16);
        const found = places.slice(1).flatMap((end, i) => splitter.push(bytes.subarray(places[i], end)));
        expect(found).toEqual(lines.map((one) => Buffer.from(one).toString()));
      }),
    );
  });

  it('takes a line of the longest length and none beyond', () => {
    const splitter = new LineSplitter(4);
    expect(splitter.push(Buffer.from('abcd\nef'))).toEqual(['abcd']);
    expect(splitter.push(Buffer.from('gh'))).toEqual([]);
    expect(() => splitter.push(Buffer.from('i'))).toThrow(LineTooLongError);
  });
});
