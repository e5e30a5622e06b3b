import { describe, expect, it } from 'vitest';
import { cString, kstrtobool, kstrtoint, kstrtoll, kstrtouint, kstrtoull, sysfsStreq } from '../src/index.js';
import { errno } from './machine.js';

describe('text that was written to sysfs', () => {
  it('ends at the first NUL', () => {
    expect(['', 'a', 'a\0b', '\0b'].map(cString)).toEqual(['', 'a', 'a', '']);
  });

  it('equals a name with or without a newline', () => {
    const equal = (a: string, b: string) => sysfsStreq(a, b);
    expect([equal('a', 'a'), equal('a', 'a\n'), equal('a\n', 'a'), equal('a', 'a\0b')]).toEqual([
      true,
      true,
      true,
      true,
    ]);
    expect([equal('a', 'a\n\n'), equal('a', ' a'), equal('a', 'A'), equal('a', 'ab'), equal('', 'a')]).toEqual([
      false,
      false,
      false,
      false,
      false,
    ]);
  });
});

describe('kstrtobool', () => {
  it.each(['y', 'Y', '1', 't', 'T', 'e', 'E', 'on', 'ON', 'oN', 'yes\n', '1\n', 'enabled', 'true', '10'])(
    'takes %j as yes',
    (text) => {
      expect(kstrtobool(text)).toBe(true);
    },
  );

  it.each(['n', 'N', '0', 'f', 'F', 'd', 'D', 'of', 'OFF', 'oF', 'no\n', '01', 'false', 'disabled'])(
    'takes %j as no',
    (text) => {
      expect(kstrtobool(text)).toBe(false);
    },
  );

  it.each(['', '\n', ' y', 'maybe', '2', '-1', 'o', 'ox', '\0y'])('refuses %j', (text) => {
    expect(() => kstrtobool(text)).toThrow(errno('EINVAL'));
  });
});

describe('kstrtoull and its kin', () => {
  it.each<[string, bigint]>([
    ['0', 0n],
    ['10\n', 10n],
    ['+10', 10n],
    ['0x1F', 31n],
    ['0X1f\n', 31n],
    ['017', 15n],
    ['00', 0n],
    ['18446744073709551615', 2n ** 64n - 1n],
    ['5\0x', 5n],
  ])('reads %j', (text, value) => {
    expect(kstrtoull(text)).toBe(value);
  });

  it.each(['', '\n', '+', '-1', ' 1', '1 ', '1\n\n', '1x', '0x', '0xg', '08', '+-1', '++1', 'x'])(
    'refuses %j',
    (text) => {
      expect(() => kstrtoull(text)).toThrow(errno('EINVAL'));
    },
  );

  it('reads in the base that is asked for', () => {
    expect([kstrtoull('10', 16), kstrtoull('0x10', 16), kstrtoull('010', 10), kstrtoull('10', 8)]).toEqual([
      16n,
      16n,
      10n,
      8n,
    ]);
    expect(() => kstrtoull('0x10', 10)).toThrow(errno('EINVAL'));
    expect(() => kstrtoull('8', 8)).toThrow(errno('EINVAL'));
  });

  it('finds out of range what is too large, also when something follows', () => {
    for (const text of ['18446744073709551616', '0x10000000000000000', '18446744073709551616x']) {
      expect(() => kstrtoull(text)).toThrow(errno('ERANGE'));
    }
  });

  it('knows the limits of signed and of smaller numbers', () => {
    expect([kstrtoll('-9223372036854775808'), kstrtoll('9223372036854775807')]).toEqual([-(2n ** 63n), 2n ** 63n - 1n]);
    expect([kstrtoint('-2147483648'), kstrtoint('2147483647'), kstrtoint('-0x10')]).toEqual([
      -(2 ** 31),
      2 ** 31 - 1,
      -16,
    ]);
    expect(kstrtouint('4294967295')).toBe(2 ** 32 - 1);
    for (const tooFar of [
      () => kstrtoll('9223372036854775808'),
      () => kstrtoll('-9223372036854775809'),
      () => kstrtoint('2147483648'),
      () => kstrtoint('-2147483649'),
      () => kstrtouint('4294967296'),
    ]) {
      expect(tooFar).toThrow(errno('ERANGE'));
    }
    for (const wrong of [() => kstrtouint('-1'), () => kstrtoint('--1'), () => kstrtoint('-')]) {
      expect(wrong).toThrow(errno('EINVAL'));
    }
  });
});
