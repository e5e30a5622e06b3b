// The machines that scripts ask for: the file that the header names, with the header's modules and a clock that only the
// script moves.

import type { DriverPackage } from '@vfio/core';
import { type Process, VirtualClock } from '@vfio/host';
import { Machine } from '@vfio/machine';
import { modulesNeeded, type ReplayMachine, type ScriptHeader, usesIommufd } from '@vfio/testing';
import { CommandError } from '../errors.js';
import { findUpward } from './scripts.js';

/** What machines for scripts are made with. */
export interface ScriptMachinesOptions {
  readonly drivers: readonly DriverPackage[];
  /** Looks for misuse and leaks. Default: true. */
  readonly checked?: boolean;
}

/** A machine for one script. */
export interface ScriptMachine extends ReplayMachine {
  readonly machine: Machine;
  readonly process: Process;
  readonly clock: VirtualClock;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Makes machines for scripts. */
export class ScriptMachines {
  readonly #options: ScriptMachinesOptions;
  readonly #known = new Map<boolean, Promise<ReadonlySet<string>>>();

  constructor(options: ScriptMachinesOptions) {
    this.#options = options;
  }

  /** Modules that a script needs and that no installed package offers. */
  async missingModules(header: ScriptHeader): Promise<string[]> {
    const known = await this.#knownModules(usesIommufd(header));
    return modulesNeeded(header)
      .map(({ name }) => name)
      .filter((name) => !known.has(name));
  }

  /**
   * Makes the machine for a script.
   *
   * @param script - path of the script, from which machine files are looked for upward
   * @throws CommandError - the header names no machine, or one without a file
   * @throws MachineFileError
   */
  async create(script: string, header: ScriptHeader): Promise<ScriptMachine> {
    const file = this.machineFile(script, header);
    const clock = new VirtualClock();
    const { drivers, checked = true } = this.#options;
    const machine = await Machine.load(file, {
      drivers,
      checked,
      clock,
      modules: modulesNeeded(header),
      ...(usesIommufd(header) ? { vfio: { iommufd: true, deviceCdev: true } } : {}),
    });
    return { machine, clock, process: machine.process(), [Symbol.asyncDispose]: () => machine[Symbol.asyncDispose]() };
  }

  /** The machine file of a script. */
  machineFile(script: string, { machine: name }: ScriptHeader): string {
    if (name === undefined) throw new CommandError(`${script}: its header names no machine: add '#@ machine NAME'`);
    const file = findUpward(script, `machines/${name}.yaml`);
    if (file === undefined) throw new CommandError(`${script}: no machines/${name}.yaml beside it or above`);
    return file;
  }

  /** Modules of VFIO and of the installed packages. */
  #knownModules(iommufd: boolean): Promise<ReadonlySet<string>> {
    const known = this.#known.get(iommufd) ?? this.#askMachine(iommufd);
    this.#known.set(iommufd, known);
    return known;
  }

  async #askMachine(iommufd: boolean): Promise<ReadonlySet<string>> {
    const { drivers } = this.#options;
    const machine = await Machine.load(
      { version: 1 },
      { drivers, modules: [], vfio: { iommufd, deviceCdev: iommufd } },
    );
    const names = machine.host.modules.known();
    await machine.shutdown();
    return new Set(names);
  }
}
