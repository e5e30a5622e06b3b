/* Replays what a real Linux 7.2.13 answered: the kernel's mtty, and the mediated device core below it. */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Machine } from '@vfio/machine';
import { formatReplay, loadDeviations, replayFile, type ScriptHeader } from '@vfio/testing';
import { describe, expect, it } from 'vitest';
import { driverPackage } from '../src/machine.js';

const transcripts = fileURLToPath(new URL('../../../transcripts/', import.meta.url));
const scripts = readdirSync(`${transcripts}scripts`).filter((name) => /^(mtty|mdpy|mbochs)-.*\.vfs$/.test(name));
scripts.push(
  'mdev-exhaust-mtty.vfs',
  'mdev-parent-unload.vfs',
  'mdev-types.vfs',
  'mdev-create.vfs',
  'vfio-dev-class.vfs',
);

async function createMachine({ machine: name, modules }: ScriptHeader) {
  const machine = await Machine.load(`${transcripts}machines/${name}.yaml`, { drivers: [driverPackage], modules });
  return { process: machine.process(), [Symbol.asyncDispose]: () => machine[Symbol.asyncDispose]() };
}

describe('transcripts of Linux', () => {
  it.each(scripts)('%s', async (script) => {
    const deviations = await loadDeviations(`${transcripts}deviations.json`);
    const result = await replayFile(`${transcripts}scripts/${script}`, { createMachine, deviations });
    expect(result.ok, formatReplay(result)).toBe(true);
    expect(result.steps).toBeGreaterThan(20);
  });
});
