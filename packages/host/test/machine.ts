// A machine with sysfs, a driver core and modules, for their tests; root's shell on it, that answers as the scripts do.

import { expect } from 'vitest';
import { type Attribute, Host, type HostOptions, type Process, type Uevent, VirtualClock } from '../src/index.js';

const marks = { dir: '/', file: '', link: '@', char: '%' };

/** The machine. */
export class TestMachine {
  readonly host: Host;
  readonly sysfs: Host['sysfs'];
  readonly uevents: Host['uevents'];
  readonly devices: Host['devices'];
  readonly modules: Host['modules'];
  /** Root. */
  readonly process: Process;
  /** Number of the last uevent of the boot. */
  readonly #boot: number;

  constructor(options: HostOptions = {}) {
    this.host = new Host({ checked: true, clock: new VirtualClock(), ...options });
    ({ sysfs: this.sysfs, uevents: this.uevents, devices: this.devices, modules: this.modules } = this.host);
    this.process = this.host.spawn({ comm: 'sh' });
    this.#boot = this.uevents.seqnum;
  }

  /** Uevents since the machine was made. */
  events(): Uevent[] {
    return this.uevents.emitted.filter(({ seqnum }) => seqnum > this.#boot);
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
    const leaks = this.host.tracker.leaks().map(({ kind, what }) => `${kind}: ${what}`);
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
  const recording = first.host.faults.record();
  await act(first, prepared);
  recording.stop();
  expect(first.state()).toEqual(before);
  for (const [index, step] of recording.steps.entries()) {
    const machine = new TestMachine();
    const again = await prepare(machine);
    const arm = machine.host.faults.failAt(index);
    const outcome = await act(machine, again).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(arm.step).toBe(step.name);
    if (outcome !== undefined) expect([step.name, outcome]).toEqual([step.name, errno(step.code)]);
    await machine.devices.settle();
    expect([step.name, machine.state()]).toEqual([step.name, before]);
    expect(machine.host.log.warnings()).toEqual([]);
  }
  return recording.steps.map(({ name }) => name);
}
