// Checks of data that comes from outside: what a client of the control socket sends.

/** Data that is not what it should be; the message says where. */
export class ShapeError extends Error {
  override readonly name = 'ShapeError';
}

/** Takes a value for what it should be, or throws a {@link ShapeError} that names the place. */
export type Shape<T> = (value: unknown, at: string) => T;

/** A text of bounded length; a megabyte unless said otherwise. */
export function text(longest = 1 << 20): Shape<string> {
  return (value, at) => {
    if (typeof value !== 'string') throw new ShapeError(`${at} is no text`);
    if (value.length > longest) throw new ShapeError(`${at} has ${value.length} characters, ${longest} at most`);
    return value;
  };
}

/** True or false. */
export const flag: Shape<boolean> = (value, at) => {
  if (typeof value !== 'boolean') throw new ShapeError(`${at} is neither true nor false`);
  return value;
};

/** A whole number that is not negative. */
export const count: Shape<number> = (value, at) => {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw new ShapeError(`${at} is no whole number`);
  }
  return value;
};

/** Anything; checked later by whoever knows. */
export const anything: Shape<unknown> = (value) => value;

/** One of some words. */
export function oneOf<const T extends string>(words: readonly T[]): Shape<T> {
  return (value, at) => {
    const found = words.find((word) => word === value);
    if (found === undefined) throw new ShapeError(`${at} is none of ${words.join(', ')}`);
    return found;
  };
}

/** A list of up to `longest` elements. */
export function list<T>(element: Shape<T>, longest = 1000): Shape<readonly T[]> {
  return (value, at) => {
    if (!Array.isArray(value)) throw new ShapeError(`${at} is no list`);
    if (value.length > longest) throw new ShapeError(`${at} has ${value.length} elements, ${longest} at most`);
    return value.map((one, i) => element(one, `${at}[${i}]`));
  };
}

/** Something that may be left out. */
export function optional<T>(shape: Shape<T>): Shape<T | undefined> {
  return (value, at) => (value === undefined ? undefined : shape(value, at));
}

type Shapes = Readonly<Record<string, Shape<unknown>>>;

/** What an object of some shapes is: keys that may be undefined may be left out. */
export type ObjectOf<S extends Shapes> = {
  readonly [K in keyof S as undefined extends ReturnType<S[K]> ? never : K]: ReturnType<S[K]>;
} & {
  readonly [K in keyof S as undefined extends ReturnType<S[K]> ? K : never]?: Exclude<ReturnType<S[K]>, undefined>;
};

/** An object with these keys and no others. */
export function object<S extends Shapes>(shapes: S): Shape<ObjectOf<S>> {
  return (value, at) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new ShapeError(`${at} is no object`);
    const unknown = Object.keys(value).find((key) => !Object.hasOwn(shapes, key));
    if (unknown !== undefined) throw new ShapeError(`${at}.${unknown} is not known`);
    const given = new Map(Object.entries(value));
    const entries = Object.entries(shapes).map(([key, shape]) => [key, shape(given.get(key), `${at}.${key}`)]);
    const checked: object = Object.fromEntries(entries.filter(([, one]) => one !== undefined));
    return checked as ObjectOf<S>;
  };
}
