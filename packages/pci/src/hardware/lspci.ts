/*
 * What `lspci -x`, `-xxx` or `-xxxx` printed becomes records of functions. Any amount of `-v` may be with it, `-n`, `-nn`, `-D` and `-k`
 * as well; a tree (`-t`) is skipped, as buses are known from the bytes.
 */
import { CFG_SPACE_EXP_SIZE, pciName } from '../bus/regs.js';
import { type DumpedFunction, recordsOfDump } from './dump-records.js';
import type { BarText, SizeOverrides } from './lspci-bars.js';
import { type FunctionRecord, parseAddress } from './record.js';

/** What a dump can not tell. */
export interface LspciOptions {
  /** Sizes by name of the function, `0000:01:00.0`, which count more than what the dump says. */
  readonly sizes?: Readonly<Record<string, SizeOverrides>>;
}

/** A function while its lines are read. */
interface Block extends DumpedFunction {
  readonly bytes: number[];
  readonly texts: BarText[];
  /** Lines about capabilities say the same words about other things. */
  inCapability: boolean;
}

const DEVICE = /^((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])\s+(\S.*)/i;
const BYTES = /^([0-9a-f]{2,3}):((?: [0-9a-f]{2})+)\s*$/i;
const BROKEN_BYTES = /^[0-9a-f]{2,3}:(\s|$)/i;
/** What lspci and its library complain about, which comes between its lines where both streams were caught. */
const COMPLAINT = /^(?:pcilib|lspci): /;
const TREE = /^\s*(-\[|[|+\\]|-\+-)/;
const LINE_BYTES = 16;
const UNITS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** Whether a text begins as a dump does. */
export function isLspci(text: string): boolean {
  const first = linesOf(text).find((line) => line !== '' && !COMPLAINT.test(line));
  return first !== undefined && (DEVICE.test(first) || TREE.test(first));
}

/**
 * Reads a dump.
 *
 * @throws SyntaxError - it is not what lspci prints, or not all of it; the number of the line is in the message
 */
export function parseLspci(text: string, options: LspciOptions = {}): FunctionRecord[] {
  return recordsOfDump(readLspci(text), options.sizes);
}

/**
 * Reads a dump, and makes nothing of it yet.
 *
 * @throws SyntaxError - as `parseLspci`
 */
export function readLspci(text: string): DumpedFunction[] {
  const blocks: Block[] = [];
  const known = new Set<string>();
  for (const [index, line] of linesOf(text).entries()) {
    const number = index + 1;
    if (line === '' || COMPLAINT.test(line)) continue;
    const device = DEVICE.exec(line);
    if (device) {
      const block = begin(device[1] ?? '', device[2] ?? '', number);
      if (known.has(block.name)) throw wrong(number, `${block.name} is there twice`);
      known.add(block.name);
      blocks.push(block);
      continue;
    }
    if (TREE.test(line)) continue;
    const block = blocks.at(-1);
    if (BROKEN_BYTES.test(line)) takeBytes(block, line, number);
    else if (/^\s/.test(line) && block) takeText(block, line, number);
    else throw wrong(number, `this is not what lspci prints: ${line.slice(0, 40)}`);
  }
  if (blocks.length === 0) throw wrong(1, 'there is no function');
  return blocks;
}

/** Editors of some systems put a mark before the first line, and a character at the end of each. */
function linesOf(text: string): string[] {
  return text
    .replace(/^\uFEFF/, '')
    .split('\n')
    .map((line) => line.trimEnd());
}

function begin(text: string, description: string, line: number): Block {
  const address = parseAddress(text);
  if (!address) throw wrong(line, `${text} is no address of a function`);
  const name = pciName(address.domain, address.bus, address.devfn);
  return { ...address, name, description, line, bytes: [], texts: [], inCapability: false };
}

function takeBytes(block: Block | undefined, line: string, number: number): void {
  const match = BYTES.exec(line);
  if (!match) throw wrong(number, 'these are no bytes');
  if (!block) throw wrong(number, 'bytes of no function');
  const offset = Number.parseInt(match[1] ?? '', 16);
  const bytes = (match[2] ?? '').trim().split(' ');
  if (bytes.length !== LINE_BYTES) throw wrong(number, `${bytes.length} bytes where ${LINE_BYTES} should be`);
  if (offset !== block.bytes.length) {
    throw wrong(number, `offset ${offset.toString(16)} follows ${block.bytes.length.toString(16)}`);
  }
  block.bytes.push(...bytes.map((digits) => Number.parseInt(digits, 16)));
  if (block.bytes.length > CFG_SPACE_EXP_SIZE) throw wrong(number, 'config space has no more than 4096 bytes');
}

/** What is said about BARs, in one of two ways: with their number, or only in their order. */
function takeText(block: Block, line: string, number: number): void {
  const text = line.trim();
  if (text.startsWith('Capabilities:')) block.inCapability = true;
  if (block.inCapability) return;
  const match = /^(?:Region (\d): )?(Memory|I\/O ports|Expansion ROM) at (\S+).*?(?:\[size=(\d+)([KMGT]?)\])?$/.exec(
    text,
  );
  if (!match) return;
  const [, region, what = '', where = '', digits, unit = ''] = match;
  if (digits === undefined) return;
  const size = Number(digits) * (UNITS[unit] ?? 1);
  if (!Number.isInteger(Math.log2(size))) throw wrong(number, `a size of ${size} bytes`);
  const at = /^[0-9a-f]+$/i.test(where) ? Number.parseInt(where, 16) : undefined;
  block.texts.push({
    rom: what === 'Expansion ROM',
    size,
    ...(region === undefined ? {} : { index: Number(region) }),
    ...(at === undefined ? {} : { at }),
  });
}

function wrong(line: number, why: string): SyntaxError {
  return new SyntaxError(`line ${line}: ${why}`);
}
