// A machine with sysfs, a driver core and modules, for their tests; root's shell on it, that answers as the scripts do.

import { expect } from 'vitest';
import { CharDevices } from '../src/fs/chrdevs.js';
import { Devtmpfs } from '../src/fs/devtmpfs.js';
import { TmpfsDirectory } from '../src/fs/tmpfs.js';
import { Vfs } from '../src/fs/vfs.js';
import {
  type Attribute,
  createSeams,
  DeviceCore,
  type DeviceCoreOptions,
  type Host,
  Modules,
  type Process,
  type Seams,
  Sysfs,
  Uevents,
  VirtualClock,
} from '../src/index.js';
import { PhysicalMemory } from '../src/mm/physical-memory.js';
import { ProcessTable } from '../src/process/process-table.js';

const marks = { dir: '/', file: '', link: '@', char: '%' };

/** The machine. */
export class TestMachine {
  readonly seams: Seams = createSeams({ checked: true, clock: new VirtualClock() });
  readonly sysfs = new Sysfs(this.seams);
  readonly uevents = new Uevents(this.seams);
  readonly devtmpfs = new Devtmpfs(this.seams, new CharDevices(this.seams));
  readonly host = { ...this.seams, sysfs: this.sysfs, uevents: this.uevents, devtmpfs: this.devtmpfs };
  readonly devices: DeviceCore;
  readonly modules = new Modules(this.host);
  readonly processes: ProcessTable;
  /** Root. */
  readonly process: Process;

  constructor(options: DeviceCoreOptions = {}) {
    this.devices = new DeviceCore(this.host, options);
    const root = new TmpfsDirectory('/');
    const vfs = new Vfs(root);
    for (const name of ['sys', 'dev']) root.add(name, new TmpfsDirectory(`/${name}`));
    vfs.mount('/sys', this.sysfs.root);
    vfs.mount('/dev', this.devtmpfs.root);
    const memory = new PhysicalMemory(this.seams);
    // Only its seams are asked of the host here.
    this.processes = new ProcessTable(this.seams as Host, { memory, vfs });
    this.process = this.processes.spawn({ comm: 'sh' });
  }

  cat(path: string, by = this.process): Promise<string> {
    return by.readFile(path);
  }

  echo(path: string, text: string, by = this.process): Promise<number> {
    return by.writeFile(path, text);
  }

  /** Names, sorted, with a mark for the kind. */
  ls(path: string): string[] {
    return this.process
      .readdir(path)
      .map(({ name, kind }) => name + marks[kind])
      .sort();
  }

  readlink(path: string): string {
    return this.process.readlink(path);
  }

  /** All that is below /sys and /dev, and all that is tracked except processes. */
  state(): string[] {
    const leaks = this.seams.tracker.leaks().map(({ kind, what }) => `${kind}: ${what}`);
    return [...this.#tree('/sys'), ...this.#tree('/dev'), ...leaks];
  }

  #tree(path: string): string[] {
    return this.process.readdir(path).flatMap(({ name, kind }) => {
      const below = `${path}/${name}`;
      if (kind === 'dir') return [`${below}/`, ...this.#tree(below)];
      return [kind === 'link' ? `${below} -> ${this.readlink(below)}` : below];
    });
  }
}

/** What an error of a system call looks like. */
export function errno(code: string): unknown {
  return expect.objectContaining({ code });
}

/** Lets everybody run who can. */
export async function tick(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await undefined;
}

/** A read-only attribute. */
export function attribute(name: string, text = `${name}\n`): Attribute {
  return { name, mode: 0o444, show: () => text };
}

/**
 * Lets each fallible step of `act` fail once, on a fresh machine each time, and looks whether all is as before.
 *
 * @param prepare - makes what `act` needs
 * @param act - may fail with the errno of the step, or get over it; what it made it takes back itself
 * @returns the names of the steps
 */
export async function everyStepFails<T>(
  prepare: (machine: TestMachine) => T | Promise<T>,
  act: (machine: TestMachine, prepared: T) => Promise<void>,
): Promise<string[]> {
  const first = new TestMachine();
  const prepared = await prepare(first);
  const before = first.state();
  const recording = first.seams.faults.record();
  await act(first, prepared);
  recording.stop();
  expect(first.state()).toEqual(before);
  for (const [index, step] of recording.steps.entries()) {
    const machine = new TestMachine();
    const again = await prepare(machine);
    const arm = machine.seams.faults.failAt(index);
    const outcome = await act(machine, again).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(arm.step).toBe(step.name);
    if (outcome !== undefined) expect([step.name, outcome]).toEqual([step.name, errno(step.code)]);
    await machine.devices.settle();
    expect([step.name, machine.state()]).toEqual([step.name, before]);
    expect(machine.seams.log.warnings()).toEqual([]);
  }
  return recording.steps.map(({ name }) => name);
}
