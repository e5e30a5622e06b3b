/*
 * PCI Express: what a function is in the tree of links, its control registers, and the reset of one function.
 */
import { CapId, Exp, ExpType } from '../../bus/regs.js';
import type { EmulatedFunction } from '../function.js';

/** What the capability offers. */
export interface ExpressOptions {
  /** `ExpType`. */
  readonly type: number;
  readonly version?: 1 | 2;
  readonly flr?: boolean;
  /** Ports: a card can be taken out. */
  readonly slot?: boolean;
  /** Ports: they pass on 256 functions of one device. */
  readonly ari?: boolean;
  /** Further bits of its device capabilities. */
  readonly devCap?: number;
  readonly devCap2?: number;
  readonly at?: number;
}

const LENGTH = [0, 0x14, 0x3c] as const;
const DEVCAP_ROLE_BASED_ERRORS = 0x8000;
/** 2.5 GT/s, one lane. */
const LINK_GEN1_X1 = 0x11;
const DEVSTA_CLEARABLE = 0x000f;
const LNKSTA_CLEARABLE = 0xc000;
const SLTSTA_CLEARABLE = 0x011f;
const DEVCTL_BITS = 0x7fff;
const LNKCTL_BITS = 0x0fcb;
const SLTCTL_BITS = 0x1fff;
const RTCTL_BITS = 0x001f;
const RTSTA_PME = 0x0001_0000;
const LNKCTL2_BITS = 0xffff;
/** Transactions ordered as they please, without snooping: what is on after a reset. */
const DEVCTL_INITIAL = 0x2810;

/** Lets an existing capability do its work. */
export function attachExpress(fn: EmulatedFunction, at: number): void {
  const { config } = fn;
  const flags = config.get(at + Exp.FLAGS, 2);
  const version = flags & Exp.FLAGS_VERS;
  const type = (flags & Exp.FLAGS_TYPE) >> 4;
  const port = type >= ExpType.ROOT_PORT && type <= ExpType.PCIE_BRIDGE;
  const flr = (config.get(at + Exp.DEVCAP, 4) & Exp.DEVCAP_FLR) !== 0;
  config.allow(at + Exp.DEVCTL, 2, DEVCTL_BITS);
  config.clearOnOne(at + Exp.DEVSTA, 2, DEVSTA_CLEARABLE);
  if (flr) config.hook(at + Exp.DEVCTL, { written: (_before, lanes, written) => startFlr(fn, lanes & written) });
  if (type !== ExpType.RC_END && type !== ExpType.RC_EC) {
    config.allow(at + Exp.LNKCTL, 2, LNKCTL_BITS);
    config.clearOnOne(at + Exp.LNKSTA, 2, port ? LNKSTA_CLEARABLE : 0);
  }
  if ((flags & Exp.FLAGS_SLOT) !== 0) {
    config.allow(at + Exp.SLTCTL, 2, SLTCTL_BITS);
    config.clearOnOne(at + Exp.SLTSTA, 2, SLTSTA_CLEARABLE);
  }
  if (type === ExpType.ROOT_PORT || type === ExpType.RC_EC) {
    config.allow(at + Exp.RTCTL, 2, RTCTL_BITS);
    config.clearOnOne(at + Exp.RTSTA, 4, RTSTA_PME);
  }
  if (version < 2) return;
  config.allow(at + Exp.DEVCTL2, 2, devctl2Bits(config.get(at + Exp.DEVCAP2, 4), port));
  if (type !== ExpType.RC_END && type !== ExpType.RC_EC) config.allow(at + Exp.LNKCTL2, 2, LNKCTL2_BITS);
}

/** Gives a function the capability. */
export function addExpress(fn: EmulatedFunction, options: ExpressOptions): number {
  const { type, version = 2, flr = false, slot = false, ari = false, at } = options;
  const offset = fn.capabilities.add(CapId.EXP, LENGTH[version], at);
  const { config } = fn;
  config.set(offset + Exp.FLAGS, 2, version | (type << 4) | (slot ? Exp.FLAGS_SLOT : 0));
  config.set(
    offset + Exp.DEVCAP,
    4,
    ((options.devCap ?? 0) | DEVCAP_ROLE_BASED_ERRORS | (flr ? Exp.DEVCAP_FLR : 0)) >>> 0,
  );
  config.set(offset + Exp.DEVCTL, 2, DEVCTL_INITIAL);
  if (type !== ExpType.RC_END && type !== ExpType.RC_EC) {
    config.set(offset + Exp.LNKCAP, 4, LINK_GEN1_X1);
    config.set(offset + Exp.LNKSTA, 2, LINK_GEN1_X1);
  }
  if (slot) config.set(offset + Exp.SLTCAP, 4, Exp.SLTCAP_HPC);
  if (version === 2) config.set(offset + Exp.DEVCAP2, 4, (options.devCap2 ?? 0) | (ari ? Exp.DEVCAP2_ARI : 0));
  attachExpress(fn, offset);
  return offset;
}

/** A one in the bit that always reads as zero. */
function startFlr(fn: EmulatedFunction, written: number): void {
  if ((written & Exp.DEVCTL_BCR_FLR) !== 0) fn.reset('flr');
}

function devctl2Bits(devCap2: number, port: boolean): number {
  const completionTimeout = 0x1f;
  const atomic = Exp.DEVCTL2_ATOMIC_REQ | (port ? Exp.DEVCTL2_ATOMIC_EGRESS_BLOCK : 0);
  const ltr = (devCap2 & 0x800) !== 0 ? 0x400 : 0;
  return completionTimeout | atomic | ltr | ((devCap2 & Exp.DEVCAP2_ARI) !== 0 ? Exp.DEVCTL2_ARI : 0);
}
