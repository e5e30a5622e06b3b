/** How the samples are tried. */
import type { ExerciseStep, ExerciseTarget } from '@vfio/core';
import { isSystemError } from '@vfio/host';

/** Tries one thing; a failure is a step that tells of it. */
export async function step(name: string, run: () => Promise<string>): Promise<ExerciseStep> {
  try {
    return { name, ok: true, detail: await run() };
  } catch (error) {
    return { name, ok: false, detail: error instanceof Error ? error.message : String(error) };
  }
}

/** The driver that a mediated device is bound to; undefined for what is no mediated device. */
export function mdevDriverOf({ address, process }: ExerciseTarget): string | undefined {
  try {
    const link = process.readlink(`/sys/bus/mdev/devices/${address}/driver`);
    return link.slice(link.lastIndexOf('/') + 1);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return undefined;
  }
}
