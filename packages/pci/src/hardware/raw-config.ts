/*
 * Lists of capabilities in config space that is only bytes.
 */
import { CFG_SPACE_SIZE, Reg, STD_HEADER_SIZE, Status } from '../bus/regs.js';

const CARDBUS_CAPABILITIES = 0x14;
const HEADER_CARDBUS = 2;

/** Where a capability of the first 256 bytes is; 0: nowhere. */
export function findCapabilityIn(config: Uint8Array, id: number): number {
  if (((config[Reg.STATUS] ?? 0) & Status.CAP_LIST) === 0) return 0;
  const cardbus = ((config[Reg.HEADER_TYPE] ?? 0) & 0x7f) === HEADER_CARDBUS;
  let offset = (config[cardbus ? CARDBUS_CAPABILITIES : Reg.CAPABILITY_LIST] ?? 0) & ~3;
  for (let left = 48; left > 0 && offset >= STD_HEADER_SIZE && offset < config.length; left--) {
    if (config[offset] === id) return offset;
    offset = (config[offset + 1] ?? 0) & ~3;
  }
  return 0;
}

/** Where an extended capability is; 0: nowhere. */
export function findExtendedIn(config: Uint8Array, id: number): number {
  const seen = new Set<number>();
  let offset = CFG_SPACE_SIZE;
  while (offset >= CFG_SPACE_SIZE && offset + 4 <= config.length && !seen.has(offset)) {
    seen.add(offset);
    const found = (config[offset] ?? 0) | ((config[offset + 1] ?? 0) << 8);
    if (found === id) return offset;
    if (found === 0 || found === 0xffff) return 0;
    offset = (((config[offset + 2] ?? 0) >> 4) | ((config[offset + 3] ?? 0) << 4)) & ~3;
  }
  return 0;
}
