/**
 * A kind of mediated device that a parent offers: a directory with the file by which one is created.
 */
import { KernelBug, Kref, type SysfsDir } from '@vfio/host';
import type { MdevParent } from './parent.js';

/** What the core keeps about a type from `mdevRegisterParent` on. */
export interface MdevTypeRecord {
  readonly parent: MdevParent;
  /** One reference for being registered, and one for each mdev until its release. Holds the parent's device. */
  readonly kref: Kref;
  readonly sysfs: SysfsDir;
  /** `devices/`: a link to each mdev of the type. */
  readonly devicesDir: SysfsDir;
}

/**
 * A type. What a driver needs to know of it beyond its names goes into a subclass.
 *
 * @source include/linux/mdev.h struct mdev_type
 */
export class MdevType {
  /** Its directory is called `<driver string of the parent>-<sysfsName>`. */
  readonly sysfsName: string;
  /** What `name` shows instead of `sysfsName`. */
  readonly prettyName: string | undefined;
  /** @internal set when its parent is registered */
  record: MdevTypeRecord | undefined;

  constructor(sysfsName: string, prettyName?: string) {
    this.sysfsName = sysfsName;
    this.prettyName = prettyName;
  }

  /** The parent that offers it. */
  get parent(): MdevParent {
    return this.registered.parent;
  }

  /** @internal what the core keeps of a registered type */
  get registered(): MdevTypeRecord {
    if (this.record === undefined) throw new KernelBug('driver', `mdev type ${this.sysfsName} has no parent`);
    return this.record;
  }

  /** @internal begins its life below a parent, whose device it holds until its last reference goes */
  attach(parent: MdevParent, sysfs: SysfsDir, devicesDir: SysfsDir): void {
    if (this.record !== undefined) {
      throw new KernelBug('driver', `mdev type ${this.sysfsName} belongs to ${this.record.parent.dev.name} already`);
    }
    const released = () => {
      this.record = undefined;
      parent.dev.put();
    };
    parent.dev.get();
    this.record = {
      parent,
      sysfs,
      devicesDir,
      kref: new Kref(parent.host, { describe: () => `mdev type ${sysfs.name}`, released }),
    };
  }
}
