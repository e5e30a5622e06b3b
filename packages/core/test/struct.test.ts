import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  alias,
  bytes,
  type Field,
  type Fields,
  type InitOf,
  nested,
  pad,
  type Struct,
  s32,
  struct,
  tail,
  u8,
  u16,
  u32,
  u64,
} from '../src/uapi/struct.js';
import { irqSet, pciDependentDevice, regionInfo, regionInfoCapType } from '../src/uapi/vfio.js';
import { allStructs } from './support/uapi.js';

const order = fc.constantFrom('little' as const, 'big' as const);

function isNested(field: Field): field is Field & { struct: Struct<Fields> } {
  return 'struct' in field;
}

/** A value for every field of a struct; aliases follow the field that they share bytes with. */
function valuesOf(layout: Struct<Fields>): fc.Arbitrary<InitOf<Fields>> {
  const fields: Record<string, fc.Arbitrary<unknown>> = {};
  for (const [name, field] of Object.entries(layout.fields)) {
    if (field.isAlias || field.kind === 'pad' || field.kind === 'tail') continue;
    if (isNested(field)) fields[name] = valuesOf(field.struct);
    else if (field.kind === 'u64') fields[name] = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
    else if (field.kind === 's32') fields[name] = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
    else if (field.kind === 'bytes') {
      fields[name] = fc.uint8Array({ minLength: field.size, maxLength: field.size });
    } else fields[name] = fc.integer({ min: 0, max: 2 ** (8 * field.size) - 1 });
  }
  return fc.record(fields).map((value) => {
    for (const [name, field] of Object.entries(layout.fields)) {
      if (!field.isAlias) continue;
      const primary = Object.entries(layout.fields).find(([, f]) => !f.isAlias && f.offset === field.offset);
      value[name] = value[primary![0]];
    }
    return value as InitOf<Fields>;
  });
}

describe('struct', () => {
  it('CORE-117 is whole for every struct of the uAPI: no overlap, no hole without a name, the stated size', () => {
    expect(allStructs.length).toBeGreaterThan(80);
    for (const [, layout] of allStructs) {
      const covered = new Set<number>();
      let total = 0;
      for (const { offset, size, isAlias } of Object.values(layout.fields)) {
        for (let at = offset; at < offset + size; at++) covered.add(at);
        if (!isAlias) total += size;
      }
      expect(covered.size, layout.name).toBe(layout.size);
      expect(total, layout.name).toBe(layout.size);
    }
  });

  it('refuses fields that overlap', () => {
    expect(() => struct('s', 8, { a: u32(0), b: u32(2), c: u16(6) })).toThrow('s.b overlaps a at 2');
  });

  it('refuses a hole without a name, at the end too', () => {
    expect(() => struct('s', 8, { a: u16(0), b: u32(4) })).toThrow('s has an unnamed hole at 2');
    expect(() => struct('s', 8, { a: u32(0) })).toThrow('s has an unnamed hole at 4');
    expect(() => struct('s', 8, { a: u16(0), gap: pad(2, 2), b: u32(4) })).not.toThrow();
  });

  it('refuses a field past the stated size', () => {
    expect(() => struct('s', 4, { a: u64(0) })).toThrow('s.a ends at 8, the struct at 4');
    expect(() => struct('s', 8, { a: u32(0), rest: tail(4), b: u32(4) })).toThrow('s.rest begins at 4');
  });

  it('refuses an alias of nothing', () => {
    expect(() => struct('s', 8, { a: u32(0), b: alias(u32(4)), c: u32(4) })).toThrow('s.b is an alias of nothing');
  });

  it('refuses a name that it has not, as offset', () => {
    expect(() => regionInfo.offsetOf('toString' as never)).toThrow(RangeError);
  });

  it('knows offsets and ends', () => {
    expect(regionInfo.offsetOf('size')).toBe(16);
    expect(regionInfo.endOf('capOffset')).toBe(16);
    expect(irqSet.offsetOf('data')).toBe(20);
    expect(irqSet.endOf('data')).toBe(20);
  });
});

describe('decode and encode', () => {
  const all = struct('all', 32, {
    a: u8(0),
    gap: pad(1, 1),
    b: u16(2),
    c: u32(4),
    d: s32(8),
    e: bytes(12, 4),
    f: u64(16),
    g: nested(24, struct('inner', 8, { x: u32(0), y: u32(4) })),
    rest: tail(32),
  });
  const value = {
    a: 0x01,
    b: 0x0203,
    c: 0x8405_0607,
    d: -2,
    e: Uint8Array.of(9, 8, 7, 6),
    f: 0xfedc_ba98_7654_3210n,
    g: { x: 1, y: 2 },
  };

  it('places little-endian bytes', () => {
    expect(Buffer.from(all.encode(value, 'little')).toString('hex')).toBe(
      '010003020706058' + '4feffffff' + '09080706' + '1032547698badcfe' + '0100000002000000',
    );
  });

  it('places big-endian bytes', () => {
    expect(Buffer.from(all.encode(value, 'big')).toString('hex')).toBe(
      '0100020384050607' + 'fffffffe' + '09080706' + 'fedcba9876543210' + '0000000100000002',
    );
  });

  it('reads back what was written, for every struct of the uAPI in both byte orders', () => {
    for (const [, layout] of allStructs) {
      fc.assert(
        fc.property(valuesOf(layout), order, (given, byteOrder) => {
          const encoded = layout.encode(given, byteOrder);
          expect(encoded.length).toBe(layout.size);
          expect(layout.decode(encoded, byteOrder)).toEqual(given);
        }),
        { numRuns: 20 },
      );
    }
  });

  it('reads the fields of a short array as zero, also the one that is cut', () => {
    const short = all.encode(value, 'little').subarray(0, 10);
    expect(all.decode(short, 'little')).toEqual({
      ...value,
      d: 0xfffe,
      e: new Uint8Array(4),
      f: 0n,
      g: { x: 0, y: 0 },
    });
    expect(all.decode(new Uint8Array(0), 'big').c).toBe(0);
  });

  it('decodes at the start of a view into a larger buffer and copies byte fields', () => {
    const memory = new Uint8Array(64);
    memory.set(all.encode(value, 'little'), 16);
    const decoded = all.decode(memory.subarray(16), 'little');
    expect(decoded).toEqual(value);
    memory.fill(0);
    expect(decoded.e).toEqual(Uint8Array.of(9, 8, 7, 6));
  });

  it('writes zero for fields that are left out', () => {
    expect(all.decode(all.encode({ c: 5, g: { y: 3 } }, 'big'), 'big')).toEqual({
      a: 0,
      b: 0,
      c: 5,
      d: 0,
      e: new Uint8Array(4),
      f: 0n,
      g: { x: 0, y: 3 },
    });
  });

  it('write cuts at the end of a short array', () => {
    const memory = new Uint8Array(16).fill(0xee);
    all.write(memory.subarray(0, 6), value, 'little');
    expect([...memory]).toEqual([1, 0, 3, 2, 7, 6, ...new Array(10).fill(0xee)]);
  });

  it('write clears padding and leaves what follows the struct', () => {
    const memory = new Uint8Array(40).fill(0xee);
    all.write(memory, { a: 1 }, 'little');
    expect([...memory]).toEqual([1, ...new Array(31).fill(0), ...new Array(8).fill(0xee)]);
  });

  it('an alias reads the same bytes, and writes them when it stands alone', () => {
    const encoded = pciDependentDevice.encode({ devid: 0xffff_ffff, bus: 1 }, 'little');
    expect(pciDependentDevice.decode(encoded, 'little')).toMatchObject({
      groupId: 0xffff_ffff,
      devid: 0xffff_ffff,
      bus: 1,
    });
    expect(() => pciDependentDevice.encode({ groupId: 1, devid: 2 }, 'little')).toThrow('share their bytes');
  });

  it('refuses a value of another kind, and bytes that do not fit', () => {
    expect(() => regionInfo.encode({ size: 4 as never }, 'little')).toThrow(TypeError);
    expect(() => regionInfo.encode({ index: 4n as never }, 'little')).toThrow(TypeError);
    expect(() => regionInfo.encode({ index: 'x' as never }, 'little')).toThrow(TypeError);
    expect(() => all.encode({ e: new Uint8Array(5) }, 'little')).toThrow(RangeError);
    expect(() => all.encode({ e: {} as never }, 'little')).toThrow(TypeError);
  });

  it('reads and writes arrays of structs', () => {
    const caps = [
      { header: { id: 2, version: 1, next: 0 }, type: 1, subtype: 1 },
      { header: { id: 2, version: 1, next: 7 }, type: 2, subtype: 3 },
    ];
    const encoded = regionInfoCapType.encodeArray(caps, 'big');
    expect(encoded.length).toBe(32);
    expect(regionInfoCapType.decodeArray(encoded, 'big')).toEqual(caps);
    expect(regionInfoCapType.decodeArray(encoded, 'big', 16)).toEqual(caps.slice(1));
    expect(regionInfoCapType.decodeArray(encoded.subarray(0, 31), 'big')).toEqual(caps.slice(0, 1));
    expect(() => regionInfoCapType.decodeArray(encoded, 'big', 16, 2)).toThrow(RangeError);
  });
});
