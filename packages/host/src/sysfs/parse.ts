/*
 * How the kernel reads what somebody wrote to a file of sysfs: as a C string, so that it ends at the first NUL, and
 * with the patience for one trailing newline that lets `echo` work.
 */
import { SystemError } from '../errors.js';

/** The part of a written text that a C string function sees: up to the first NUL. */
export function cString(text: string): string {
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}

/**
 * Compares a name with what was written, one trailing newline of either aside.
 *
 * @source lib/string_helpers.c sysfs_streq()
 */
export function sysfsStreq(a: string, b: string): boolean {
  return withoutNewline(cString(a)) === withoutNewline(cString(b));
}

/**
 * Reads a truth value by its first character, or by its first two for `on` and `off`; what follows is not looked at.
 *
 * @throws EINVAL - none of the words
 * @source lib/kstrtox.c kstrtobool()
 */
export function kstrtobool(text: string): boolean {
  const word = cString(text);
  if (/^(?:[eyt1]|on)/i.test(word)) return true;
  if (/^(?:[dnf0]|of)/i.test(word)) return false;
  throw new SystemError('EINVAL', `neither yes nor no: ${JSON.stringify(text)}`);
}

/**
 * Reads an unsigned 64-bit number. One `+` may stand before it and one newline after it.
 *
 * @param base - 0: by prefix, `0x` for 16, `0` for 8, else 10
 * @throws EINVAL - not a number, or something follows it
 * @throws ERANGE - more than 64 bits
 * @source lib/kstrtox.c kstrtoull()
 */
export function kstrtoull(text: string, base: 0 | 8 | 10 | 16 = 0): bigint {
  return magnitude(cString(text).replace(/^\+/, ''), text, base);
}

/**
 * As {@link kstrtoull}, with an optional sign, for a signed 64-bit number.
 *
 * @throws EINVAL, ERANGE
 * @source lib/kstrtox.c kstrtoll()
 */
export function kstrtoll(text: string, base: 0 | 8 | 10 | 16 = 0): bigint {
  const word = cString(text);
  if (!word.startsWith('-')) return inRange(kstrtoull(text, base), -(2n ** 63n), 2n ** 63n - 1n, text);
  return inRange(-magnitude(word.slice(1), text, base), -(2n ** 63n), 2n ** 63n - 1n, text);
}

/**
 * Reads a signed 32-bit number.
 *
 * @throws EINVAL, ERANGE
 * @source lib/kstrtox.c kstrtoint()
 */
export function kstrtoint(text: string, base: 0 | 8 | 10 | 16 = 0): number {
  return Number(inRange(kstrtoll(text, base), -(2n ** 31n), 2n ** 31n - 1n, text));
}

/**
 * Reads an unsigned 32-bit number.
 *
 * @throws EINVAL, ERANGE
 * @source lib/kstrtox.c kstrtouint()
 */
export function kstrtouint(text: string, base: 0 | 8 | 10 | 16 = 0): number {
  return Number(inRange(kstrtoull(text, base), 0n, 2n ** 32n - 1n, text));
}

function withoutNewline(text: string): string {
  return text.endsWith('\n') ? text.slice(0, -1) : text;
}

const digitsOf = { 8: /^[0-7]+/, 10: /^[0-9]+/, 16: /^[0-9a-f]+/i };
const prefixOf = { 8: '0o', 10: '', 16: '0x' };

function magnitude(word: string, text: string, asked: 0 | 8 | 10 | 16): bigint {
  const hex = /^0x[0-9a-f]/i.test(word);
  const base = asked !== 0 ? asked : hex ? 16 : word.startsWith('0') ? 8 : 10;
  const body = base === 16 && hex ? word.slice(2) : word;
  const digits = digitsOf[base].exec(body)?.[0];
  if (digits === undefined) throw new SystemError('EINVAL', `not a number: ${JSON.stringify(text)}`);
  const value = inRange(BigInt(prefixOf[base] + digits), 0n, 2n ** 64n - 1n, text);
  const rest = body.slice(digits.length);
  if (rest !== '' && rest !== '\n') throw new SystemError('EINVAL', `not just a number: ${JSON.stringify(text)}`);
  return value;
}

function inRange(value: bigint, low: bigint, high: bigint, text: string): bigint {
  if (value < low || value > high) throw new SystemError('ERANGE', `out of range: ${JSON.stringify(text)}`);
  return value;
}
