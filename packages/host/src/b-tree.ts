/*
 * The sorted map below address spaces, frames, IOMMU domains and containers. The package is CommonJS with an `__esModule`
 * mark: Node hands out the whole module as its default export, bundlers and test runners the class itself.
 * This is the one place that knows.
 */
import imported from 'sorted-btree';

type Loaded = typeof imported;

/** A sorted map with floor and ceiling look-ups. */
export type BTree<K, V> = InstanceType<typeof imported.default<K, V>>;

/** The class behind {@link BTree}, whichever way it was loaded. */
export const BTree: Loaded['default'] = 'default' in imported ? imported.default : imported;

/** Orders numeric keys. */
export function byNumber(a: number, b: number): number {
  return a - b;
}
