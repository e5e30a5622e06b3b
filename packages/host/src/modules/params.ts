/*
 * Parameters of modules: typed values with a text form, set when the module is loaded and, where the mode of the file
 * allows it, later.
 */
import { SystemError } from '../errors.js';
import { cString, kstrtobool, kstrtoint, kstrtouint, kstrtoull } from '../sysfs/parse.js';

/** The types of parameters, with the values they have here. */
export interface ParamTypes {
  bool: boolean;
  int: number;
  uint: number;
  ulong: bigint;
  charp: string | undefined;
}

/** A value of a parameter. */
export type ParamValue = ParamTypes[keyof ParamTypes];

/** A parameter as its module declares it. */
export type ParamSpec = {
  [T in keyof ParamTypes]: {
    readonly type: T;
    readonly default: ParamTypes[T];
    /** Permission bits of its file; 0: it has none, and can be set at load time only. */
    readonly mode: number;
    /** Told of each new value that is set by a write to the file. A `SystemError` refuses it. */
    readonly changed?: (value: ParamTypes[T]) => void;
  };
}[keyof ParamTypes];

/** Longest text of a `charp`. Source: kernel/params.c param_set_charp() */
const CHARP_LIMIT = 1024;

/** A parameter of a loaded module. */
export class Param {
  readonly name: string;
  readonly spec: ParamSpec;
  #value: ParamValue;

  constructor(name: string, spec: ParamSpec) {
    this.name = name;
    this.spec = spec;
    this.#value = spec.default;
  }

  /** The value now. */
  get value(): ParamValue {
    return this.#value;
  }

  /** The text of its file. */
  show(): string {
    return `${formatParam(this.#value)}\n`;
  }

  /**
   * Sets it from text, at load time.
   *
   * @throws EINVAL, ERANGE, ENOSPC - see {@link parseParam}
   */
  parse(text: string): void {
    this.#value = parseParam(this.spec.type, text);
  }

  /**
   * Sets it from text, later.
   *
   * @throws EINVAL, ERANGE, ENOSPC - see {@link parseParam}
   * @throws whatever its module says
   */
  store(text: string): void {
    const { spec } = this;
    const value = parseParam(spec.type, text);
    changed(spec, value);
    this.#value = value;
  }
}

/**
 * Reads the text of a parameter as the kernel does: base by prefix, a newline at the end, any of the words for yes
 * and no. A `charp` keeps its text, newline included.
 *
 * @throws EINVAL - not of the type
 * @throws ERANGE - a number that is too large
 * @throws ENOSPC - a text of more than 1024 bytes
 * @source kernel/params.c
 */
export function parseParam(type: keyof ParamTypes, text: string): ParamValue {
  switch (type) {
    case 'bool':
      return kstrtobool(text);
    case 'int':
      return kstrtoint(text);
    case 'uint':
      return kstrtouint(text);
    case 'ulong':
      return kstrtoull(text);
    case 'charp': {
      const word = cString(text);
      if (word.length > CHARP_LIMIT) throw new SystemError('ENOSPC', `string parameter too long: ${word.length}`);
      return word;
    }
  }
}

function formatParam(value: ParamValue): string {
  if (typeof value === 'boolean') return value ? 'Y' : 'N';
  return value === undefined ? '(null)' : String(value);
}

function changed(spec: ParamSpec, value: ParamValue): void {
  if (spec.type === 'bool' && typeof value === 'boolean') spec.changed?.(value);
  else if ((spec.type === 'int' || spec.type === 'uint') && typeof value === 'number') spec.changed?.(value);
  else if (spec.type === 'ulong' && typeof value === 'bigint') spec.changed?.(value);
  else if (spec.type === 'charp' && typeof value === 'string') spec.changed?.(value);
}
