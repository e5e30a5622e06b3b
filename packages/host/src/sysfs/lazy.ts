/*
 * Entries of a directory that are made when somebody looks at them. A machine with many devices has dozens of files for
 * each, of which hardly any is ever opened: a directory keeps what it needs to make one, and the name.
 */
import type { Attribute, AttributeGroup, BinAttribute } from './attribute.js';

/** Describes entries on demand; often an object that is there anyway. */
export interface LazyEntry {
  /**
   * Describes an entry: a file, or a directory with the files of a group. Asked once for each.
   *
   * @param name - the name that the entry was added under
   */
  describeEntry(name: string): Attribute | BinAttribute | AttributeGroup;
}

/** Whether something describes entries rather than being one. */
export function isLazyEntry(entry: object): entry is LazyEntry {
  return 'describeEntry' in entry;
}

/** Whether a description is that of a file. */
export function isFile(described: Attribute | BinAttribute | AttributeGroup): described is Attribute | BinAttribute {
  return 'mode' in described;
}
