/**
 * The sorted map of type1. The package is CommonJS: Node hands out its export object, bundlers and test runners the class
 * itself, and both are taken here.
 */
import imported from 'sorted-btree';

/** A sorted map with floor and ceiling look-ups. */
export type BTree<K, V> = InstanceType<typeof imported.default<K, V>>;

/** The class behind {@link BTree}. */
export const BTree: (typeof imported)['default'] = 'default' in imported ? imported.default : imported;

/** Orders numeric keys. */
export function byNumber(a: number, b: number): number {
  return a - b;
}
