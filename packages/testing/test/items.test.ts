import type { ByteOrder } from '@vfio/host';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ScriptMistake } from '../src/script/errors.js';
import { buildItems } from '../src/script/items.js';
import { Names } from '../src/script/names.js';
import { getScalar, putScalar, scalarType, swapBytes } from '../src/script/scalar.js';

function scope(order: ByteOrder = 'little'): Names {
  const names = new Names(order);
  names.descriptors.set('c', 5);
  names.descriptors.set('gone', -1);
  names.areas.set('m', { address: 0x7f00_0000_1000n, length: 8192n });
  names.areas.set('failed', { address: 0n, length: 0n });
  names.blobs.set('img', Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7));
  names.variables.set('N', '3');
  return names;
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const build = (text: string, order: ByteOrder = 'little', room = 0) => buildItems(text.split(' '), scope(order), room);

describe('buildItems', () => {
  it.each([
    ['u8:1 u16:2 u32:3 u64:4', '01' + '0200' + '03000000' + '0400000000000000'],
    ['s8:-1 s32:-2', 'ff' + 'feffffff'],
    ['u8:0x1234 u16:-1', '34' + 'ffff'],
    ['le16:0x1234 be16:0x1234 be32:1 be64:2', '3412' + '1234' + '00000001' + '0000000000000002'],
    ['hex:00fFa0', '00ffa0'],
    ['hex:', ''],
    ['zero:N', '000000'],
    ['fill:0x155*4', '55555555'],
    ['str:ab strz:ab', '6162' + '616200'],
    ['str:a:b=c', '613a623d63'],
    ['blob:img', '0001020304050607'],
    ['blob:img:6', '0607'],
    ['blob:img:N:2', '0304'],
    ['blob:img:8', ''],
    ['fd:c fd:gone fd:never', '05000000ffffffffffffffff'],
    ['ptr:m ptr:m+0x10', '00100000007f0000' + '10100000007f0000'],
    ['ptr:failed+8 ptr:0x1000', '0800000000000000' + '0010000000000000'],
  ])('%s', (text, bytes) => {
    expect(hex(build(text).bytes)).toBe(bytes);
  });

  it('uses the byte order of the process, unless the type has one', () => {
    expect(hex(build('u32:1 fd:c ptr:m le32:1 be32:1', 'big').bytes)).toBe(
      '00000001' + '00000005' + '00007f0000001000' + '01000000' + '00000001',
    );
  });

  it('marks pointers and descriptors, but not the number of a descriptor that is none', () => {
    const { marks } = build('u32:1 fd:c fd:gone ptr:m');
    expect([...marks]).toEqual([
      ...[4, 5, 6, 7].map((offset) => [offset, 'n']),
      ...[12, 13, 14, 15, 16, 17, 18, 19].map((offset) => [offset, 'p']),
    ]);
  });

  it('keeps named numbers as fields, with their offsets', () => {
    const { fields } = build('argsz=u32:16 u32:0 iova=u64:0 v=s32:-1 ptr=ptr:m');
    expect(fields.map(({ name, offset, scalar }) => [name, offset, scalar.size])).toEqual([
      ['argsz', 0, 4],
      ['iova', 8, 8],
      ['v', 16, 4],
    ]);
  });

  it('fills up to the room that was asked for, and no further', () => {
    expect(hex(build('u8:1', 'little', 4).bytes)).toBe('01000000');
    expect(hex(build('u32:1', 'little', 2).bytes)).toBe('01000000');
  });

  it.each([
    ['u32', "byte item 'u32' lacks a type"],
    ['u128:1', "unknown item type 'u128'"],
    ['le24:1', "unknown item type 'le24'"],
    ['hex:123', "bad hex item '123'"],
    ['hex:0g', "bad hex item '0g'"],
    ['fill:1', 'fill needs BYTE*COUNT'],
    ['blob:nope', 'unknown blob nope'],
    ['blob:img:9', 'blob range outside img'],
    ['blob:img:4:5', 'blob range outside img'],
    ['zero:1<<40', 'an item of 1099511627776 bytes is too long'],
  ])('refuses %s', (text, message) => {
    expect(() => build(text)).toThrow(new ScriptMistake(message));
  });
});

describe('scalars', () => {
  const types = fc.constantFrom(
    'u8',
    's8',
    'u16',
    'u32',
    's32',
    'u64',
    's64',
    'le16',
    'le32',
    'le64',
    'be16',
    'be32',
    'be64',
  );
  const orders = fc.constantFrom<ByteOrder>('little', 'big');

  it('read back what was written, cut to their width', () => {
    fc.assert(
      fc.property(types, orders, fc.bigInt(0n, 2n ** 64n - 1n), (type, order, value) => {
        const scalar = scalarType(type)!;
        const bytes = new Uint8Array(16).fill(0xaa);
        putScalar(bytes, 4, scalar, value, order);
        expect(getScalar(bytes, 4, scalar, order)).toBe(BigInt.asUintN(8 * scalar.size, value));
        expect(bytes[3]).toBe(0xaa);
        expect(bytes[4 + scalar.size]).toBe(0xaa);
      }),
    );
  });

  it('are each other swapped when only the order differs', () => {
    fc.assert(
      fc.property(types, fc.bigInt(0n, 2n ** 64n - 1n), (type, value) => {
        const scalar = scalarType(type)!;
        const bytes = new Uint8Array(scalar.size);
        const own = { size: scalar.size, signed: false };
        putScalar(bytes, 0, own, value, 'little');
        expect(swapBytes(getScalar(bytes, 0, own, 'little'), scalar.size)).toBe(getScalar(bytes, 0, own, 'big'));
      }),
    );
  });
});

describe('Names', () => {
  it('takes the name of a descriptor for the number it is, and any other unknown name for -1', () => {
    const names = scope();
    expect(
      ['c', 'gone', 'never', '7', '-2', '0x10', '010', '+3', '', '7x', '99999999999999999999'].map((name) =>
        names.descriptor(name),
      ),
    ).toEqual([5, -1, -1, 7, -2, 16, 8, 3, -1, -1, -1]);
  });

  it('copies for a child, which then goes its own way', () => {
    const parent = scope();
    const child = new Names('little', parent);
    child.descriptors.set('c', 9);
    child.variables.set('N', '4');
    expect(parent.descriptor('c')).toBe(5);
    expect(parent.evaluate('N')).toBe(3n);
    expect(child.evaluate('N')).toBe(4n);
  });
});
