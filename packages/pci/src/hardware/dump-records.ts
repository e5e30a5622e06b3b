/*
 * Records out of what somebody has dumped: the bytes of config space, and what was said of BARs beside them.
 */
import { CFG_SPACE_EXP_SIZE, CFG_SPACE_SIZE, Reg, STD_HEADER_SIZE, Status } from '../bus/regs.js';
import {
  type BarText,
  barsOfDump,
  type Neighbours,
  neighboursOf,
  romSizeOfDump,
  type SizeOverrides,
  vfBarsOfDump,
} from './lspci-bars.js';
import type { FunctionRecord } from './record.js';

/** A function in a dump. */
export interface DumpedFunction {
  readonly domain: number;
  readonly bus: number;
  readonly devfn: number;
  /** `0000:01:00.0` */
  readonly name: string;
  /** What it is, in words. */
  readonly description?: string;
  /** From the beginning: 64, 128, 256 or 4096. */
  readonly bytes: readonly number[];
  /** What was said of its BARs. */
  readonly texts?: readonly BarText[];
  /** Where it stands, for errors. */
  readonly line: number;
}

/** What `-x` prints of a CardBus bridge. */
const CARDBUS_SIZE = 128;
const SIZES: readonly number[] = [STD_HEADER_SIZE, CARDBUS_SIZE, CFG_SPACE_SIZE, CFG_SPACE_EXP_SIZE];

/**
 * What is known of all functions of a machine; what is not follows from capabilities, and from what is beside it.
 *
 * @param sizes - by name of the function; they count more than what the dump says
 * @throws SyntaxError - one has not all of its bytes; the message begins with its line
 */
export function recordsOfDump(
  functions: readonly DumpedFunction[],
  sizes: Readonly<Record<string, SizeOverrides>> = {},
): FunctionRecord[] {
  const configs = functions.map(configOf);
  const neighbours = neighboursOf(configs);
  return functions.map((fn, index) => recordOf(fn, configs[index] ?? new Uint8Array(), neighbours, sizes[fn.name]));
}

function recordOf(
  { domain, bus, devfn, description, line, texts = [] }: DumpedFunction,
  config: Uint8Array,
  neighbours: Neighbours,
  sizes: SizeOverrides = {},
): FunctionRecord {
  const bars = barsOfDump(config, texts, neighbours, sizes);
  for (const { size, index } of bars) {
    if (!Number.isInteger(Math.log2(size))) throw wrong(line, `BAR ${index} of ${size} bytes`);
  }
  const romSize = sizes.rom ?? romSizeOfDump(config, texts, neighbours);
  return {
    domain,
    bus,
    devfn,
    line,
    config,
    bars,
    romSize,
    vfBars: vfBarsOfDump(config, sizes),
    ...(description === undefined ? {} : { description }),
  };
}

/** All of config space, of which a dump may have only the beginning. */
function configOf({ bytes, name, line }: DumpedFunction): Uint8Array {
  const { length } = bytes;
  if (length === 0) throw wrong(line, `${name} has no bytes: use lspci -xxx or -xxxx`);
  if (!SIZES.includes(length)) throw wrong(line, `${name} ends after ${length} bytes`);
  const config = new Uint8Array(Math.max(length, CFG_SPACE_SIZE));
  config.set(bytes);
  // Where capabilities are is known, but not what they are.
  if (length === STD_HEADER_SIZE) {
    config[Reg.STATUS] = (config[Reg.STATUS] ?? 0) & ~Status.CAP_LIST;
    config[Reg.CAPABILITY_LIST] = 0;
  }
  return config;
}

function wrong(line: number, why: string): SyntaxError {
  return new SyntaxError(`line ${line}: ${why}`);
}
