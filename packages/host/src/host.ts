/*
 * One machine with a kernel on it: the seams, and on them memory, file systems, driver core, modules, IOMMU and
 * processes. A host owns everything; two of them in one program share nothing. Whoever ends one learns what its
 * users and drivers forgot.
 */
import type { Clock } from './clock.js';
import { DeviceCore, type DeviceCoreOptions } from './drivers/device-core.js';
import { Uevents } from './drivers/uevents.js';
import { isSystemError, KernelBug } from './errors.js';
import type { Faults } from './faults.js';
import { type CharDeviceOptions, CharDevices } from './fs/chrdevs.js';
import { Devtmpfs } from './fs/devtmpfs.js';
import { ProcFs } from './fs/proc.js';
import { TmpfsDirectory } from './fs/tmpfs.js';
import { Vfs } from './fs/vfs.js';
import { BusMemory } from './iommu/bus-memory.js';
import type { DmaMemory } from './iommu/dma.js';
import { Iommu } from './iommu/iommu.js';
import { IommuSysfs } from './iommu/iommu-sysfs.js';
import type { IommuOptions } from './iommu/unit.js';
import { InterruptController, type InterruptOptions } from './irq/controller.js';
import { Kvm } from './kvm/kvm.js';
import type { KernelLog } from './log.js';
import { MiscDevices } from './misc.js';
import type { ByteOrder } from './mm/layout.js';
import { PhysicalMemory, type PhysicalMemoryOptions } from './mm/physical-memory.js';
import { Modules } from './modules/modules.js';
import type { Process } from './process/process.js';
import { ProcessTable, type SpawnOptions } from './process/process-table.js';
import { Syscalls } from './process/syscalls.js';
import type { Scheduler } from './scheduler.js';
import { createSeams, type Seams, type SeamsOptions } from './seams.js';
import type { Lockdep } from './sync/lockdep.js';
import { Debugfs } from './sysfs/debugfs.js';
import { Sysfs } from './sysfs/sysfs.js';
import type { Leak, Tracker } from './tracker.js';

/** What a host is made of. */
export interface HostOptions
  extends SeamsOptions,
    PhysicalMemoryOptions,
    InterruptOptions,
    DeviceCoreOptions,
    CharDeviceOptions {
  /** Byte order of the machine, and of its processes unless they say otherwise. Default: little. */
  readonly byteOrder?: ByteOrder;
  /** The first IOMMU unit. Default: none; `host.iommu.addUnit` adds some later. */
  readonly iommu?: IommuOptions;
  /** Release of the kernel that the host answers like, for /proc/version. Default: the one it was checked against. */
  readonly release?: string;
}

/** The release whose behaviour the host has. */
const KERNEL_RELEASE = '7.2.13';

/** Time of day after which a removal of modules is looked at, in milliseconds. */
const HUNG_AFTER_MS = 2000;
/** How many leaks a report lists. */
const LEAKS_LISTED = 20;

/** How much it says of where each came from. */
const FRAMES_LISTED = 5;

/** A machine. `await using host = new Host();` ends it with its scope, and complains of leaks in checked mode. */
export class Host implements Seams, AsyncDisposable {
  readonly checked: boolean;
  readonly clock: Clock;
  readonly log: KernelLog;
  readonly faults: Faults;
  readonly scheduler: Scheduler;
  readonly tracker: Tracker;
  readonly lockdep: Lockdep;

  /** Release of the kernel. */
  readonly release: string;
  readonly memory: PhysicalMemory;
  /** The same memory, as bus masters reach it. */
  readonly busMemory: DmaMemory;
  readonly sysfs: Sysfs;
  readonly debugfs: Debugfs;
  readonly uevents: Uevents;
  readonly chrdevs: CharDevices;
  readonly devtmpfs: Devtmpfs;
  readonly vfs: Vfs;
  readonly processes: ProcessTable;
  /** Where system calls can be watched. */
  readonly syscalls: Syscalls;
  readonly procfs: ProcFs;
  readonly irq: InterruptController;
  readonly iommu: Iommu;
  readonly devices: DeviceCore;
  /** IOMMU units as devices. */
  readonly iommuSysfs: IommuSysfs;
  readonly misc: MiscDevices;
  readonly modules: Modules;
  /** Virtual machines, once module kvm is loaded. */
  readonly kvm: Kvm;
  /** Process 1, root's. */
  readonly init: Process;
  readonly #atShutdown: (() => void | Promise<void>)[] = [];
  #shutdown: Promise<Leak[]> | undefined;

  constructor(options: HostOptions = {}) {
    const seams = createSeams(options);
    this.checked = seams.checked;
    this.clock = seams.clock;
    this.log = seams.log;
    this.faults = seams.faults;
    this.scheduler = seams.scheduler;
    this.tracker = seams.tracker;
    this.lockdep = seams.lockdep;
    this.release = options.release ?? KERNEL_RELEASE;

    this.memory = new PhysicalMemory(this, options);
    this.sysfs = new Sysfs(this);
    this.debugfs = new Debugfs(this, this.sysfs);
    this.uevents = new Uevents(this);
    this.chrdevs = new CharDevices(this, options);
    this.devtmpfs = new Devtmpfs(this, this.chrdevs);
    this.irq = new InterruptController(this, options);
    this.busMemory = new BusMemory(this.memory);
    this.iommu = new Iommu(
      { seams: this, memory: this.busMemory, sysfs: this.sysfs, doorbell: this.irq },
      options.iommu,
    );
    this.devices = new DeviceCore(this, options);
    this.iommuSysfs = new IommuSysfs(this);
    this.misc = new MiscDevices(this);
    this.modules = new Modules(this);
    this.kvm = new Kvm(this);
    this.modules.define(this.kvm.module());

    const root = new TmpfsDirectory('/');
    for (const mountPoint of ['dev', 'proc', 'sys']) root.mkdir(mountPoint, 0o555);
    root.mkdir('tmp', 0o1777);
    this.vfs = new Vfs(root);
    this.syscalls = new Syscalls();
    this.processes = new ProcessTable(this, {
      memory: this.memory,
      vfs: this.vfs,
      byteOrder: options.byteOrder ?? 'little',
    });
    this.procfs = new ProcFs(this.processes);
    this.vfs.mount('/dev', this.devtmpfs.root);
    this.vfs.mount('/proc', this.procfs.root);
    this.vfs.mount('/sys', this.sysfs.root);
    this.vfs.mount(this.debugfs.path, this.debugfs.root);
    this.procfs.addFile('devices', () => this.chrdevs.devicesText());
    this.procfs.addFile('misc', () => this.chrdevs.miscText());
    this.procfs.addFile('modules', () => this.modules.procText());
    this.procfs.addFile('version', () => `Linux version ${this.release}\n`);
    this.init = this.processes.spawn({ comm: 'init' });
  }

  /**
   * Makes a process of root, or of the user given, with nothing open; a child of `init`.
   *
   * @throws EAGAIN - a fault was injected
   */
  spawn(options: SpawnOptions = {}): Process {
    return this.processes.spawn(options);
  }

  /**
   * Has `fn` called by `shutdown`, when all processes and modules are gone: for hardware that somebody put into
   * the machine and takes out again. What was added last is called first.
   */
  atShutdown(fn: () => void | Promise<void>): void {
    this.#atShutdown.push(fn);
  }

  /**
   * Ends the machine: all processes are killed, modules are removed in reverse order of loading, hardware is taken
   * out. Each step is tried, whatever became of those before. Calling it again gives the same answer.
   *
   * @returns what somebody should have given back; a module that is still in use is in the log too
   * @throws whatever a step threw other than a module's refusal to go; an `AggregateError` when several did
   * @throws KernelBug('leak') - a module waits for a reference that nobody is left to give back; in checked mode only
   */
  shutdown(): Promise<Leak[]> {
    this.#shutdown ??= this.#end();
    return this.#shutdown;
  }

  /**
   * `shutdown`, and in checked mode a complaint about what it found.
   *
   * @throws KernelBug('leak') - something was not given back; in checked mode only
   * @throws what brought down a work item or a timer that nobody waited for; in checked mode only
   */
  async [Symbol.asyncDispose](): Promise<void> {
    const leaks = await this.shutdown();
    if (!this.checked) return;
    throwAll(this.log.oopses, 'tasks died');
    if (leaks.length > 0) throw leakBug(leaks);
  }

  async #end(): Promise<Leak[]> {
    const errors: unknown[] = [];
    const attempt = async (step: () => void | Promise<void>) => {
      try {
        await step();
      } catch (error) {
        errors.push(error);
      }
    };
    // All at once: the last call of one may be what another one's waits for.
    await Promise.all(this.processes.all().map((process) => attempt(() => process.kill())));
    await this.#unlessHung(this.#removeModules(attempt));
    for (const step of this.#atShutdown.reverse()) await attempt(step);
    // What was put off to a later turn of the event loop still belongs to this life.
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
    this.lockdep.end();
    throwAll(errors, 'steps of the shutdown failed');
    return this.tracker.leaks();
  }

  /**
   * Waits for modules to go. Who would give a reference back that one of them waits for is gone by now: in checked mode
   * that is reported, where a kernel would have a hung task.
   */
  async #unlessHung(removal: Promise<void>): Promise<void> {
    if (!this.checked) return await removal;
    let timer: NodeJS.Timeout | undefined;
    const patience = new Promise<'hung'>((resolve) => {
      timer = setTimeout(() => resolve('hung'), HUNG_AFTER_MS);
    });
    try {
      if ((await Promise.race([removal, patience])) !== 'hung') return;
    } finally {
      clearTimeout(timer);
    }
    const held = this.tracker.leaks().filter(({ kind }) => kind === 'reference');
    if (held.length > 0) throw leakBug(held);
    await removal;
  }

  async #removeModules(attempt: (step: () => Promise<void>) => Promise<void>): Promise<void> {
    const names = this.modules
      .loaded()
      .filter(({ spec }) => !spec.builtin)
      .map(({ name }) => name);
    for (const name of names.reverse()) {
      await attempt(async () => {
        try {
          await this.modules.rmmod(name);
        } catch (error) {
          if (!isSystemError(error)) throw error;
          this.log.err(`module ${name} stays at shutdown: ${error.message}`);
        }
      });
    }
  }
}

function throwAll(errors: readonly unknown[], what: string): void {
  if (errors.length === 1) throw errors[0];
  if (errors.length > 1) throw new AggregateError(errors, `${errors.length} ${what}`);
}

function leakBug(leaks: readonly Leak[]): KernelBug {
  const listed = leaks.slice(0, LEAKS_LISTED).map(({ kind, what, origin }) => {
    const from = origin?.split('\n').slice(0, FRAMES_LISTED) ?? [];
    return [`  ${kind}: ${what}`, ...from.map((frame) => `    ${frame}`)].join('\n');
  });
  const more = leaks.length > LEAKS_LISTED ? [`  and ${leaks.length - LEAKS_LISTED} more`] : [];
  return new KernelBug('leak', [`${leaks.length} not given back`, ...listed, ...more].join('\n'), {
    origin: leaks[0]?.origin,
  });
}
