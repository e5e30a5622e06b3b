import type { ExerciseStep } from '@vfio/core';
import type { InventoryEntry, Machine } from '@vfio/machine';
import { aborted } from '../abort.js';
import { defineCommand, type View, type ViewOptions } from '../command.js';
import { CommandError, Exit } from '../errors.js';
import { inProcess } from '../files.js';
import { findDevice } from '../naming.js';
import type { Terminal } from '../output/terminal.js';
import { list, object, text } from '../shape.js';

/** A device on which something is tried. */
export interface ExercisedDevice {
  readonly address: string;
  readonly driver: string | null;
  readonly vfio: string;
}

/** What `exercise` tells on the way: a device that it begins with, or a step. */
export type ExerciseEvent =
  | { readonly device: ExercisedDevice }
  | { readonly device: ExercisedDevice; readonly step: ExerciseStep };

/** What came of one device. */
export interface ExerciseSummary extends ExercisedDevice {
  readonly steps: number;
  readonly failed: number;
}

/**
 * Exercises devices, one after the other, each in a process of its own.
 *
 * @param names - address, UUID or vfioN; all that VFIO knows if there are none
 * @throws CommandError - there is no such device, or it is bound to no VFIO driver
 */
export async function* runExercise(
  machine: Machine,
  names: readonly string[] = [],
  signal: AbortSignal = new AbortController().signal,
): AsyncGenerator<ExerciseEvent, ExerciseSummary[], undefined> {
  const summaries: ExerciseSummary[] = [];
  for (const device of await chosen(machine, names, signal)) {
    yield { device };
    let steps = 0;
    let failed = 0;
    for await (const step of interruptible(machine.exercise(device.address), signal)) {
      steps++;
      if (!step.ok) failed++;
      yield { device, step };
    }
    summaries.push({ ...device, steps, failed });
  }
  return summaries;
}

async function chosen(machine: Machine, names: readonly string[], signal: AbortSignal): Promise<ExercisedDevice[]> {
  const inventory = await machine.devices();
  const registered = inventory.flatMap(asExercised);
  if (names.length === 0) {
    if (registered.length === 0) throw new CommandError('no device is bound to a VFIO driver: see vfio ls');
    return registered;
  }
  const addresses = await inProcess({ machine, signal }, async (process) =>
    names.map((name) => findDevice(process, name).address),
  );
  return addresses.map((address) => {
    const device = registered.find((one) => one.address === address);
    if (!device) throw new CommandError(`${address} is bound to no VFIO driver: vfio bind ${address} <driver>`);
    return device;
  });
}

function asExercised({ address, driver, vfio }: InventoryEntry): ExercisedDevice[] {
  return vfio === undefined ? [] : [{ address, driver: driver ?? null, vfio }];
}

/** Ends with the signal even where a step does not come back. */
async function* interruptible<T>(source: AsyncGenerator<T, void>, signal: AbortSignal): AsyncGenerator<T, void> {
  for (;;) {
    const next = source.next();
    const { done, value } = await Promise.race([next, aborted(signal, next)]);
    if (done) return;
    yield value;
  }
}

/** `vfio exercise` */
export const exercise = defineCommand<{ devices: readonly string[] }, ExerciseEvent, readonly ExerciseSummary[]>({
  words: ['exercise'],
  summary: 'drive devices as a VMM would: open, info, regions, irqs, DMA, migration, reset, close',
  examples: [
    ['vfio exercise', 'all devices that are bound to a VFIO driver'],
    ['vfio exercise vfio0', 'one of them'],
    ['vfio exercise -m lab.yaml --json', 'on a machine of its own, one line of JSON for each step'],
  ],
  configure: (command) => {
    command.argument('[device...]', 'address, UUID or vfioN').option('--json', 'one line of JSON for each step');
  },
  parse: (operands) => ({ devices: [...operands] }),
  shape: object({ devices: list(text(256)) }),

  async run({ machine, signal, emit }, { devices }) {
    const run = runExercise(machine, devices, signal);
    for (;;) {
      const next = await run.next();
      if (next.done) return next.value;
      emit(next.value);
    }
  },

  view: exerciseView,
});

function exerciseView(
  terminal: Terminal,
  { json }: Pick<ViewOptions, 'json'>,
): View<ExerciseEvent, readonly ExerciseSummary[]> {
  const { bold, green, red, dim } = terminal.colours;
  const progress = terminal.progress('opening the device');
  return {
    event(event) {
      const { device } = event;
      if (!('step' in event)) {
        progress.update(`exercising ${device.address}`);
        if (!json) terminal.print(`${bold(device.address)} ${dim([device.driver, device.vfio].join(', '))}`);
        return;
      }
      const { name, ok, detail } = event.step;
      progress.update(`exercising ${device.address}, after '${name}'`);
      if (json) terminal.jsonLine({ device: device.address, ...event.step });
      else terminal.print(`  ${ok ? green('ok    ') : red('failed')}  ${name.padEnd(20)}  ${detail ?? ''}`.trimEnd());
    },
    result(summaries) {
      progress[Symbol.dispose]();
      const failed = summaries.reduce((sum, one) => sum + one.failed, 0);
      if (failed > 0) terminal.note(`vfio: ${failed} steps failed: vfio dmesg may say why`);
      return failed > 0 ? Exit.FAILED : Exit.OK;
    },
  };
}
