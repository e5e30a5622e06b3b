/*
 * Numbers of character devices: who has which major, which minors of the misc major are taken, and what a pair of
 * numbers opens.
 */
import { SystemError } from '../errors.js';
import type { Process } from '../process/process.js';
import type { Seams } from '../seams.js';
import type { File } from './file.js';
import type { DeviceNumber } from './vfs-node.js';

/** Major of the misc devices. */
export const MISC_MAJOR = 10;

/** Major of /dev/null and its like. */
export const MEM_MAJOR = 1;

/** The lowest of the first dynamic majors, and the second range that follows when they are used up. */
const LAST_DYNAMIC_MAJOR = 234;
const MORE_DYNAMIC_MAJORS: readonly [first: number, last: number] = [511, 384];

/** The first dynamic major unless a machine says otherwise: those above are taken by drivers that are always there. */
const FIRST_DYNAMIC_MAJOR = 244;

/** What a machine says of its character devices. */
export interface CharDeviceOptions {
  /** The first major that a driver without one of its own gets; numbers go down from there. Default: 244. */
  readonly firstDynamicMajor?: number;
}

/** Misc minors above this one are dynamic. */
const FIXED_MISC_MINORS = 255;

/** Opens a character device. */
export type OpenDevice = (process: Process, flags: number) => File | Promise<File>;

/** Something registered, until it is removed. */
export interface Registration {
  remove(): void;
}

/** A misc device's place. */
export interface MiscMinor extends Registration {
  readonly minor: number;
}

interface Cdev {
  readonly major: number;
  readonly minor: number;
  readonly count: number;
  readonly open: (process: Process, flags: number, device: DeviceNumber) => File | Promise<File>;
}

/** The character device numbers of a host. */
export class CharDevices {
  readonly #seams: Seams;
  /** In the order they are given out. */
  readonly #dynamicMajors: readonly (readonly [first: number, last: number])[];
  readonly #majors = new Map<number, string>([
    [MEM_MAJOR, 'mem'],
    [MISC_MAJOR, 'misc'],
  ]);
  /** Newest first, as /proc/misc lists them. */
  #misc: { readonly minor: number; readonly name: string }[] = [];
  readonly #cdevs = new Set<Cdev>();

  constructor(seams: Seams, options: CharDeviceOptions = {}) {
    this.#seams = seams;
    this.#dynamicMajors = [[options.firstDynamicMajor ?? FIRST_DYNAMIC_MAJOR, LAST_DYNAMIC_MAJOR], MORE_DYNAMIC_MAJORS];
  }

  /**
   * Takes a major.
   *
   * @param name - shown in /proc/devices
   * @param major - a certain one; a free one unless given
   * @throws EBUSY - it is taken, or none is free
   * @source fs/char_dev.c __register_chrdev_region()
   */
  registerMajor(name: string, major?: number): number {
    this.#seams.faults.check('__register_chrdev_region:major');
    const chosen = major ?? this.#freeMajor();
    if (this.#majors.has(chosen))
      throw new SystemError('EBUSY', `major ${chosen} belongs to ${this.#majors.get(chosen)}`);
    this.#majors.set(chosen, name);
    return chosen;
  }

  /** Gives a major back. */
  unregisterMajor(major: number): void {
    this.#majors.delete(major);
  }

  /**
   * Takes a minor of the misc major.
   *
   * @param minor - a certain one; a dynamic one unless given
   * @throws EBUSY - it is taken
   * @source drivers/char/misc.c misc_register()
   */
  takeMisc(name: string, minor?: number): MiscMinor {
    this.#seams.faults.check('misc_register:minor');
    const taken = new Set(this.#misc.map((entry) => entry.minor));
    let chosen = minor ?? FIXED_MISC_MINORS + 1;
    if (minor === undefined) while (taken.has(chosen)) chosen++;
    if (taken.has(chosen)) throw new SystemError('EBUSY', `misc minor ${chosen} is taken`);
    const entry = { minor: chosen, name };
    this.#misc.unshift(entry);
    return {
      minor: chosen,
      remove: () => {
        this.#misc = this.#misc.filter((other) => other !== entry);
      },
    };
  }

  /**
   * Says what opening a device number does, for `count` minors from `minor` on. What is added later comes first.
   *
   * @source fs/char_dev.c cdev_add()
   */
  add(major: number, minor: number, count: number, open: Cdev['open']): Registration {
    this.#seams.faults.check('cdev_add:probe');
    const cdev = { major, minor, count, open };
    this.#cdevs.add(cdev);
    return { remove: () => void this.#cdevs.delete(cdev) };
  }

  /**
   * Opens a device number.
   *
   * @throws ENXIO - there is no such device
   */
  open(process: Process, device: DeviceNumber, flags: number): File | Promise<File> {
    const { major, minor } = device;
    const cdev = [...this.#cdevs].findLast(
      (entry) => entry.major === major && minor >= entry.minor && minor < entry.minor + entry.count,
    );
    if (cdev === undefined) throw new SystemError('ENXIO', `there is no device ${major}:${minor}`);
    return cdev.open(process, flags, device);
  }

  /** Text of /proc/devices. */
  devicesText(): string {
    const lines = [...this.#majors].sort(([a], [b]) => a - b).map(([major, name]) => `${pad(major)} ${name}\n`);
    return `Character devices:\n${lines.join('')}\nBlock devices:\n`;
  }

  /** Text of /proc/misc. */
  miscText(): string {
    return this.#misc.map(({ minor, name }) => `${pad(minor)} ${name}\n`).join('');
  }

  #freeMajor(): number {
    for (const [first, last] of this.#dynamicMajors) {
      for (let major = first; major >= last; major--) if (!this.#majors.has(major)) return major;
    }
    throw new SystemError('EBUSY', 'no dynamic major is free');
  }
}

function pad(number: number): string {
  return String(number).padStart(3);
}
