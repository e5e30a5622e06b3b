import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { text as readText } from 'node:stream/consumers';
import type { DriverPackage, ImportedMachine } from '@vfio/core';
import { stringify } from 'yaml';
import { CommandError, Exit } from '../errors.js';
import { driversOf, type Io } from '../io.js';
import type { Terminal } from '../output/terminal.js';

/** The operand that means standard input. */
const STANDARD_INPUT = '-';

/** What one of the packages made of a text. */
interface Imported {
  readonly driver: DriverPackage;
  readonly machine: ImportedMachine;
}

/**
 * `vfio import`: what a tool printed on a real machine becomes a machine file.
 *
 * @throws CommandError - the text can not be read, is nothing that an installed package knows, or is broken
 */
export async function importDump(file: string, name: string | undefined, terminal: Terminal, io: Io): Promise<number> {
  const label = file === STANDARD_INPUT ? 'standard input' : file;
  const text = file === STANDARD_INPUT ? await readText(io.stdin) : await readDump(file);
  const drivers = (await driversOf(io)).filter((driver) => driver.importDump !== undefined);
  const { driver, machine } = understand(drivers, label, text);
  const nameOfFile = basename(file).replace(/\.[^.]+$/, '');
  const named = name ?? (file === STANDARD_INPUT ? undefined : nameOfFile);
  terminal.write(
    stringify({
      version: 1,
      ...(named === undefined ? {} : { name: named }),
      modules: machine.modules,
      [driver.section]: machine.section,
    }),
  );
  return Exit.OK;
}

async function readDump(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new CommandError(`${file} can not be read: ${reason}`);
  }
}

/** The first package that knows what the text is. */
function understand(drivers: readonly DriverPackage[], label: string, text: string): Imported {
  for (const driver of drivers) {
    try {
      const machine = driver.importDump?.(text);
      if (machine) return { driver, machine };
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      throw new CommandError(`${label}: ${error.message}`);
    }
  }
  const fix =
    drivers.length === 0
      ? 'no installed package imports anything: npm install @vfio/pci'
      : `none of ${drivers.map((driver) => driver.package).join(', ')} knows what this is: is it what lspci -xxxx printed?`;
  throw new CommandError(`${label}: ${fix}`);
}
