/*
 * Functions that were dumped or recorded, in files or in the section itself, with what the file knows better of them.
 */
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { SectionError } from '@vfio/core';
import { pciName } from '../bus/regs.js';
import { type DumpedFunction, recordsOfDump } from '../hardware/dump-records.js';
import { readLspci } from '../hardware/lspci.js';
import type { SizeOverrides } from '../hardware/lspci-bars.js';
import { type FunctionRecord, parseAddress, type RecordedBar, type RecordedContents } from '../hardware/record.js';
import { parseContents, parseRecording } from '../hardware/recording.js';
import { configOfText } from './config-text.js';
import type { FunctionSection, PciSection, RecordingSection } from './section.js';
import { type ByteSize, bytesOfSize } from './sizes.js';

/** A function of the section, by its address. */
export type Entry = readonly [name: string, section: FunctionSection];
/** Reads a file of the section. */
type ReadText = (path: string, key: readonly string[]) => Promise<string>;

/** What was dumped or recorded. */
export interface Known {
  readonly records: readonly FunctionRecord[];
  readonly virtual?: readonly FunctionRecord[];
  readonly contents?: readonly RecordedContents[];
}

/**
 * Reads what is known of functions, and what the file knows better.
 *
 * @param directory - what relative paths start from; the working directory otherwise
 * @throws SectionError - a file can not be read or makes no sense, or an entry does not
 */
export async function knownFunctions(
  section: PciSection,
  entries: readonly Entry[],
  directory: string | undefined,
): Promise<Known> {
  const { lspci, recording } = section;
  const read: ReadText = (path, key) => textOf(directory === undefined ? path : resolve(directory, path), path, key);
  const sizes = Object.fromEntries(entries.map((entry) => [entry[0], sizesOf(entry)]));
  const own = entries.filter(([, { config }]) => config !== undefined).map(dumpedEntry);
  const isOwn = new Set(own.map(({ name }) => name));
  if (lspci !== undefined && recording) {
    throw new SectionError(['recording'], 'there is a dump as well: use one of lspci and recording');
  }
  const dumped = lspci === undefined ? [] : await readDump(lspci, read);
  const all = [...dumped.filter(({ name }) => !isOwn.has(name)), ...own];
  const fromDump = inFile(['lspci'], lspci ?? '', () => recordsOfDump(all, sizes));
  if (!recording) return { records: fromDump };
  const { records, ...beside } = await readRecording(recording, read);
  const others = records.filter((record) => !isOwn.has(nameOf(record)));
  return { ...beside, records: [...others.map((record) => resized(record, sizes[nameOf(record)])), ...fromDump] };
}

async function readDump(lspci: string, read: ReadText): Promise<DumpedFunction[]> {
  const text = await read(lspci, ['lspci']);
  return inFile(['lspci'], lspci, () => readLspci(text));
}

async function readRecording({ functions, virtual, contents }: RecordingSection, read: ReadText): Promise<Known> {
  const parse = async <T>(key: keyof RecordingSection, path: string, parser: (text: string) => T): Promise<T> => {
    const text = await read(path, ['recording', key]);
    return inFile(['recording', key], path, () => parser(text));
  };
  return {
    records: await parse('functions', functions, parseRecording),
    ...(virtual === undefined ? {} : { virtual: await parse('virtual', virtual, parseRecording) }),
    ...(contents === undefined ? {} : { contents: await parse('contents', contents, parseContents) }),
  };
}

/** What is wrong with a file is told of with its name. */
function inFile<T>(key: readonly string[], path: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new SectionError(key, `${path}: ${error.message}`, { cause: error });
  }
}

async function textOf(path: string, given: string, key: readonly string[]): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    const absent = cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
    const reason = absent ? `there is no file ${path}` : cause instanceof Error ? cause.message : String(cause);
    throw new SectionError(key, `'${given}' can not be read: ${reason}`, { cause });
  }
}

function dumpedEntry([name, { config = '', description }]: Entry): DumpedFunction {
  const address = parseAddress(name);
  if (!address) throw new SectionError(['functions', name], 'that is no address of a function');
  try {
    const bytes = configOfText(config);
    return { ...address, name, bytes, line: 1, ...(description === undefined ? {} : { description }) };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new SectionError(['functions', name, 'config'], error.message, { cause: error });
  }
}

function sizesOf([name, { bars, rom, vfBars }]: Entry): SizeOverrides {
  const one = (key: string, size: ByteSize, index: readonly string[] = []): number => {
    const bytes = bytesOfSize(size);
    if (bytes !== undefined) return bytes;
    throw new SectionError(['functions', name, key, ...index], `${size} bytes are no power of two`);
  };
  const all = (key: string, sizes: Readonly<Record<string, ByteSize>>) =>
    Object.fromEntries(Object.entries(sizes).map(([index, size]) => [Number(index), one(key, size, [index])]));
  return {
    ...(bars ? { bars: all('bars', bars) } : {}),
    ...(rom === undefined ? {} : { rom: one('rom', rom) }),
    ...(vfBars ? { vfBars: all('vfBars', vfBars) } : {}),
  };
}

function resized(record: FunctionRecord, { bars = {}, rom, vfBars = {} }: SizeOverrides = {}): FunctionRecord {
  const sized = (bar: RecordedBar, sizes: Readonly<Record<number, number>>) => ({
    ...bar,
    size: sizes[bar.index] ?? bar.size,
  });
  return {
    ...record,
    bars: record.bars.map((bar) => sized(bar, bars)),
    romSize: rom ?? record.romSize,
    vfBars: record.vfBars.map((bar) => sized(bar, vfBars)),
  };
}

/** `0000:01:00.0` */
export function nameOf({ domain, bus, devfn }: Pick<FunctionRecord, 'domain' | 'bus' | 'devfn'>): string {
  return pciName(domain, bus, devfn);
}
