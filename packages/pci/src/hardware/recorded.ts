/*
 * A machine out of records: functions as they were, with the virtual ones that they had.
 */
import { ExtCapId, Sriov } from '../bus/regs.js';
import { type AssembledMachine, assembleMachine, type MachinePart } from './assemble.js';
import { findExtendedIn } from './raw-config.js';
import type { FunctionRecord, RecordedContents } from './record.js';
import { isVirtual, recordedFunction } from './recorded-function.js';
import type { RootOptions } from './root.js';

/** What is known beside the functions. */
export interface RecordedMachineOptions {
  /** Records of the same machine while virtual functions were enabled. */
  readonly virtual?: readonly FunctionRecord[];
  /** What was read in BARs and ROMs. */
  readonly contents?: readonly RecordedContents[];
  /** Windows and wiring of its host bridges. */
  readonly root?: Omit<RootOptions, 'domain' | 'bus'>;
}

/**
 * Builds a machine.
 *
 * @throws SyntaxError - as `assembleMachine`
 */
export function recordedMachine(
  records: readonly FunctionRecord[],
  options: RecordedMachineOptions = {},
): AssembledMachine {
  return assembleMachine(recordedParts(records, options), options.root);
}

/** The functions of a machine with their places; virtual ones are with their physical ones. */
export function recordedParts(
  records: readonly FunctionRecord[],
  { virtual = [], contents = [] }: Omit<RecordedMachineOptions, 'root'> = {},
): MachinePart[] {
  const enabled = [...records, ...virtual].filter(isVirtual);
  return records
    .filter((record) => !isVirtual(record))
    .map((record) => {
      const { domain, bus, devfn } = record;
      const fn = recordedFunction(record, { contents, virtual: virtualOf(record, enabled) });
      return { domain, bus, devfn, fn, record };
    });
}

/** The virtual functions of a physical one, by index, as far as they were seen. */
function virtualOf(pf: FunctionRecord, enabled: readonly FunctionRecord[]): FunctionRecord[] {
  const at = findExtendedIn(pf.config, ExtCapId.SRIOV);
  if (at === 0) return [];
  const word = (register: number) => (pf.config[at + register] ?? 0) | ((pf.config[at + register + 1] ?? 0) << 8);
  const first = (pf.bus << 8) + pf.devfn + word(Sriov.VF_OFFSET);
  const found: FunctionRecord[] = [];
  for (let index = 0; index < word(Sriov.TOTAL_VF); index++) {
    const rid = first + index * word(Sriov.VF_STRIDE);
    const vf = enabled.find(({ domain, bus, devfn }) => domain === pf.domain && ((bus << 8) | devfn) === rid);
    if (vf) found.push(vf);
  }
  return found;
}
