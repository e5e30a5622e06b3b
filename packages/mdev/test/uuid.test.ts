import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { guidFormat, guidParse } from '../src/uuid.js';

const invalid = expect.objectContaining({ code: 'EINVAL' });

describe('guidParse', () => {
  it('stores the first three fields with the low byte first, as a guid_t', () => {
    const guid = guidParse('00112233-4455-6677-8899-aabbccddeeff');
    expect(Buffer.from(guid).toString('hex')).toBe('33221100554477668899aabbccddeeff');
  });

  it('takes digits of either case and is written in lower case', () => {
    expect(guidFormat(guidParse('83B8F4F2-509f-382F-3c1e-E6BFE0FA1001'))).toBe('83b8f4f2-509f-382f-3c1e-e6bfe0fa1001');
  });

  it('does not look at what follows', () => {
    expect(guidParse('00112233-4455-6677-8899-aabbccddeeff\n')).toEqual(
      guidParse('00112233-4455-6677-8899-aabbccddeeff'),
    );
  });

  it.each([
    ['an empty text', ''],
    ['one digit short', '00112233-4455-6677-8899-aabbccddeef'],
    ['no dashes', '00112233445566778899aabbccddeeff0000'],
    ['a dash moved by one', '0011223-34455-6677-8899-aabbccddeeff'],
    ['other dashes', '00112233_4455_6677_8899_aabbccddeeff'],
    ['a digit that is none', '00112233-4455-6677-8899-aabbccddeefg'],
    ['a blank before it', ' 00112233-4455-6677-8899-aabbccddeef'],
    ['a NUL in it', '00112233-4455-6677-8899-aabbccdd\0eff'],
  ])('refuses %s', (_, text) => {
    expect(() => guidParse(text)).toThrow(invalid);
  });

  it('reads what guidFormat wrote', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (guid) => {
        expect(guidParse(guidFormat(guid))).toEqual(guid);
      }),
    );
  });
});
