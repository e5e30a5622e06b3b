/*
 * The parts of a host that the driver core stands on.
 */
import type { DeviceOpener } from '../fs/devtmpfs.js';
import type { Seams } from '../seams.js';
import type { Sysfs } from '../sysfs/sysfs.js';
import type { Uevents } from './uevents.js';

/** Where device nodes are made: devtmpfs. */
export interface DeviceNodes {
  /**
   * Makes a node, with the directories above it.
   *
   * @throws EEXIST - there is one of that path
   */
  add(node: {
    readonly path: string;
    readonly mode: number;
    readonly major: number;
    readonly minor: number;
    /** Absent: whoever has the numbers answers. */
    readonly opener?: DeviceOpener;
  }): { remove(): void };
}

/** What the driver core needs of a host. */
export interface DriverCoreHost extends Seams {
  readonly sysfs: Sysfs;
  readonly devtmpfs: DeviceNodes;
  readonly uevents: Uevents;
}
