/*
 * Who has which addresses: a tree of ranges, each inside of its parent and apart from its siblings.
 */
import { SystemError } from '@vfio/host';

/** Bits of a resource's flags. Source: include/linux/ioport.h IORESOURCE_* */
export const ResourceFlag = {
  BITS: 0xff,
  IO: 0x100,
  MEM: 0x200,
  PREFETCH: 0x2000,
  READONLY: 0x4000,
  SIZEALIGN: 0x4_0000,
  MEM_64: 0x10_0000,
  ROM_ENABLE: 0x01,
  ROM_SHADOW: 0x02,
  PCI_FIXED: 0x10,
  UNSET: 0x2000_0000,
} as const;

/**
 * A range of addresses with a name, both ends inclusive.
 *
 * @source include/linux/ioport.h struct resource
 */
export class Resource {
  name: string;
  start: number;
  end: number;
  /** `ResourceFlag` bits. */
  flags: number;
  parent: Resource | undefined;
  /** Inside of it, ascending. */
  readonly children: Resource[] = [];

  constructor(name: string, start: number, end: number, flags = 0) {
    this.name = name;
    this.start = start;
    this.end = end;
    this.flags = flags;
  }

  /** Bytes; 0 for a range that is not there. */
  get size(): number {
    return this.flags === 0 || this.end < this.start ? 0 : this.end - this.start + 1;
  }

  /** Whether a range shares a byte with this one. */
  overlaps(start: number, end: number): boolean {
    return this.start <= end && this.end >= start;
  }
}

/** All ranges of one kind of address space. */
export class ResourceTree {
  readonly root: Resource;

  constructor(name: string, end: number) {
    this.root = new Resource(name, 0, end);
  }

  /**
   * Puts a range below a parent.
   *
   * @throws EBUSY - it is not inside of the parent, or overlaps a child of it
   * @source kernel/resource.c request_resource()
   */
  request(parent: Resource, resource: Resource): void {
    const { children } = parent;
    const inside = resource.start >= parent.start && resource.end <= parent.end && resource.end >= resource.start;
    const at = firstEndingFrom(children, resource.start);
    const other = children[at];
    const conflict = other?.overlaps(resource.start, resource.end) ? other : undefined;
    if (!inside || conflict) {
      const why = conflict ? `overlaps ${conflict.name}` : `is not inside of ${parent.name}`;
      throw new SystemError('EBUSY', `${resource.name} ${why}`, { syscall: 'request_resource' });
    }
    children.splice(at, 0, resource);
    resource.parent = parent;
  }

  /** Takes a range out; its children go with it. Source: kernel/resource.c release_resource() */
  release(resource: Resource): void {
    const siblings = resource.parent?.children;
    if (!siblings) return;
    siblings.splice(siblings.indexOf(resource), 1);
    resource.parent = undefined;
  }

  /**
   * The lowest free range in a parent.
   *
   * @param align - a power of two
   * @param limit - last address that will do
   * @source kernel/resource.c find_resource_space()
   */
  findFree(parent: Resource, size: number, align: number, limit = parent.end): number | undefined {
    const last = Math.min(parent.end, limit);
    let start = alignUp(parent.start, align);
    for (const child of parent.children) {
      if (start + size - 1 < child.start) break;
      start = Math.max(start, alignUp(child.end + 1, align));
    }
    return start + size - 1 <= last ? start : undefined;
  }

  /** The innermost range that holds an address. */
  find(address: number): Resource | undefined {
    let found: Resource | undefined;
    for (let at: Resource | undefined = this.root; at; ) {
      const child: Resource | undefined = at.children[firstEndingFrom(at.children, address)];
      at = child?.overlaps(address, address) ? child : undefined;
      found = at ?? found;
    }
    return found;
  }
}

/** Rounds up to a power of two. */
export function alignUp(value: number, align: number): number {
  return Math.ceil(value / align) * align;
}

/** Index of the first range that ends at an address or behind it. */
function firstEndingFrom(ranges: readonly Resource[], address: number): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ranges[middle]?.end ?? 0) < address) low = middle + 1;
    else high = middle;
  }
  return low;
}
