/*
 * The sorted map below address spaces, frames, IOMMU domains and containers. The package is CommonJS with an `__esModule`
 * mark: Node hands out the whole module as its default export, bundlers and test runners the class itself.
 * This is the one place that knows.
 */
import imported, { type ISortedMap } from 'sorted-btree';

/**
 * A sorted map with floor and ceiling look-ups. Spelled out, because the way to the type of the package's class is another
 * one in each kind of module, and our declarations serve all of them.
 */
export interface BTree<K, V> extends ISortedMap<K, V> {
  /** The entry of a key, or the nearest one below it. */
  getPairOrNextLower(key: K): [K, V] | undefined;
  /** The entry of a key, or the nearest one above it. */
  getPairOrNextHigher(key: K): [K, V] | undefined;
  valuesArray(): V[];
}

type BTreeConstructor = new <K, V>(entries?: [K, V][], compare?: (a: K, b: K) => number) => BTree<K, V>;

/** The class behind {@link BTree}, whichever way it was loaded. */
export const BTree: BTreeConstructor = 'default' in imported ? imported.default : imported;

/** Orders numeric keys. */
export function byNumber(a: number, b: number): number {
  return a - b;
}
