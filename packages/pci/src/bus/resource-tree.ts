/*
 * Who has which addresses: a tree of ranges, each inside of its parent and apart from its siblings.
 */
import { SystemError } from '@vfio/host';

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
    const inside = resource.start >= parent.start && resource.end <= parent.end && resource.end >= resource.start;
    const other = parent.children.find((child) => child.overlaps(resource.start, resource.end));
    if (!inside || other) {
      const why = other ? `overlaps ${other.name}` : `is not inside of ${parent.name}`;
      throw new SystemError('EBUSY', `${resource.name} ${why}`, { syscall: 'request_resource' });
    }
    const at = parent.children.findIndex((child) => child.start > resource.end);
    parent.children.splice(at < 0 ? parent.children.length : at, 0, resource);
    resource.parent = parent;
  }

  /** Takes a range out; its children go with it. Source: kernel/resource.c release_resource() */
  release(resource: Resource): void {
    const siblings = resource.parent?.children;
    if (!siblings) return;
    siblings.splice(siblings.indexOf(resource), 1);
    resource.parent = undefined;
  }

  /** The innermost range that holds an address. */
  find(address: number): Resource | undefined {
    let found: Resource | undefined;
    for (let at: Resource | undefined = this.root; at; ) {
      at = at.children.find((child) => child.overlaps(address, address));
      found = at ?? found;
    }
    return found;
  }
}
