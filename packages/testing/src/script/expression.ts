// Numbers in scripts: expressions over unsigned 64-bit integers that wrap around, with the operators and the precedence of C
// (`^` binds like `|`), constants, variables, and the functions R(region) and BIT(n).

import { constant } from './constants.js';
import { ScriptMistake } from './errors.js';

/** What a name may stand for besides the constants. */
export type VariableLookup = (name: string) => string | undefined;

/** How deep variables may refer to variables; deeper, one refers to itself. */
const MAX_DEPTH = 64;

/**
 * The value of an expression without blanks.
 *
 * @param text - all of it has to be understood
 * @param lookup - the text of a variable, itself an expression of which only the beginning has to make sense
 * @returns 0 to 2^64-1
 * @throws ScriptMistake - something is not understood, a name is unknown, or a division is by zero
 */
export function evaluate(text: string, lookup: VariableLookup): bigint {
  const reader = new ExpressionReader(text, lookup, 0);
  const value = reader.or();
  if (reader.rest !== '') throw new ScriptMistake(`trailing text '${reader.rest}' in expression '${text}'`);
  return value;
}

/** Reads one level of precedence after the other, each method one. */
class ExpressionReader {
  rest: string;
  readonly #lookup: VariableLookup;
  readonly #depth: number;

  constructor(text: string, lookup: VariableLookup, depth: number) {
    this.rest = text;
    this.#lookup = lookup;
    this.#depth = depth;
  }

  or(): bigint {
    let value = this.#and();
    for (;;) {
      if (this.#take('|')) value |= this.#and();
      else if (this.#take('^')) value ^= this.#and();
      else return value;
    }
  }

  #and(): bigint {
    let value = this.#shift();
    while (this.#take('&')) value &= this.#shift();
    return value;
  }

  #shift(): bigint {
    let value = this.#sum();
    for (;;) {
      // the count is taken modulo 64, as the processor does
      if (this.#take('<<')) value = wrap(value << (this.#sum() & 63n));
      else if (this.#take('>>')) value >>= this.#sum() & 63n;
      else return value;
    }
  }

  #sum(): bigint {
    let value = this.#product();
    for (;;) {
      if (this.#take('+')) value = wrap(value + this.#product());
      else if (this.#take('-')) value = wrap(value - this.#product());
      else return value;
    }
  }

  #product(): bigint {
    let value = this.#primary();
    for (;;) {
      if (this.#take('*')) value = wrap(value * this.#primary());
      else if (this.#take('/')) value /= this.#divisor();
      else if (this.#take('%')) value %= this.#divisor();
      else return value;
    }
  }

  #divisor(): bigint {
    const value = this.#primary();
    if (value === 0n) throw new ScriptMistake('division by zero');
    return value;
  }

  #primary(): bigint {
    if (this.#take('(')) {
      const value = this.or();
      if (!this.#take(')')) throw new ScriptMistake('expected ) in expression');
      return value;
    }
    if (this.#take('-')) return wrap(-this.#primary());
    if (this.#take('~')) return wrap(~this.#primary());
    const number = readNumber(this.rest);
    if (number) {
      this.rest = this.rest.slice(number.length);
      return number.value;
    }
    const name = /^[A-Za-z_]\w*/.exec(this.rest)?.[0];
    if (name === undefined) throw new ScriptMistake(`bad expression near '${this.rest}'`);
    this.rest = this.rest.slice(name.length);
    return this.#take('(') ? this.#call(name) : this.#named(name);
  }

  #call(name: string): bigint {
    const value = this.or();
    if (!this.#take(')')) throw new ScriptMistake(`expected ) after ${name}(`);
    if (name === 'R') return wrap(value << 40n);
    if (name === 'BIT') return 1n << (value & 63n);
    throw new ScriptMistake(`unknown function ${name}`);
  }

  #named(name: string): bigint {
    const value = constant(name);
    if (value !== undefined) return value;
    const text = this.#lookup(name);
    if (text === undefined) throw new ScriptMistake(`unknown name '${name}' in expression`);
    if (this.#depth >= MAX_DEPTH) throw new ScriptMistake(`variable ${name} refers to itself`);
    return new ExpressionReader(text, this.#lookup, this.#depth + 1).or();
  }

  #take(operator: string): boolean {
    if (!this.rest.startsWith(operator)) return false;
    this.rest = this.rest.slice(operator.length);
    return true;
  }
}

/**
 * The number at the beginning of a text, as strtoull with base 0 reads it: decimal, `0x` hexadecimal, `0` octal; the
 * largest number if it does not fit.
 *
 * @returns its value and how many characters it has; undefined if the text does not begin with a digit
 */
export function readNumber(text: string): { value: bigint; length: number } | undefined {
  const digits = /^(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)/.exec(text)?.[0];
  if (digits === undefined) return undefined;
  const octal = digits.length > 1 && /^0[0-7]/.test(digits);
  const value = BigInt(octal ? `0o${digits.slice(1)}` : digits);
  const max = 2n ** 64n - 1n;
  return { value: value > max ? max : value, length: digits.length };
}

function wrap(value: bigint): bigint {
  return BigInt.asUintN(64, value);
}
