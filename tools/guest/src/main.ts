/**
 * Boots an unmodified Linux in QEMU with devices on vfio-user sockets, and has the guest show what it makes of them. What
 * it takes comes from Debian's packages, into a cache of this tool's own; the system is left alone.
 */

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type Device, socketDevices, standInDevices } from './device.js';
import { Emulator } from './emulator.js';
import { Guest } from './guest.js';
import { buildInitramfs } from './initramfs.js';
import { Unavailable } from './process.js';
import { tryDevice } from './scenarios/index.js';
import { Served } from './serve.js';
import { type System, systemOf } from './system.js';
import { Transcript } from './transcript.js';

const help = `Usage: npm run guest [-- options]

Boots Linux in QEMU and has it show what it makes of its devices: its own of QEMU, or those on sockets.

Options:
  --serve NAME                 a device that 'vfio serve' knows, any number of times
  --socket NAME[:KIND]=PATH    a device that is served there, any number of times; kinds: serial (mtty), display
                               (mbochs), picture (mdpy), edu, ioat, testdev, any
  --screenshot NAME=COMMAND    how a picture of its screen is taken; the path of the PNG is added
  --transcript FILE            also write the transcript to a file
  --keep DIR                   keep pictures, the kernel's messages and QEMU's there
  --trace PATTERN              events that QEMU is to trace, 'vfio_user*' for example; see qemu.log of --keep
  --suite NAME                 Debian's suite (default: forky)
  --require                    fail where QEMU 10.1 or later can not be had, instead of skipping
  --prepare                    only fill the cache
  -h, --help                   show this
`;

const own = fileURLToPath(new URL('..', import.meta.url));

function readOptions() {
  return parseArgs({
    options: {
      serve: { type: 'string', multiple: true, default: [] },
      socket: { type: 'string', multiple: true, default: [] },
      screenshot: { type: 'string', multiple: true, default: [] },
      transcript: { type: 'string' },
      keep: { type: 'string' },
      trace: { type: 'string', multiple: true, default: [] },
      suite: { type: 'string', default: 'forky' },
      require: { type: 'boolean' },
      prepare: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  }).values;
}

/** Boots a guest with devices and tries them one after the other. */
async function tryDevices(
  system: System,
  devices: readonly Device[],
  { work, trace }: { work: string; trace: readonly string[] },
): Promise<Transcript> {
  const initramfs = await buildInitramfs(system, join(own, 'guest'), work);
  if (!initramfs.probe)
    console.error('guest: no C compiler with a static libc: steps that need guest/probe are left out');
  const transcript = new Transcript(`Linux ${system.kernel} in QEMU ${system.qemu}`);
  await using emulator = Emulator.start({ system, initramfs, devices, work, trace });
  const guest = await Guest.boot(emulator, { transcript, work, probe: initramfs.probe });
  for (const device of devices) await tryDevice(guest, device);
  return transcript;
}

type Options = ReturnType<typeof readOptions>;

/** Gets what a guest needs, has its devices served, tries them, and shows what came of it. */
async function runGuest(options: Options, work: string): Promise<number> {
  const system = await systemOf(join(own, '.cache'), options.suite, (line) => console.error(`guest: ${line}`));
  if (options.prepare) return 0;
  const served: Served[] = [];
  try {
    for (const name of options.serve) served.push(await Served.start(name, work));
    const sockets = [...served.map(({ name, socket }) => `${name}=${socket}`), ...options.socket];
    const screenshots = [...served.map(({ name, screenshot }) => `${name}=${screenshot}`), ...options.screenshot];
    const devices = sockets.length > 0 ? socketDevices(sockets, screenshots) : standInDevices();
    const transcript = await tryDevices(system, devices, { work, trace: options.trace });
    process.stdout.write(`${transcript}`);
    if (options.transcript) await writeFile(options.transcript, `${transcript}`);
    const failed = transcript.failures.length;
    console.log(`\n${transcript.steps - failed} passed, ${failed} failed`);
    return failed === 0 ? 0 : 1;
  } finally {
    for (const each of served) await each[Symbol.asyncDispose]();
  }
}

async function main(): Promise<number> {
  const options = readOptions();
  if (options.help) {
    process.stdout.write(help);
    return 0;
  }
  // what is wrong with the words shows before anything is downloaded
  socketDevices(options.socket, options.screenshot);
  const work = options.keep ?? (await mkdtemp(join(tmpdir(), 'vfio-guest-')));
  await mkdir(work, { recursive: true });
  try {
    return await runGuest(options, work);
  } catch (error) {
    if (!(error instanceof Unavailable) || options.require) throw error;
    console.error(`guest: skipped: ${error.message}`);
    return 0;
  } finally {
    if (!options.keep) await rm(work, { recursive: true, force: true });
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`guest: ${error instanceof Error ? (process.env.VFIO_DEBUG ? error.stack : error.message) : error}`);
  process.exitCode = error instanceof TypeError ? 2 : 1;
}
