// modprobe and rmmod on the modules of the host, and the two programs that only end. What they print is what kmod's print.

import { Errno, isSystemError, type Process, type SystemError } from '@vfio/host';
import type { Program, ProgramCall } from './programs.js';

/** The programs that every script can run, by name. */
export const builtinPrograms: ReadonlyMap<string, Program> = new Map<string, Program>([
  ['modprobe', modprobe],
  ['rmmod', rmmod],
  ['true', () => 0],
  ['false', () => 1],
]);

/**
 * `modprobe [-a] [-q] [-r] MODULE [PARAMETER=VALUE...]`: loads a module after those it depends on; a module that is
 * there already is fine. `-a` takes all words for modules, `-r` removes them and what nobody needs any more then.
 */
async function modprobe(call: ProgramCall): Promise<number> {
  const { flags, words } = splitArguments(call.args);
  const quiet = hasFlag(flags, 'q', 'quiet');
  const print = quiet ? () => undefined : call.print;
  const [first] = words;
  if (first === undefined) {
    call.print('modprobe: ERROR: missing parameters. See -h.');
    return 1;
  }
  const all = hasFlag(flags, 'a', 'all');
  const remove = hasFlag(flags, 'r', 'remove');
  let status = 0;
  for (const name of all || remove ? words : [first]) {
    status |= await (remove
      ? removeWithUnused(call.process, name, print)
      : insertModule(call.process, name, all ? [] : words.slice(1), print));
  }
  return status;
}

/** `rmmod MODULE...` */
async function rmmod({ process, args, print }: ProgramCall): Promise<number> {
  const { words } = splitArguments(args);
  if (words.length === 0) {
    print('rmmod: ERROR: missing module name.');
    return 1;
  }
  let status = 0;
  for (const name of words) status |= await removeModule(process, name, 'rmmod: ERROR', print);
  return status;
}

type Print = (line: string) => void;

async function insertModule(
  process: Process,
  name: string,
  parameters: readonly string[],
  print: Print,
): Promise<number> {
  const { modules, release } = process.host;
  if (modules.get(name)) return 0;
  const values = Object.fromEntries(parameters.map(parameterValue));
  const load = () => modules.modprobe(name, values);
  return privileged(process, load, (error) => {
    const missing = error.code === 'ENOENT' && !modules.known().includes(underscored(name));
    if (missing) print(`modprobe: FATAL: Module ${name} not found in directory /lib/modules/${release}`);
    else print(`modprobe: ERROR: could not insert '${underscored(name)}': ${describe(error)}`);
  });
}

/** Removes a module, then those that it needed and that are of no more use to anybody. */
async function removeWithUnused(process: Process, name: string, print: Print): Promise<number> {
  const needed = process.host.modules.get(name)?.spec.depends ?? [];
  const status = await removeModule(process, name, 'modprobe: FATAL', print);
  if (status !== 0) return status;
  for (const dependency of needed) {
    if (process.host.modules.get(dependency)?.refcount === 0) await removeWithUnused(process, dependency, () => {});
  }
  return 0;
}

async function removeModule(process: Process, name: string, prefix: string, print: Print): Promise<number> {
  const { modules } = process.host;
  const module = modules.get(name);
  if (!module || module.spec.builtin) {
    print(`${prefix}: Module ${underscored(name)} is ${module ? 'builtin.' : 'not currently loaded'}`);
    return 1;
  }
  if (module.refcount > 0) {
    const holders = [...module.holders].map((holder) => holder.name);
    print(`${prefix}: Module ${module.name} is in use${holders.length > 0 ? ` by: ${holders.join(' ')}` : ''}`);
    return 1;
  }
  const unload = () => modules.rmmod(name);
  return privileged(process, unload, (error) => {
    print(`${prefix}: could not remove module ${module.name}: ${describe(error)}`);
  });
}

/** Does what only CAP_SYS_MODULE may; exit status 1 after a failure, which `complain` is told. */
async function privileged(
  process: Process,
  action: () => Promise<unknown>,
  complain: (error: { code: SystemError['code']; errno: number }) => void,
): Promise<number> {
  if (!process.credentials.capable('SYS_MODULE')) {
    complain({ code: 'EPERM', errno: -Errno.EPERM });
    return 1;
  }
  try {
    await action();
    return 0;
  } catch (error) {
    if (!isSystemError(error)) throw error;
    complain(error);
    return 1;
  }
}

/** What kmod says of the errors that loading and removing modules ends in. */
const descriptions: Readonly<Record<number, string>> = {
  [Errno.EPERM]: 'Operation not permitted',
  [Errno.ENOENT]: 'Unknown symbol in module, or unknown parameter (see dmesg)',
  [Errno.ENOEXEC]: 'Exec format error',
  [Errno.EAGAIN]: 'Resource temporarily unavailable',
  [Errno.ENOMEM]: 'Cannot allocate memory',
  [Errno.EBUSY]: 'Device or resource busy',
  [Errno.EEXIST]: 'File exists',
  [Errno.ENODEV]: 'No such device',
  [Errno.EINVAL]: 'Invalid argument',
  [Errno.EOPNOTSUPP]: 'Operation not supported',
};

function describe({ errno }: { errno: number }): string {
  return descriptions[-errno] ?? `Unknown error ${-errno}`;
}

/** `NAME=VALUE`; a bare name switches a bool on. */
function parameterValue(word: string): [string, string] {
  const equals = word.indexOf('=');
  if (equals < 0) return [word, '1'];
  const value = word.slice(equals + 1);
  return [word.slice(0, equals), /^"(.*)"$/s.exec(value)?.[1] ?? value];
}

function underscored(name: string): string {
  return name.replaceAll('-', '_');
}

function splitArguments(args: readonly string[]): { flags: string[]; words: string[] } {
  return { flags: args.filter((word) => word.startsWith('-')), words: args.filter((word) => !word.startsWith('-')) };
}

function hasFlag(flags: readonly string[], short: string, long: string): boolean {
  return flags.some((flag) => flag === `--${long}` || (/^-[^-]/.test(flag) && flag.includes(short)));
}
