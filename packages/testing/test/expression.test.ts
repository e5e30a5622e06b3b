import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { constant } from '../src/script/constants.js';
import { ScriptMistake } from '../src/script/errors.js';
import { evaluate, readNumber } from '../src/script/expression.js';

const wrap = (value: bigint) => BigInt.asUintN(64, value);
const variables: Record<string, string> = { B: 'R(2)+1', N: '12abc', LOOP: 'LOOP+1', A: 'B', TYPE1: '99' };
const value = (text: string) =>
  evaluate(text, (name) => (Object.hasOwn(variables, name) ? variables[name] : undefined));

/** An expression with the number it means, computed apart from the parser. */
interface Sample {
  readonly text: string;
  readonly value: bigint;
}

const binary: Record<string, (a: bigint, b: bigint) => bigint> = {
  '+': (a, b) => wrap(a + b),
  '-': (a, b) => wrap(a - b),
  '*': (a, b) => wrap(a * b),
  '&': (a, b) => a & b,
  '|': (a, b) => a | b,
  '^': (a, b) => a ^ b,
  '<<': (a, b) => wrap(a << (b & 63n)),
  '>>': (a, b) => a >> (b & 63n),
  '/': (a, b) => a / b,
  '%': (a, b) => a % b,
};

const literal: fc.Arbitrary<Sample> = fc
  .tuple(fc.bigInt(0n, 2n ** 64n - 1n), fc.constantFrom('dec', 'hex', 'oct'))
  .map(([number, base]) => {
    const text = { dec: `${number}`, hex: `0x${number.toString(16)}`, oct: `0${number.toString(8)}` }[base];
    return { text: text ?? '', value: number };
  });

const { expression } = fc.letrec<{ expression: Sample }>((tie) => ({
  expression: fc.oneof(
    { maxDepth: 5, depthIdentifier: 'expression' },
    literal,
    tie('expression').map((inner) => ({ text: `-(${inner.text})`, value: wrap(-inner.value) })),
    tie('expression').map((inner) => ({ text: `~(${inner.text})`, value: wrap(~inner.value) })),
    fc
      .tuple(fc.constantFrom(...Object.keys(binary)), tie('expression'), tie('expression'))
      .filter(([operator, , right]) => !['/', '%'].includes(operator) || right.value !== 0n)
      .map(([operator, left, right]) => ({
        text: `(${left.text})${operator}(${right.text})`,
        value: binary[operator]!(left.value, right.value),
      })),
  ),
}));

describe('evaluate', () => {
  it('agrees with 64-bit arithmetic on whatever is in parentheses', () => {
    fc.assert(
      fc.property(expression, (sample) => {
        expect(value(sample.text)).toBe(sample.value);
      }),
    );
  });

  it('binds as C does, from product over sum, shift and and to or, all from the left', () => {
    const levels = [['*', '/', '%'], ['+', '-'], ['<<', '>>'], ['&'], ['|', '^']];
    const operator = fc.constantFrom(...levels.flat());
    const number = fc.bigInt(1n, 1000n);
    const level = (text: string) => levels.findIndex((group) => group.includes(text));
    fc.assert(
      fc.property(number, operator, number, operator, number, (a, first, b, second, c) => {
        const rightFirst = level(second) < level(first);
        if (rightFirst && ['/', '%'].includes(first) && binary[second]!(b, c) === 0n) return;
        const expected = rightFirst
          ? binary[first]!(a, binary[second]!(b, c))
          : binary[second]!(binary[first]!(a, b), c);
        expect(value(`${a}${first}${b}${second}${c}`)).toBe(expected);
      }),
    );
  });

  it.each<[string, bigint]>([
    ['-1', 2n ** 64n - 1n],
    ['~0', 2n ** 64n - 1n],
    ['--1', 1n],
    ['010', 8n],
    ['0xFf', 255n],
    ['R(7)', 7n << 40n],
    ['R(7)+0x3c', (7n << 40n) + 0x3cn],
    ['R(1<<24)', 0n],
    ['BIT(63)', 1n << 63n],
    ['BIT(64)', 1n],
    ['1<<64', 1n],
    ['IRQ_NONE|IRQ_TRIGGER', 33n],
    ['2*PAGE', 8192n],
    ['VFIO_DEVICE_GET_INFO', 0x3b6bn],
    ['99999999999999999999', 2n ** 64n - 1n],
  ])('%s is %d', (text, expected) => {
    expect(value(text)).toBe(expected);
  });

  it('reads a variable as an expression of its own, so that it binds tightest', () => {
    expect(value('2*B')).toBe(2n * ((2n << 40n) + 1n));
    expect(value('A')).toBe((2n << 40n) + 1n);
  });

  it('takes of a variable what makes sense, and leaves the rest', () => {
    expect(value('N+1')).toBe(13n);
  });

  it('prefers a constant to a variable of the same name', () => {
    expect(value('TYPE1')).toBe(1n);
  });

  it.each([
    ['', "bad expression near ''"],
    ['1+', "bad expression near ''"],
    ['(1', 'expected ) in expression'],
    ['R(1', 'expected ) after R('],
    ['SQRT(4)', 'unknown function SQRT'],
    ['1/0', 'division by zero'],
    ['1%(2-2)', 'division by zero'],
    ['NOPE', "unknown name 'NOPE' in expression"],
    ['08', "trailing text '8' in expression '08'"],
    ['0x', "trailing text 'x' in expression '0x'"],
    ['1 + 1', "trailing text ' + 1' in expression '1 + 1'"],
    ['LOOP', 'variable LOOP refers to itself'],
  ])('refuses %j', (text, message) => {
    expect(() => value(text)).toThrow(new ScriptMistake(message));
  });

  it('does not take what every object has for a constant', () => {
    expect(constant('toString')).toBeUndefined();
    expect(() => value('constructor')).toThrow(ScriptMistake);
  });
});

describe('readNumber', () => {
  it('reads as far as the digits go', () => {
    expect(readNumber('12 14')).toEqual({ value: 12n, length: 2 });
    expect(readNumber('0779')).toEqual({ value: 0o77n, length: 3 });
    expect(readNumber('x')).toBeUndefined();
  });
});
