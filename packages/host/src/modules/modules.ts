/*
 * Which modules there are and which are loaded. Loading one loads what it needs first; removing one is refused while
 * somebody uses it.
 */
import type { Uevents } from '../drivers/uevents.js';
import { isSystemError, SystemError } from '../errors.js';
import type { Seams } from '../seams.js';
import { Completion } from '../sync/completion.js';
import type { Sysfs } from '../sysfs/sysfs.js';
import { Undo } from '../undo.js';
import { Module, type ModuleSpec } from './module.js';
import { addModuleFiles, CORE_SIZE } from './module-sysfs.js';
import { Param } from './params.js';

/** What the registry needs of a host. */
export interface ModulesHost extends Seams {
  readonly sysfs: Sysfs;
  readonly uevents: Uevents;
}

/** The modules of a host. */
export class Modules {
  readonly #host: ModulesHost;
  readonly #specs = new Map<string, ModuleSpec>();
  readonly #aliases = new Map<string, string>();
  /** In the order in which they were loaded. */
  readonly #modules = new Map<string, Module>();
  /** Those whose load has not ended yet. */
  readonly #loading = new Map<string, Completion>();

  constructor(host: ModulesHost) {
    this.#host = host;
  }

  /**
   * Makes a module known, as a file below /lib/modules is. Nothing is loaded.
   *
   * @throws RangeError - there is one of that name
   */
  define(spec: ModuleSpec): void {
    const name = canonical(spec.name);
    if (this.#specs.has(name)) throw new RangeError(`module ${name} is defined twice`);
    this.#specs.set(name, name === spec.name ? spec : { ...spec, name });
    for (const alias of spec.aliases ?? []) this.#aliases.set(alias, name);
  }

  /** Names of the modules that could be loaded, or are. */
  known(): string[] {
    return [...this.#specs.keys()];
  }

  /** The modules that are loaded, in the order in which they were. */
  loaded(): Module[] {
    return [...this.#modules.values()];
  }

  /** A module that is loaded, or on its way in or out. */
  get(name: string): Module | undefined {
    return this.#modules.get(canonical(name));
  }

  /**
   * Loads a module, after those that it needs. A module that is loaded already stays as it is.
   *
   * @param name - `-` and `_` are the same; aliases are known too
   * @param params - as on the command line; a parameter that the module does not have is only logged
   * @throws ENOENT - no such module
   * @throws ELOOP - it needs itself
   * @throws EINVAL, ERANGE, ENOSPC - a parameter can not be set to this
   * @throws EBUSY - it is just being removed, or a load that was under way failed
   * @throws ENOMEM
   * @throws whatever its `init` threw; what it needs stays loaded
   */
  async modprobe(name: string, params: Readonly<Record<string, string>> = {}): Promise<Module> {
    return await this.#host.lockdep.enter(`modprobe ${name}`, () => this.#modprobe(name, params, []));
  }

  /**
   * Loads what modules that are loaded would like to have after them, as an administrator's modprobe does. One that is not
   * known, or fails, is passed over.
   */
  async loadSoftDependencies(): Promise<void> {
    for (const { spec } of this.loaded()) {
      for (const name of spec.softPost ?? []) {
        if (this.get(name) || !this.#specs.has(canonical(name))) continue;
        try {
          await this.modprobe(name);
        } catch (error) {
          if (!isSystemError(error)) throw error;
        }
      }
    }
  }

  /**
   * Removes a module. What it needed stays loaded.
   *
   * @throws ENOENT - it is not loaded
   * @throws EWOULDBLOCK - another module needs it, or somebody uses it
   * @throws EBUSY - it is just being loaded or removed
   * @source kernel/module/main.c delete_module
   */
  async rmmod(name: string): Promise<void> {
    await this.#host.lockdep.enter(`rmmod ${name}`, () => this.#rmmod(canonical(name)));
  }

  /** The text of /proc/modules, last loaded first, their holders too. Source: kernel/module/procfs.c m_show() */
  procText(): string {
    const lines = this.loaded()
      .filter((module) => !module.spec.builtin)
      .map((module) => {
        const holders = [...module.holders].map((holder) => `${holder.name},`).reverse();
        const state = { live: 'Live', coming: 'Loading', going: 'Unloading' }[module.state];
        return `${module.name} ${CORE_SIZE} ${module.refcount} ${holders.join('') || '-'} ${state} 0x0000000000000000\n`;
      });
    return lines.reverse().join('');
  }

  async #modprobe(wanted: string, params: Readonly<Record<string, string>>, above: string[]): Promise<Module> {
    const name = this.#aliases.get(wanted) ?? canonical(wanted);
    const spec = this.#specs.get(name);
    if (!spec) throw new SystemError('ENOENT', `module ${name} is not known`);
    if (above.includes(name)) throw new SystemError('ELOOP', `modules need each other: ${[...above, name].join(', ')}`);
    const module = await this.#loadedOrComing(name);
    if (module) return module;
    const needed: Module[] = [];
    for (const dependency of spec.depends ?? []) {
      needed.push(await this.#modprobe(dependency, {}, [...above, name]));
    }
    // What it needs took its time: somebody else may have been here, or be at it.
    while (this.#modules.has(name)) {
      const other = await this.#loadedOrComing(name);
      if (other) return other;
    }
    return await this.#load(spec, params, needed);
  }

  /** Waits for a load that is under way. */
  async #loadedOrComing(name: string): Promise<Module | undefined> {
    const before = this.#modules.get(name);
    const loading = this.#loading.get(name);
    if (loading) {
      await loading.wait();
      if (this.#modules.get(name) !== before || before?.state !== 'live') {
        throw new SystemError('EBUSY', `the load of ${name} that was under way failed`);
      }
    }
    if (before?.state === 'going') throw new SystemError('EBUSY', `module ${name} is being removed`);
    return before;
  }

  /** Source: kernel/module/main.c load_module(), do_init_module() */
  async #load(spec: ModuleSpec, params: Readonly<Record<string, string>>, needed: readonly Module[]): Promise<Module> {
    const host = this.#host;
    const { name } = spec;
    const loading = new Completion(host, `load of ${name}`);
    await using undo = new Undo();
    host.faults.check(`load_module:${name}`);
    for (const dependency of needed) {
      if (dependency.state !== 'live') throw new SystemError('EBUSY', `module ${dependency.name} is being removed`);
    }
    const parameters = parseArguments(host, spec, params);
    const sysfs = host.sysfs.module.mkdir(name);
    undo.add(async () => {
      sysfs.remove();
      await sysfs.drained();
    });
    const module = new Module(host.tracker, spec, sysfs, parameters);
    this.#modules.set(name, module);
    this.#loading.set(name, loading);
    undo.add(() => {
      this.#modules.delete(name);
      this.#loading.delete(name);
      loading.completeAll();
    });
    addModuleFiles(host, host.uevents, module);
    for (const dependency of needed) {
      this.#hold(dependency, module);
      undo.add(() => this.#unhold(dependency, module));
    }
    undo.add(async () => {
      module.phase = 'going';
      await module.undo[Symbol.asyncDispose]();
    });
    await spec.init({ module, undo: module.undo });
    undo.keep();
    module.phase = 'live';
    this.#loading.delete(name);
    loading.completeAll();
    host.uevents.emit('add', { devpath: sysfs.devpath(), subsystem: 'module' });
    return module;
  }

  async #rmmod(name: string): Promise<void> {
    const module = this.#modules.get(name);
    if (!module || module.spec.builtin) throw new SystemError('ENOENT', `module ${name} is not loaded`);
    if (module.holders.size > 0) {
      const names = [...module.holders].map((holder) => holder.name).join(', ');
      throw new SystemError('EWOULDBLOCK', `module ${name} is needed by ${names}`);
    }
    if (module.state !== 'live') throw new SystemError('EBUSY', `module ${name} is ${module.state}`);
    if (module.refcount > 0) throw new SystemError('EWOULDBLOCK', `module ${name} is in use: ${module.refcount}`);
    module.phase = 'going';
    try {
      await using _undo = module.undo;
      await module.spec.exit?.();
    } finally {
      const { sysfs } = module;
      for (const dependency of this.loaded()) this.#unhold(dependency, module);
      this.#host.uevents.emit('remove', { devpath: sysfs.devpath(), subsystem: 'module' });
      sysfs.remove();
      await sysfs.drained();
      this.#modules.delete(name);
    }
  }

  #hold(dependency: Module, module: Module): void {
    if (dependency.spec.builtin) return;
    const holders = dependency.sysfs.lookup('holders');
    if (holders?.kind === 'dir') holders.addLink(module.name, module.sysfs);
    dependency.holders.add(module);
  }

  #unhold(dependency: Module, module: Module): void {
    if (!dependency.holders.delete(module)) return;
    const holders = dependency.sysfs.lookup('holders');
    if (holders?.kind === 'dir') holders.removeEntry(module.name);
  }
}

function canonical(name: string): string {
  return name.replaceAll('-', '_');
}

/** Source: kernel/params.c parse_args(), kernel/module/main.c unknown_module_param_cb() */
function parseArguments(seams: Seams, spec: ModuleSpec, given: Readonly<Record<string, string>>): Map<string, Param> {
  const parameters = new Map(Object.entries(spec.parameters ?? {}).map(([name, one]) => [name, new Param(name, one)]));
  for (const [key, value] of Object.entries(given)) {
    const param = parameters.get(canonical(key));
    if (param) param.parse(value);
    else seams.log.warn(`${spec.name}: unknown parameter '${key}' ignored`);
  }
  return parameters;
}
