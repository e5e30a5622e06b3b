/*
 * From the section to the hardware: functions that are known and functions that are emulated, in their slots.
 */
import { type MachineContext, SectionError } from '@vfio/core';
import { ExtCapId, Sriov } from '../bus/regs.js';
import { type AssembledMachine, assembleMachine, type MachinePart } from '../hardware/assemble.js';
import { findExtendedIn, word } from '../hardware/raw-config.js';
import { type FunctionRecord, parseAddress } from '../hardware/record.js';
import { recordedParts } from '../hardware/recorded.js';
import { type Entry, knownFunctions, nameOf } from './known.js';
import { foreignOption, makeModel, modelNames } from './models.js';
import type { FunctionSection, PciSection } from './section.js';

/** Hardware, and the virtual functions that each physical one shall have. */
export interface SectionHardware extends AssembledMachine {
  readonly numVfs: ReadonlyMap<string, number>;
}

/**
 * Makes the hardware that a section describes. Nothing knows of it yet.
 *
 * @throws SectionError - a file can not be read or makes no sense, or a function does not
 */
export async function sectionHardware({ directory }: MachineContext, section: PciSection): Promise<SectionHardware> {
  const entries = Object.entries(section.functions ?? {});
  for (const entry of entries) checkEntry(entry);
  const known = await knownFunctions(section, entries, directory);
  const models = entries.filter(([, { model }]) => model !== undefined);
  const present = new Set([...known.records.map(nameOf), ...models.map(([name]) => name)]);
  for (const [name] of entries) {
    if (present.has(name)) continue;
    throw new SectionError(['functions', name], "it is in no dump: say what it is, by 'model' or 'config'");
  }
  const modelled = new Set(models.map(([name]) => name));
  const recorded = recordedParts(
    known.records.filter((record) => !modelled.has(nameOf(record))),
    known,
  );
  const parts = [...recorded, ...models.map((entry) => modelPart(entry, present))];
  for (const [name, { writable }] of entries) allowWrites(parts, name, writable);
  const machine = assembled(parts, section);
  return { ...machine, numVfs: numVfsOf(known.records, entries) };
}

function assembled(parts: readonly MachinePart[], { acpi = true, nativeHotplug = true }: PciSection): AssembledMachine {
  try {
    return assembleMachine(parts, { acpi, nativeHotplug });
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new SectionError(['functions'], `${error.message}: give each its own`, { cause: error });
  }
}

/** What goes together in an entry is more than a schema can say. */
function checkEntry([name, section]: Entry): void {
  const { model, config } = section;
  const at = (key: string) => ['functions', name, key];
  if (model === undefined) {
    const foreign = foreignOption('', section);
    if (foreign) throw new SectionError(at(foreign.key), `it is for the model ${foreign.of.join(', ')}: say 'model'`);
    return;
  }
  const raw = (['config', 'bars', 'rom', 'vfBars', 'writable', 'numVfs'] as const).find(
    (key) => section[key] !== undefined,
  );
  if (raw)
    throw new SectionError(at(raw), `'${model}' is emulated and has its own: remove ${config ? 'one of both' : 'it'}`);
  const foreign = foreignOption(model, section);
  if (foreign) {
    throw new SectionError(at(foreign.key), `it is not for '${model}' but for ${foreign.of.join(', ')}: remove it`);
  }
}

function modelPart([name, section]: Entry, present: ReadonlySet<string>): MachinePart {
  const { model = '', secondary } = section;
  const address = parseAddress(name);
  const slot = name.slice(0, -1);
  if (!present.has(`${slot}0`)) {
    throw new SectionError(['functions', name], `nobody finds it: put something at ${slot}0`);
  }
  const shared = [...present].some((other) => other !== name && other.startsWith(slot));
  const fn = makeModel(model, section, shared);
  if (!address || !fn) {
    throw new SectionError(['functions', name, 'model'], `there is no '${model}': use one of ${modelNames.join(', ')}`);
  }
  if (secondary !== undefined && secondary <= address.bus) {
    const problem = `a bus behind bus ${address.bus} has a higher number: use ${address.bus + 1} or more`;
    throw new SectionError(['functions', name, 'secondary'], problem);
  }
  return { ...address, fn, ...(secondary === undefined ? {} : { secondary }) };
}

function allowWrites(parts: readonly MachinePart[], name: string, writable: FunctionSection['writable'] = {}): void {
  const fn = parts.find((part) => nameOf(part) === name)?.fn;
  for (const [offset, bits] of Object.entries(writable)) {
    const at = Number(offset);
    if (!fn || at % 4 !== 0 || at >= fn.configSize) {
      throw new SectionError(
        ['functions', name, 'writable', offset],
        'no register of 32 bits is there: use 0x0, 0x4, ...',
      );
    }
    fn.config.allow(at, 4, (fn.config.writable(at, 4) | Number(bits)) >>> 0);
  }
}

/** As many as the file says, else as many as there were. */
function numVfsOf(records: readonly FunctionRecord[], entries: readonly Entry[]): Map<string, number> {
  const counts = new Map<string, number>();
  const said = new Map(entries.map(([name, { numVfs }]) => [name, numVfs]));
  for (const record of records) {
    const count = said.get(nameOf(record)) ?? enabledVfs(record);
    if (count > 0) counts.set(nameOf(record), count);
  }
  return counts;
}

/** Virtual functions that were enabled when a function was recorded. */
export function enabledVfs({ config }: FunctionRecord): number {
  const at = findExtendedIn(config, ExtCapId.SRIOV);
  const on = at !== 0 && (word(config, at + Sriov.CTRL) & Sriov.CTRL_VFE) !== 0;
  return on ? word(config, at + Sriov.NUM_VF) : 0;
}
