// Machines to try a device on, by the words that driver packages have for them.

import type { DriverPackage, SampleMachine } from '@vfio/core';
import type { Machine } from '@vfio/machine';
import { CommandError } from './errors.js';
import { inProcess } from './files.js';
import { findDevice } from './naming.js';

/** The machine that a word stands for. */
export function sampleOf(drivers: readonly DriverPackage[], word: string): SampleMachine | undefined {
  for (const { samples } of drivers) if (samples && Object.hasOwn(samples, word)) return samples[word];
  return undefined;
}

/** All words. */
export function sampleWords(drivers: readonly DriverPackage[]): string[] {
  return drivers.flatMap(({ samples }) => Object.keys(samples ?? {}));
}

/**
 * The device of a machine that a person means.
 *
 * @param name - address, UUID, vfioN; or a word, on a machine that has its device
 * @returns its address
 * @throws CommandError - there is no such device, or it is bound to no VFIO driver
 */
export async function vfioDevice(machine: Machine, name: string, signal: AbortSignal): Promise<string> {
  const inventory = await machine.devices();
  const ofVfio = (address: string) => inventory.some((one) => one.address === address && one.vfio !== undefined);
  const sample = sampleOf(machine.drivers, name);
  if (sample && ofVfio(sample.address)) return sample.address;
  const { address } = await inProcess({ machine, signal }, async (process) => findDevice(process, name));
  if (ofVfio(address)) return address;
  throw new CommandError(`${address} is bound to no VFIO driver: vfio bind ${address} <driver>`);
}
