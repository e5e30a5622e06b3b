/* All processes of a host. */
import type { Vfs } from '../fs/vfs.js';
import type { Host } from '../host.js';
import { AddressSpace } from '../mm/address-space.js';
import type { ByteOrder } from '../mm/layout.js';
import type { PhysicalMemory } from '../mm/physical-memory.js';
import { Credentials } from './credentials.js';
import { type Limit, type LimitName, Limits } from './limits.js';
import { Process } from './process.js';

/** What processes live on. */
export interface ProcessTableOptions {
  readonly memory: PhysicalMemory;
  readonly vfs: Vfs;
  /** Byte order of the machine; little unless given. */
  readonly byteOrder?: ByteOrder;
}

/** A process to be made. */
export interface SpawnOptions {
  readonly comm?: string;
  /** User; 0 unless given, and only that one has capabilities. */
  readonly uid?: number;
  readonly gid?: number;
  readonly groups?: readonly number[];
  /** Byte order of the program; that of the machine unless given. */
  readonly byteOrder?: ByteOrder;
  readonly limits?: Partial<Record<LimitName, Limit>>;
}

/** The processes of a host, by number. */
export class ProcessTable {
  readonly host: Host;
  readonly memory: PhysicalMemory;
  readonly vfs: Vfs;
  readonly #byteOrder: ByteOrder;
  readonly #processes = new Map<number, Process>();
  #nextPid = 1;
  #nextEventfd = 0;

  constructor(host: Host, options: ProcessTableOptions) {
    this.host = host;
    this.memory = options.memory;
    this.vfs = options.vfs;
    this.#byteOrder = options.byteOrder ?? 'little';
  }

  /** Makes a process that has nothing open and nothing mapped. */
  spawn(options: SpawnOptions = {}): Process {
    this.host.faults.check('copy_process:task', 'EAGAIN');
    const { comm = 'program', uid = 0, gid = uid, groups = [] } = options;
    return this.#insert({
      comm,
      parent: this.#processes.get(1),
      credentials: new Credentials(uid, gid, groups),
      limits: new Limits(options.limits),
      mm: new AddressSpace(this.host, this.memory, options.byteOrder ?? this.#byteOrder),
    });
  }

  /** Makes a child of `parent`, with a copy of its memory and without descriptors. */
  adopt(parent: Process, comm: string): Process {
    this.host.faults.check('copy_process:task', 'EAGAIN');
    return this.#insert({
      comm,
      parent,
      credentials: parent.credentials.clone(),
      limits: parent.limits.clone(),
      mm: parent.mm.fork(),
    });
  }

  /** The process of that number, while it lives. */
  get(pid: number): Process | undefined {
    return this.#processes.get(pid);
  }

  /** All that live, oldest first. */
  all(): Process[] {
    return [...this.#processes.values()];
  }

  /** Called by a process that has ended. */
  remove(process: Process): void {
    this.#processes.delete(process.pid);
  }

  /** A number for a new eventfd's fdinfo. */
  nextEventfdId(): number {
    return this.#nextEventfd++;
  }

  #insert(parts: Omit<ConstructorParameters<typeof Process>[1], 'pid'>): Process {
    const process = new Process(this, { ...parts, pid: this.#nextPid++ });
    this.#processes.set(process.pid, process);
    return process;
  }
}
