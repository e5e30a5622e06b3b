// Checked mode's answer to use after free: an object that was freed throws at the next touch, and tells where it was freed.

import { KernelBug } from '@vfio/host';

/** Questions that a debugger, a promise or a test runner asks of any object; they are no use of it. */
const harmless: ReadonlySet<PropertyKey> = new Set([
  'then',
  'toJSON',
  'constructor',
  'asymmetricMatch',
  'nodeType',
  'tagName',
]);

/**
 * Makes every later access to an object's properties and methods throw. Can be done again, to what was kept.
 *
 * @param origin - stack of the place where the object was freed
 * @param kept - a property that stays as it is
 */
export function poison(target: object, name: string, origin: string, kept?: PropertyKey): void {
  const touched = (key: PropertyKey): never => {
    throw new KernelBug('use-after-free', `${name} was freed, and ${String(key)} of it is used`, { origin });
  };
  for (const key of Reflect.ownKeys(target)) {
    if (key === kept || !Reflect.getOwnPropertyDescriptor(target, key)?.configurable) continue;
    Object.defineProperty(target, key, {
      configurable: false,
      enumerable: false,
      get: () => touched(key),
      set: () => touched(key),
    });
  }
  const grave = new Proxy(Object.create(null), {
    get: (_, key) => (typeof key === 'symbol' || harmless.has(key) ? undefined : touched(key)),
    set: (_, key) => touched(key),
    has: (_, key) => (typeof key === 'symbol' || harmless.has(key) ? false : touched(key)),
  });
  Object.setPrototypeOf(target, grave);
}
