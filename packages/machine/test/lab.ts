// What tests of machines share: a driver package with model devices, files in a folder that goes with the test.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { DriverPackage, ExerciseStep, ExerciseTarget, MachineContext } from '@vfio/core';
import { ModelBus, type ModelBusOptions } from '../../client/test/model-bus.js';
import type { ModelDevice } from '../../client/test/model-device.js';
import { Machine, type MachineFile } from '../src/index.js';

/** The section of the fake driver package. */
export interface ModelSection {
  readonly devices?: readonly { readonly name: string }[];
}

/** A driver package, and what happened to it. */
export interface ModelPackage extends DriverPackage<ModelSection> {
  readonly calls: string[];
  readonly contexts: MachineContext[];
  model(name: string): ModelDevice;
}

/** Makes a driver package for section `model`. */
export function modelPackage(
  options: ModelBusOptions & { readonly onDefine?: (machine: MachineContext) => void } = {},
): ModelPackage {
  const { onDefine, ...model } = options;
  const calls: string[] = [];
  const contexts: MachineContext[] = [];
  let bus: ModelBus | undefined;
  const theBus = (): ModelBus => {
    if (!bus) throw new Error('define was not called');
    return bus;
  };
  return {
    package: '@vfio/model',
    section: 'model',
    schema: {
      type: 'object',
      additionalProperties: false,
      properties: {
        devices: {
          type: 'array',
          items: {
            type: 'object',
            additionalProperties: false,
            required: ['name'],
            properties: { name: { type: 'string', pattern: '^model[0-9]+$' } },
          },
        },
      },
    },
    modules: ['model'],
    calls,
    contexts,
    model: (name) => theBus().model(name),
    define(context) {
      calls.push('define');
      contexts.push(context);
      bus = new ModelBus(context.host, context.vfio, model);
      bus.define();
      onDefine?.(context);
    },
    async build(context, section) {
      calls.push(`build ${JSON.stringify(section)}`);
      await theBus().addBus();
      for (const { name } of section.devices ?? []) await theBus().addDevice(name);
      await context.host.modules.modprobe('model');
    },
    exercise: (target) => (target.address.startsWith('model') ? exerciseModel(target) : undefined),
  };
}

async function* exerciseModel({ address, process, device }: ExerciseTarget): AsyncGenerator<ExerciseStep, void> {
  const bytes = await device.readRegion(2, 0, 4);
  yield { name: 'own', ok: bytes[3] === 3, detail: `${address} in ${process.comm}, ROM of ${device.name}` };
}

/** A machine with a model device. */
export function loadModel(
  options: ModelBusOptions & { readonly file?: Partial<MachineFile>; readonly clock?: never } = {},
): Promise<Machine> {
  const { file = {}, ...model } = options;
  const section: ModelSection = { devices: [{ name: 'model0' }] };
  return Machine.load({ version: 1, model: section, ...file }, { drivers: [modelPackage(model)], checked: true });
}

/** Steps of an exercise, by name. */
export async function stepsOf(machine: Machine, address: string): Promise<Map<string, ExerciseStep>> {
  const steps = new Map<string, ExerciseStep>();
  for await (const step of machine.exercise(address)) steps.set(step.name, step);
  return steps;
}

/** A folder with files, which goes when it is disposed of. */
export class Folder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'vfio-machine-'));

  /** Writes a file, and the folders above it; returns its path. */
  write(name: string, text: string): string {
    const path = join(this.path, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    return path;
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
