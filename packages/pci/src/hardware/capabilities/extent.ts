/*
 * Which bytes of config space belong to a capability, as far as its kind has a length that is known.
 */
import { CapId, Exp, ExtCapId, Msi, Pm, Sriov } from '../../bus/regs.js';
import type { EmulatedFunction } from '../function.js';

const MSIX_LENGTH = 12;
const EXPRESS_LENGTH = [0, 0x14, 0x3c] as const;
/** What has no entry is this long: id and next, and what stands beside them. */
const SHORTEST = 4;

const extended: Readonly<Record<number, number>> = {
  [ExtCapId.ERR]: 0x48,
  [ExtCapId.DSN]: 12,
  [ExtCapId.ACS]: 8,
  [ExtCapId.ARI]: 8,
  [ExtCapId.SRIOV]: Sriov.SIZEOF,
};

/** The bytes of all capabilities of a function. */
export function capabilityBytes(fn: EmulatedFunction): ReadonlySet<number> {
  const bytes = new Set<number>();
  const add = (offset: number, length: number) => {
    for (let at = offset; at < offset + length; at++) bytes.add(at);
  };
  for (const { id, offset } of fn.capabilities.standard()) add(offset, standardLength(fn, id, offset));
  for (const { id, offset } of fn.capabilities.extended()) add(offset, extended[id] ?? SHORTEST);
  return bytes;
}

function standardLength({ config }: EmulatedFunction, id: number, offset: number): number {
  switch (id) {
    case CapId.PM:
    case CapId.VPD:
    case CapId.PCIX:
    case CapId.SSVID:
      return Pm.SIZEOF;
    case CapId.MSI: {
      const flags = config.get(offset + Msi.FLAGS, 2);
      const wide = (flags & Msi.FLAGS_64BIT) !== 0 ? 4 : 0;
      return 10 + wide + ((flags & Msi.FLAGS_MASKBIT) !== 0 ? 10 : 0);
    }
    case CapId.MSIX:
      return MSIX_LENGTH;
    case CapId.EXP:
      return EXPRESS_LENGTH[config.get(offset + Exp.FLAGS, 2) & Exp.FLAGS_VERS] ?? EXPRESS_LENGTH[2];
    case CapId.AF:
      return 6;
    case CapId.VNDR:
      return Math.max(config.get(offset + 2, 1), SHORTEST);
    default:
      return SHORTEST;
  }
}
