/*
 * One machine with a kernel on it. A host owns everything; two of them in one program share nothing.
 */
import type { Clock } from './clock.js';
import type { Faults } from './faults.js';
import type { KernelLog } from './log.js';
import type { Scheduler } from './scheduler.js';
import { createSeams, type Seams, type SeamsOptions } from './seams.js';
import type { Lockdep } from './sync/lockdep.js';
import type { Tracker } from './tracker.js';

/** What a host is made of. */
export interface HostOptions extends SeamsOptions {}

/** A machine. */
export class Host implements Seams {
  readonly checked: boolean;
  readonly clock: Clock;
  readonly log: KernelLog;
  readonly faults: Faults;
  readonly scheduler: Scheduler;
  readonly tracker: Tracker;
  readonly lockdep: Lockdep;

  constructor(options: HostOptions = {}) {
    const seams = createSeams(options);
    this.checked = seams.checked;
    this.clock = seams.clock;
    this.log = seams.log;
    this.faults = seams.faults;
    this.scheduler = seams.scheduler;
    this.tracker = seams.tracker;
    this.lockdep = seams.lockdep;
  }
}
