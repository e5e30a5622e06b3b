/*
 * How a function is tried that some program has opened: its config space, and what its device does if that is known.
 */
import { type ExerciseDevice, type ExerciseStep, type ExerciseTarget, exerciseStep, PciRegionIndex } from '@vfio/core';
import { isSystemError } from '@vfio/host';
import { CapId, CFG_SPACE_EXP_SIZE, CFG_SPACE_SIZE, ExtCapId, Reg, STD_HEADER_SIZE, Status } from '../bus/regs.js';
import { dword, word } from '../hardware/raw-config.js';
import { exerciseEdu } from './exercise-edu.js';
import { exerciseIoat, ioatIds } from './exercise-ioat.js';

const EDU = 0x11e8_1234;
const MAX_CAPABILITIES = 48;

/** Tries a function of bus pci; undefined for what is on no such bus. */
export function exercisePci(target: ExerciseTarget): AsyncIterable<ExerciseStep> | undefined {
  try {
    target.process.readlink(`/sys/bus/pci/devices/${target.address}`);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return undefined;
  }
  return exerciseFunction(target);
}

async function* exerciseFunction(target: ExerciseTarget): AsyncGenerator<ExerciseStep, void> {
  const { device } = target;
  yield await exerciseStep('config', () => walkConfig(device));
  const ids = dword(await device.readRegion(PciRegionIndex.CONFIG, Reg.VENDOR_ID, 4), 0);
  if (ids === EDU) yield* exerciseEdu(target);
  if (ioatIds.has(ids)) yield* exerciseIoat(target);
}

/** Finds all capabilities that the user is shown. */
async function walkConfig(device: ExerciseDevice): Promise<string> {
  const config = await device.readRegion(PciRegionIndex.CONFIG, 0, CFG_SPACE_SIZE);
  const names: string[] = [];
  if ((word(config, Reg.STATUS) & Status.CAP_LIST) !== 0) {
    for (let at = (config[Reg.CAPABILITY_LIST] ?? 0) & ~3; at !== 0; at = (config[at + 1] ?? 0) & ~3) {
      if (at < STD_HEADER_SIZE) throw new Error(`a capability at 0x${at.toString(16)}, in the header`);
      if (names.push(nameOf(CapId, config[at] ?? 0)) > MAX_CAPABILITIES)
        throw new Error('capabilities go round in a circle');
    }
  }
  const extended = await extendedNames(device);
  return `${names.length} capabilities${listed(names)}, ${extended.length} extended${listed(extended)}`;
}

async function extendedNames(device: ExerciseDevice): Promise<string[]> {
  const names: string[] = [];
  const seen = new Set<number>();
  for (let at: number = CFG_SPACE_SIZE; at >= CFG_SPACE_SIZE && at < CFG_SPACE_EXP_SIZE; ) {
    if (seen.has(at)) throw new Error('extended capabilities go round in a circle');
    seen.add(at);
    const bytes = await readHeader(device, at);
    const header = bytes === undefined ? 0 : dword(bytes, 0);
    if (header === 0 || header === 0xffff_ffff) break;
    if ((header & 0xffff) !== 0) names.push(nameOf(ExtCapId, header & 0xffff));
    at = (header >>> 20) & ~3;
  }
  return names;
}

/** Undefined behind the end of a config space that has no such. */
async function readHeader(device: ExerciseDevice, at: number): Promise<Uint8Array | undefined> {
  try {
    return await device.readRegion(PciRegionIndex.CONFIG, at, 4);
  } catch (error) {
    if (at > CFG_SPACE_SIZE || !isSystemError(error)) throw error;
    return undefined;
  }
}

function nameOf(ids: Readonly<Record<string, number>>, id: number): string {
  const known = Object.entries(ids).find(([, value]) => value === id)?.[0];
  return known?.toLowerCase() ?? `0x${id.toString(16)}`;
}

function listed(names: readonly string[]): string {
  return names.length === 0 ? '' : ` (${names.join(', ')})`;
}
