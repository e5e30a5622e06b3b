/* Who a process is: user, groups, capabilities. */

/** Capabilities that something in this host asks for, or that a user may expect to see in a set. */
export type Capability =
  | 'CHOWN'
  | 'DAC_OVERRIDE'
  | 'DAC_READ_SEARCH'
  | 'FOWNER'
  | 'KILL'
  | 'SETGID'
  | 'SETUID'
  | 'NET_ADMIN'
  | 'SYS_MODULE'
  | 'IPC_LOCK'
  | 'SYS_RAWIO'
  | 'SYS_PTRACE'
  | 'SYS_ADMIN'
  | 'SYS_RESOURCE';

/** Bit of each capability in a mask, as in `<linux/capability.h>`. */
export const capabilityBit: Readonly<Record<Capability, number>> = {
  CHOWN: 0,
  DAC_OVERRIDE: 1,
  DAC_READ_SEARCH: 2,
  FOWNER: 3,
  KILL: 5,
  SETGID: 6,
  SETUID: 7,
  NET_ADMIN: 12,
  IPC_LOCK: 14,
  SYS_MODULE: 16,
  SYS_RAWIO: 17,
  SYS_PTRACE: 19,
  SYS_ADMIN: 21,
  SYS_RESOURCE: 24,
};

const everything = Object.keys(capabilityBit) as Capability[];

/** The credentials of one process. */
export class Credentials {
  #uid: number;
  #gid: number;
  #groups: readonly number[];
  /** Effective capabilities. A caller may take some away, or give some to a user. */
  readonly capabilities: Set<Capability>;

  /** @param uid - user; 0 has every capability, any other none */
  constructor(uid = 0, gid = uid, groups: readonly number[] = [], capabilities?: Iterable<Capability>) {
    this.#uid = uid;
    this.#gid = gid;
    this.#groups = [...groups];
    this.capabilities = new Set(capabilities ?? (uid === 0 ? everything : []));
  }

  get uid(): number {
    return this.#uid;
  }

  get gid(): number {
    return this.#gid;
  }

  /** Supplementary groups. */
  get groups(): readonly number[] {
    return this.#groups;
  }

  /** Whether the process has a capability. */
  capable(capability: Capability): boolean {
    return this.capabilities.has(capability);
  }

  /** Whether `gid` is the process's group or one of its supplementary ones. */
  inGroup(gid: number): boolean {
    return this.#gid === gid || this.#groups.includes(gid);
  }

  /** Becomes another user. Leaving user 0 drops all capabilities; becoming user 0 does not give them back. */
  setUid(uid: number): void {
    this.#uid = uid;
    if (uid !== 0) this.capabilities.clear();
  }

  setGid(gid: number): void {
    this.#gid = gid;
  }

  setGroups(groups: readonly number[]): void {
    this.#groups = [...groups];
  }

  /** A copy for a child. */
  clone(): Credentials {
    return new Credentials(this.#uid, this.#gid, this.#groups, this.capabilities);
  }
}
