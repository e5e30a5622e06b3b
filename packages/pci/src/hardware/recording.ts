/*
 * Recordings of hardware: a line of JSON for each function, with what sysfs and config space say, and what registers did when they were
 * written. A second file may have what was read in BARs and ROMs.
 */
import { Sriov } from '../bus/regs.js';
import { findExtendedIn, word } from './raw-config.js';
import {
  type FunctionRecord,
  parseAddress,
  type RecordedBar,
  type RecordedContents,
  type RecordedWrites,
} from './record.js';

/** Bits of a resource's flags. Source: include/linux/ioport.h */
const Flag = { IO: 0x100, PREFETCH: 0x2000, MEM_64: 0x10_0000, SHADOW: 0x2, MEM: 0x200 } as const;
const HEADER_BARS = 6;
const ROM = 6;
const IOV = 7;
const ROM_REGISTER = 0x30;
const BRIDGE_ROM_REGISTER = 0x38;
const HEADER_TYPE = 0x0e;
const SIZES = [64, 256, 4096];

/** A resource as the kernel showed it. */
interface Range {
  readonly start: number;
  readonly end: number;
  readonly flags: number;
}

/**
 * Reads a recording.
 *
 * @throws SyntaxError - a line is not what it should be; its number is in the message
 */
export function parseRecording(text: string): FunctionRecord[] {
  return eachLine(text, (json, fail) => {
    const address = parseAddress(stringOf(json, 'address') ?? '');
    if (!address) throw fail('no address');
    const config = hexOf(json, 'config', fail);
    if (!config || !SIZES.includes(config.length)) throw fail('config space of no size that there is');
    const ranges = (stringOf(json, 'resource') ?? '').split('\n').map((line) => rangeOf(line));
    const sriov = findExtendedIn(config, 0x10);
    const totalVfs = sriov === 0 ? 0 : word(config, sriov + Sriov.TOTAL_VF);
    const writes = writesOf(json, config.length, fail);
    return {
      ...address,
      config,
      bars: barsOf(ranges.slice(0, HEADER_BARS)),
      romSize: romSizeOf(ranges[ROM], config, writes),
      vfBars: barsOf(ranges.slice(IOV, IOV + Sriov.NUM_BARS).map((range) => part(range, totalVfs))),
      ...(writes ? { writes } : {}),
    };
  });
}

/**
 * Reads what was found in BARs and ROMs.
 *
 * @throws SyntaxError - as `parseRecording`
 */
export function parseContents(text: string): RecordedContents[] {
  return eachLine(text, (json, fail) => {
    const address = parseAddress(stringOf(json, 'address') ?? '');
    if (!address) throw fail('no address');
    const bytes = hexOf(json, 'bytes', fail);
    if (!bytes) throw fail('no bytes');
    const where = json.bar;
    if (where !== 'rom' && (typeof where !== 'number' || where < 0 || where >= HEADER_BARS)) throw fail('no such BAR');
    return { ...address, where, offset: Number(json.offset ?? 0), bytes };
  });
}

type Json = Readonly<Record<string, unknown>>;
type Fail = (why: string) => SyntaxError;

function eachLine<T>(text: string, parse: (json: Json, fail: Fail) => T): T[] {
  const parsed: T[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    const fail: Fail = (why) => new SyntaxError(`line ${index + 1}: ${why}`);
    let json: unknown;
    try {
      json = JSON.parse(line);
    } catch {
      throw fail('not JSON');
    }
    if (!isJson(json)) throw fail('not an object');
    parsed.push(parse(json, fail));
  }
  return parsed;
}

function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function stringOf(json: Json, key: string): string | undefined {
  const value = json[key];
  return typeof value === 'string' ? value : undefined;
}

function hexOf(json: Json, key: string, fail: Fail): Uint8Array | undefined {
  const text = stringOf(json, key);
  if (text === undefined) return undefined;
  if (!/^([0-9a-f]{2})*$/i.test(text)) throw fail(`${key} is not hexadecimal`);
  return Uint8Array.from(text.match(/../g) ?? [], (digits) => Number.parseInt(digits, 16));
}

function writesOf(json: Json, length: number, fail: Fail): RecordedWrites | undefined {
  const ones = hexOf(json, 'written_ones', fail);
  const zeros = hexOf(json, 'written_zeros', fail);
  const after = hexOf(json, 'config_after', fail);
  if (!ones || !zeros || !after) return undefined;
  if ([ones, zeros, after].some((bytes) => bytes.length !== length))
    throw fail('registers that were written are others');
  return { ones, zeros, after };
}

function rangeOf(line: string): Range {
  const [start = 0, end = 0, flags = 0] = line.split(' ').map(Number);
  return { start, end, flags };
}

/** What one of so many has of a range. */
function part(range: Range, count: number): Range {
  const size = (range.end - range.start + 1) / Math.max(count, 1);
  return { ...range, end: range.start + size - 1 };
}

function barsOf(ranges: readonly Range[]): RecordedBar[] {
  return ranges.flatMap(({ start, end, flags }, index) => {
    if ((flags & (Flag.IO | Flag.MEM)) === 0) return [];
    const bar: RecordedBar = {
      index,
      size: end - start + 1,
      space: (flags & Flag.IO) === 0 ? 'memory' : 'io',
      wide: (flags & Flag.MEM_64) !== 0,
      prefetch: (flags & Flag.PREFETCH) !== 0,
    };
    return [bar];
  });
}

/** A shadow is as large as firmware made it; the register knows better. */
function romSizeOf(range: Range | undefined, config: Uint8Array, writes: RecordedWrites | undefined): number {
  const register = ((config[HEADER_TYPE] ?? 0) & 0x7f) === 1 ? BRIDGE_ROM_REGISTER : ROM_REGISTER;
  if (writes) {
    const mask = (word(writes.ones, register) | (word(writes.ones, register + 2) << 16)) & ~0x7ff;
    return mask === 0 ? 0 : (mask & -mask) >>> 0;
  }
  return range && (range.flags & Flag.MEM) !== 0 && (range.flags & Flag.SHADOW) === 0 ? range.end - range.start + 1 : 0;
}
