// Commands on files: sysfs attributes, folders, links, and what /proc says about a descriptor.

import { O, type Process } from '@vfio/host';
import { byteString, bytesOf, toByteString } from '../byte-string.js';
import { type Command, type CommandCall, wordAt } from '../command.js';
import { glob } from '../glob.js';
import { attempt, type Outcome, showOutcome } from '../outcome.js';

/** As much of a file as `cat` reads. */
const MAX_TEXT = 65536;

const kindMarks: Readonly<Record<string, string>> = { dir: '/', link: '@', char: '%' };

async function cat(call: CommandCall): Promise<void> {
  const { result, options } = call;
  const got = await readText(call.scope.process, call.scope.path(wordAt(call, 1)));
  if (!got.ok) {
    result.at = got.at;
    showOutcome(result, got);
    return;
  }
  const text = byteString(got.value);
  result.ret = 0;
  result.len = text.length;
  if (options.text !== undefined) call.scope.names.variables.set(options.text, text.replace(/[\n ]+$/, ''));
  if (!options.quiet) result.text = text;
}

async function echo(call: CommandCall): Promise<void> {
  const { process } = call.scope;
  const { result } = call;
  const opened = await attempt(() => process.open(call.scope.path(wordAt(call, 1)), O.WRONLY));
  if (!opened.ok) {
    result.at = 'open';
    showOutcome(result, opened);
    return;
  }
  const written = await attempt(() => process.write(opened.value, bytesOf(wordAt(call, 2))));
  if (!written.ok) result.at = 'write';
  showOutcome(result, written);
  await attempt(() => process.close(opened.value));
}

async function ls(call: CommandCall): Promise<void> {
  const { process } = call.scope;
  const { result } = call;
  const path = call.scope.path(wordAt(call, 1));
  const listed = await attempt(() => process.readdir(path));
  if (!listed.ok) {
    showOutcome(result, listed);
    return;
  }
  const names = listed.value.map(({ name, kind }) => `${toByteString(name)}${kindMarks[kind] ?? ''}`).sort(byBytes);
  result.ret = 0;
  result.count = names.length;
  if (!call.options.quiet) result.names = names;
}

async function readlink(call: CommandCall): Promise<void> {
  const { result, options } = call;
  const got = await attempt(() => call.scope.process.readlink(call.scope.path(wordAt(call, 1))));
  showOutcome(result, got, 0);
  if (!got.ok) return;
  const target = toByteString(got.value);
  if (options.base !== undefined)
    call.scope.names.variables.set(options.base, target.slice(target.lastIndexOf('/') + 1));
  if (!options.quiet) result.target = target;
}

async function stat(call: CommandCall): Promise<void> {
  const { result } = call;
  const got = await attempt(() => call.scope.process.lstat(call.scope.path(wordAt(call, 1))));
  showOutcome(result, got, 0);
  if (!got.ok) return;
  const { kind, mode, uid, gid, size, rdev } = got.value;
  result.type = kind;
  result.mode = (mode & 0o7777).toString(8).padStart(4, '0');
  result.uid = uid;
  result.gid = gid;
  if (kind === 'file') result.size = size ?? 0;
  if (kind === 'char' && !call.options.quiet) {
    result.major = rdev?.major ?? 0;
    result.minor = rdev?.minor ?? 0;
  }
}

async function globPaths(call: CommandCall): Promise<void> {
  const { process, names } = call.scope;
  const found = await glob(call.scope.path(wordAt(call, 2)), {
    list: async (path) => {
      const listed = await attempt(() => process.readdir(path));
      return listed.ok ? listed.value.map(({ name }) => name) : [];
    },
    exists: async (path) => (await attempt(() => process.lstat(path))).ok,
  });
  call.result.count = found.length;
  if (found[0] !== undefined) names.variables.set(wordAt(call, 1), toByteString(found[0]));
}

async function chmod(call: CommandCall): Promise<void> {
  const digits = /^[0-7]*/.exec(wordAt(call, 2))?.[0] ?? '';
  const mode = digits === '' ? 0 : Number.parseInt(digits, 8);
  const done = await attempt(() => call.scope.process.chmod(call.scope.path(wordAt(call, 1)), mode));
  showOutcome(call.result, done, 0);
}

async function fdlink(call: CommandCall): Promise<void> {
  const descriptor = call.scope.names.descriptor(wordAt(call, 1));
  const got = await attempt(() => call.scope.process.readlink(`/proc/self/fd/${descriptor}`));
  if (got.ok) call.result.target = toByteString(got.value);
  else showOutcome(call.result, got);
}

/** What every descriptor has in fdinfo, and what of an eventfd depends on the machine's history. */
const commonFdinfo = ['pos:', 'flags:', 'mnt_id:', 'ino:', 'eventfd-id:'];

async function fdinfo(call: CommandCall): Promise<void> {
  const descriptor = call.scope.names.descriptor(wordAt(call, 1));
  const got = await readText(call.scope.process, `/proc/self/fdinfo/${descriptor}`);
  if (!got.ok) {
    showOutcome(call.result, got);
    return;
  }
  const lines = byteString(got.value).split('\n');
  if (lines.at(-1) === '') lines.pop();
  call.result.lines = lines.filter((line) => !commonFdinfo.some((prefix) => line.startsWith(prefix)));
}

type ReadText = { ok: true; value: Uint8Array } | { ok: false; errno: string; at: 'open' | 'read' };

/** Reads a file until it gives nothing more. */
async function readText(process: Process, path: string): Promise<ReadText> {
  const opened = await attempt(() => process.open(path, O.RDONLY));
  if (!opened.ok) return { ...opened, at: 'open' };
  const bytes = new Uint8Array(MAX_TEXT);
  let length = 0;
  let got: Outcome<number>;
  do {
    got = await attempt(() => process.read(opened.value, bytes.subarray(length)));
    if (got.ok) length += got.value;
  } while (got.ok && got.value > 0);
  await attempt(() => process.close(opened.value));
  return got.ok ? { ok: true, value: bytes.subarray(0, length) } : { ...got, at: 'read' };
}

function byBytes(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/** Commands on files, by name. */
export const fileCommands: Readonly<Record<string, Command>> = {
  cat: { usage: 'cat PATH', words: 2, run: cat },
  echo: { usage: 'echo PATH TEXT', words: 3, run: echo },
  ls: { usage: 'ls PATH', words: 2, run: ls },
  readlink: { usage: 'readlink PATH', words: 2, run: readlink },
  stat: { usage: 'stat PATH', words: 2, run: stat },
  glob: { usage: 'glob VARIABLE PATTERN', words: 3, run: globPaths },
  chmod: { usage: 'chmod PATH OCTAL', words: 3, run: chmod },
  fdlink: { usage: 'fdlink NAME', words: 2, run: fdlink },
  fdinfo: { usage: 'fdinfo NAME', words: 2, run: fdinfo },
};
