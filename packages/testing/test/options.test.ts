import { describe, expect, it } from 'vitest';
import { ScriptMistake } from '../src/script/errors.js';
import { evaluate } from '../src/script/expression.js';
import { takeOptions } from '../src/script/options.js';

const take = (text: string) => takeOptions(text.split(' '), (expression) => evaluate(expression, () => undefined));

describe('takeOptions', () => {
  it('takes the options out, wherever they stand', () => {
    const { words, options } = take('!quiet ioctl c !noret 1 { u32:1 } !fd=d');
    expect(words).toEqual(['ioctl', 'c', '1', '{', 'u32:1', '}']);
    expect(options).toMatchObject({ quiet: true, noret: true, fd: 'd', crc: false, badptr: false, out: false });
  });

  it('leaves a lone exclamation mark alone', () => {
    expect(take('note ! a!b').words).toEqual(['note', '!', 'a!b']);
  });

  it('reads offsets and types', () => {
    const { options } = take(
      'x !mask=12:4 !mask=PAGE-1:1 !fdat=m@12 !save=V:u32@8 !show=w:be64@4*2 !room=0x100 !blob=b !text=t !base=G',
    );
    expect(options.masks).toEqual([
      { offset: 12, length: 4 },
      { offset: 4095, length: 1 },
    ]);
    expect(options.descriptors).toEqual([{ name: 'm', offset: 12 }]);
    expect(options.saves).toEqual([{ name: 'V', offset: 8, scalar: { size: 4, signed: false } }]);
    expect(options.shows).toEqual([{ name: 'w', offset: 8, scalar: { size: 8, signed: false, order: 'big' } }]);
    expect(options).toMatchObject({ room: 256, blob: 'b', text: 't', base: 'G' });
  });

  it.each([
    ['!quite', 'unknown option !quite'],
    ['!quiet=1', 'unknown option !quiet=1'],
    ['!fd', 'unknown option !fd'],
    ['!mask=4', '!mask needs OFFSET:LENGTH'],
    ['!fdat=m', '!fdat needs NAME@OFFSET'],
    ['!save=V@4', "expected NAME:TYPE@OFFSET, got 'V@4'"],
    ['!save=V:u32', "expected NAME:TYPE@OFFSET, got 'V:u32'"],
    ['!show=V:u33@0', "bad type in 'V:u33@0'"],
    ['!room=1<<40', '!room: 1099511627776 is too large'],
  ])('refuses %s', (text, message) => {
    expect(() => take(text)).toThrow(new ScriptMistake(message));
  });
});
