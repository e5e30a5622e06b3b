/*
 * A module: its description, and what is loaded of it.
 */
import { KernelBug } from '../errors.js';
import type { SysfsDir } from '../sysfs/dir.js';
import type { Tracked, Tracker } from '../tracker.js';
import { Undo } from '../undo.js';
import type { Param, ParamSpec, ParamTypes, ParamValue } from './params.js';

/** What a module is made of. */
export interface ModuleSpec {
  /** With `_`, as the kernel has it: `vfio_iommu_type1`. */
  readonly name: string;
  /** MODULE_VERSION; a module with a version also has a source version. */
  readonly version?: string;
  /** Symbol namespaces that it imports. */
  readonly importNs?: readonly string[];
  /** Modules that are loaded before it, and stay as long as it does. */
  readonly depends?: readonly string[];
  /** Modules that an administrator's modprobe loads after it, and that it can do without. Source: MODULE_SOFTDEP() */
  readonly softPost?: readonly string[];
  /** Other names that `modprobe` knows it by. */
  readonly aliases?: readonly string[];
  readonly parameters?: Readonly<Record<string, ParamSpec>>;
  /** Part of the kernel: cannot be removed, and /sys/module shows its parameters only. */
  readonly builtin?: boolean;
  /** Starts it. A `SystemError` fails the load, after the steps in `context.undo` were taken back. */
  init(context: ModuleContext): void | Promise<void>;
  /** Called before it is removed; then the steps in the `undo` of its `init` are taken back. */
  exit?(): void | Promise<void>;
}

/** What `init` is given. */
export interface ModuleContext {
  readonly module: Module;
  /** Steps that are taken back, last first, when `init` fails or the module is removed. */
  readonly undo: Pick<Undo, 'add'>;
}

/** Where a module is in its life. A module that is going gives out no more references. */
export type ModuleState = 'coming' | 'live' | 'going';

/** A module that is loaded, or about to be. Source: include/linux/module.h struct module */
export class Module {
  readonly name: string;
  readonly spec: ModuleSpec;
  /** Its own directory, below /sys/module. */
  readonly sysfs: SysfsDir;
  readonly parameters: ReadonlyMap<string, Param>;
  /** The modules that need this one. */
  readonly holders = new Set<Module>();
  /** @internal moved by the registry */
  phase: ModuleState = 'coming';
  /** @internal what takes it down */
  readonly undo = new Undo();
  readonly #tracker: Tracker;
  readonly #references: Tracked[] = [];

  constructor(tracker: Tracker, spec: ModuleSpec, sysfs: SysfsDir, parameters: ReadonlyMap<string, Param>) {
    this.name = spec.name;
    this.spec = spec;
    this.sysfs = sysfs;
    this.parameters = parameters;
    this.#tracker = tracker;
  }

  get state(): ModuleState {
    return this.phase;
  }

  /** What `refcnt` shows: references taken, modules that need it, and one while it is loading. */
  get refcount(): number {
    return this.#references.length + this.holders.size + (this.phase === 'coming' && !this.spec.builtin ? 1 : 0);
  }

  /**
   * Takes a reference, which keeps the module from being removed.
   *
   * @returns false when it is going: then it must not be used
   * @source kernel/module/main.c try_module_get()
   */
  tryGet(): boolean {
    if (this.phase === 'going') return false;
    this.#references.push(this.#tracker.track('module', () => `reference of module ${this.name}`));
    return true;
  }

  /**
   * Gives a reference back.
   *
   * @throws KernelBug('refcount') - there was none
   * @source kernel/module/main.c module_put()
   */
  put(): void {
    const reference = this.#references.pop();
    if (!reference) throw new KernelBug('refcount', `module ${this.name} was put more often than taken`);
    reference.release();
  }

  /**
   * The present value of a parameter.
   *
   * @throws RangeError - the module has no parameter of that name
   */
  param(name: string): ParamValue {
    return this.#param(name).value;
  }

  /**
   * The present value of a parameter of a known type.
   *
   * @throws RangeError - the module has no parameter of that name and type
   */
  paramOf<T extends keyof ParamTypes>(name: string, type: T): ParamTypes[T];
  paramOf(name: string, type: keyof ParamTypes): ParamValue {
    const param = this.#param(name);
    if (param.spec.type !== type) throw new RangeError(`parameter ${name} of ${this.name} is a ${param.spec.type}`);
    return param.value;
  }

  /** @internal a driver of this module was registered */
  addDriver(linkName: string, driver: SysfsDir): void {
    const known = this.sysfs.lookup('drivers');
    const drivers = known?.kind === 'dir' ? known : this.sysfs.mkdir('drivers');
    drivers.addLink(linkName, driver);
  }

  /** @internal a driver of this module was unregistered */
  removeDriver(linkName: string): void {
    const drivers = this.sysfs.lookup('drivers');
    if (drivers?.kind === 'dir') drivers.removeEntry(linkName);
  }

  #param(name: string): Param {
    const param = this.parameters.get(name);
    if (!param) throw new RangeError(`module ${this.name} has no parameter ${name}`);
    return param;
  }
}
