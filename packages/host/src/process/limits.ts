/* Resource limits of a process: those that VFIO and its users run into. */
import { SystemError } from '../errors.js';

/** No limit. */
export const RLIM_INFINITY = 2n ** 64n - 1n;

/** Highest hard limit for descriptors (`fs.nr_open`). */
const NR_OPEN = 1024n * 1024n;

/** A limit: what holds, and how far an unprivileged process may raise it. */
export interface Limit {
  readonly soft: bigint;
  readonly hard: bigint;
}

/** Which limit. */
export type LimitName = 'memlock' | 'nofile';

/** The limits of one process. */
export class Limits {
  readonly #limits: Record<LimitName, Limit>;

  constructor(limits: Partial<Record<LimitName, Limit>> = {}) {
    this.#limits = {
      memlock: limits.memlock ?? { soft: 8n << 20n, hard: 8n << 20n },
      nofile: limits.nofile ?? { soft: 1024n, hard: 4096n },
    };
  }

  /** Bytes of memory that may be locked. */
  get memlock(): bigint {
    return this.#limits.memlock.soft;
  }

  /** Descriptors: one more than the highest number. */
  get nofile(): number {
    return Number(this.#limits.nofile.soft);
  }

  /** Both values of a limit. */
  get(which: LimitName): Limit {
    return this.#limits[which];
  }

  /**
   * Changes a limit.
   *
   * @param mayRaise - the process has CAP_SYS_RESOURCE
   * @throws EINVAL - the soft limit is above the hard one
   * @throws EPERM - the hard limit would rise without the capability, or above what the system has
   * @source kernel/sys.c do_prlimit()
   */
  set(which: LimitName, limit: Limit, mayRaise: boolean): void {
    if (limit.soft > limit.hard) throw new SystemError('EINVAL', `soft limit ${limit.soft} above hard ${limit.hard}`);
    if (which === 'nofile' && limit.hard > NR_OPEN) throw new SystemError('EPERM', `more than ${NR_OPEN} descriptors`);
    if (limit.hard > this.#limits[which].hard && !mayRaise) {
      throw new SystemError('EPERM', `hard limit ${this.#limits[which].hard} may not rise to ${limit.hard}`);
    }
    this.#limits[which] = { soft: limit.soft, hard: limit.hard };
  }

  /** A copy for a child. */
  clone(): Limits {
    return new Limits(this.#limits);
  }
}
