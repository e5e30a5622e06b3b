/*
 * The devices that a machine file can name.
 */
import { downstreamPort, pciBridge, rootPort, upstreamPort } from '../hardware/bridge.js';
import { Edu } from '../hardware/edu.js';
import type { EmulatedFunction } from '../hardware/function.js';
import { Ioat } from '../hardware/ioat.js';
import type { FunctionSection } from './section.js';

/** What can be said about a function that is emulated. */
type ModelOption = 'secondary' | 'slot' | 'acs' | 'dmaBits' | 'transferBits';

interface Model {
  /** What of a function's entry is for it. */
  readonly options: readonly ModelOption[];
  make(section: FunctionSection, multifunction: boolean): EmulatedFunction;
}

const models: Readonly<Record<string, Model>> = {
  edu: {
    options: ['dmaBits'],
    make: ({ dmaBits }, multifunction) =>
      new Edu({ multifunction, ...(dmaBits === undefined ? {} : { dmaMask: (1n << BigInt(dmaBits)) - 1n }) }),
  },
  ioat: {
    options: ['transferBits'],
    make: ({ transferBits }, multifunction) =>
      new Ioat({ multifunction, ...(transferBits === undefined ? {} : { transferBits }) }),
  },
  'root-port': { options: ['secondary', 'slot', 'acs'], make: (section, mfd) => rootPort(portOf(section, mfd)) },
  'upstream-port': { options: ['secondary'], make: (section, mfd) => upstreamPort(portOf(section, mfd)) },
  'downstream-port': {
    options: ['secondary', 'slot', 'acs'],
    make: (section, mfd) => downstreamPort(portOf(section, mfd)),
  },
  'pci-bridge': { options: ['secondary'], make: (_section, multifunction) => pciBridge({ multifunction }) },
};

/** Names of all models. */
export const modelNames: readonly string[] = Object.keys(models);

/** What may be said about any model, and which of them it is for. */
export function foreignOption(name: string, section: FunctionSection): { key: ModelOption; of: string[] } | undefined {
  const own = models[name]?.options ?? [];
  const all = new Set(Object.values(models).flatMap(({ options }) => options));
  const key = [...all].find((option) => section[option] !== undefined && !own.includes(option));
  if (key === undefined) return undefined;
  return { key, of: modelNames.filter((model) => models[model]?.options.includes(key)) };
}

/** Makes the device of a name; undefined for one that is not known. */
export function makeModel(
  name: string,
  section: FunctionSection,
  multifunction: boolean,
): EmulatedFunction | undefined {
  return models[name]?.make(section, multifunction);
}

function portOf({ slot, acs }: FunctionSection, multifunction: boolean) {
  return { multifunction, ...(slot === undefined ? {} : { slot }), ...(acs === undefined ? {} : { acs }) };
}
