/**
 * The guest's file system, in memory from the start: busybox, lspci, the modules that its devices may ask for, and the
 * files of `guest/`. Archived by busybox's own cpio, in the format that the kernel unpacks.
 */

import { chmod, copyFile, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { has, must, run } from './process.js';
import { hostProgram, linker, type System } from './system.js';

/** Modules that drivers of our devices are in; what they need comes along. */
const wanted = ['bochs', 'ioatdma', 'vfio-pci', 'vfio_iommu_type1'];

/** What the archive has, beyond what every run has. */
export interface Initramfs {
  readonly path: string;
  /** Whether there was a compiler for the program in `guest/probe`. */
  readonly probe: boolean;
}

/**
 * Builds the archive.
 *
 * @param system - where files are taken from
 * @param sources - the directory `guest/`
 * @param work - directory for the archive and what leads to it
 */
export async function buildInitramfs(system: System, sources: string, work: string): Promise<Initramfs> {
  const tree = join(work, 'tree');
  await rm(tree, { recursive: true, force: true });
  for (const dir of ['bin', 'dev', 'proc', 'sys', 'tmp', 'run']) await mkdir(join(tree, dir), { recursive: true });
  const busybox = join(system.root, 'usr', 'bin', 'busybox');
  await copyFile(busybox, join(tree, 'bin', 'busybox'));
  await symlink('busybox', join(tree, 'bin', 'sh'));
  await copyFile(join(sources, 'init'), join(tree, 'init'));
  await chmod(join(tree, 'init'), 0o755);
  const probe = await compileProbe(join(sources, 'probe'), join(tree, 'bin', 'probe'));
  await stageLspci(system.root, tree);
  await stageModules(system, busybox, tree);
  const path = join(work, 'initramfs');
  const names = await listTree(tree);
  await writeFile(join(work, 'names'), names.map((name) => `${name}\n`).join(''));
  const script = '"$0" cpio -o -H newc -R 0:0 < ../names > ../initramfs';
  await must('sh', ['-c', script, busybox], { cwd: tree });
  return { path, probe };
}

/** Compiles the guest's program, where there is a compiler with a static C library. */
async function compileProbe(source: string, target: string): Promise<boolean> {
  if (!(await has('cc'))) return false;
  const files = (await readdir(source)).filter((file) => file.endsWith('.c')).map((file) => join(source, file));
  const { status } = await run('cc', ['-O2', '-Wall', '-Wextra', '-static', '-o', target, ...files]);
  return status === 0;
}

/** lspci with its libraries, at the paths that it looks for them, and with the names of vendors and devices. */
async function stageLspci(root: string, tree: string): Promise<void> {
  const { command, args } = hostProgram(root, 'lspci', []);
  const listing = await must(command, ['--list', ...args]);
  await copyFile(join(root, 'usr', 'bin', 'lspci'), join(tree, 'bin', 'lspci'));
  const libraries = join(tree, 'lib', 'x86_64-linux-gnu');
  await mkdir(libraries, { recursive: true });
  for (const match of listing.matchAll(/=> (\S+)/g)) {
    const library = match[1] ?? '';
    await copyFile(library, join(libraries, basename(library)));
  }
  await mkdir(join(tree, 'lib64'));
  await symlink(`../lib/x86_64-linux-gnu/${linker}`, join(tree, 'lib64', linker));
  await mkdir(join(tree, 'usr', 'share', 'misc'), { recursive: true });
  await copyFile(join(root, 'usr', 'share', 'misc', 'pci.ids'), join(tree, 'usr', 'share', 'misc', 'pci.ids'));
}

/** The modules and what they need, uncompressed, with the tables that modprobe reads. */
async function stageModules(system: System, busybox: string, tree: string): Promise<void> {
  const from = join(system.root, 'usr', 'lib', 'modules', system.kernel);
  const to = join(tree, 'lib', 'modules', system.kernel);
  const known = new Map<string, string>();
  for (const entry of await readdir(join(from, 'kernel'), { recursive: true })) {
    const name = basename(entry).replace(/\.ko(\.xz)?$/, '');
    if (name !== basename(entry)) known.set(moduleName(name), entry);
  }
  const queue = wanted.map(moduleName);
  const staged = new Set<string>();
  for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
    const entry = known.get(name);
    // what is not a file is built into the kernel
    if (staged.has(name) || entry === undefined) continue;
    staged.add(name);
    const target = join(to, 'kernel', entry.replace(/\.xz$/, ''));
    await mkdir(dirname(target), { recursive: true });
    await decompress(busybox, join(from, 'kernel', entry), target);
    queue.push(...neededBy(await readFile(target)).map(moduleName));
  }
  for (const table of ['modules.order', 'modules.builtin', 'modules.builtin.modinfo']) {
    await copyFile(join(from, table), join(to, table));
  }
  const { command, args } = hostProgram(system.root, 'kmod', ['-b', tree, system.kernel]);
  await must(command, ['--argv0', 'depmod', ...args]);
}

/** One module as it was before it was compressed. */
async function decompress(busybox: string, source: string, target: string): Promise<void> {
  if (!source.endsWith('.xz')) return await copyFile(source, target);
  await must('sh', ['-c', '"$0" xzcat "$1" > "$2"', busybox, source, target]);
}

/** A module's name as the kernel has it: files may have `-` where it has `_`. */
function moduleName(name: string): string {
  return name.replaceAll('-', '_');
}

/**
 * The modules that a module needs, as its own section says.
 *
 * @param image - bytes of an uncompressed module
 */
export function neededBy(image: Uint8Array): string[] {
  const bytes = Buffer.from(image.buffer, image.byteOffset, image.byteLength);
  const at = bytes.indexOf('\0depends=');
  if (at < 0) return [];
  const start = at + '\0depends='.length;
  const list = bytes.toString('latin1', start, bytes.indexOf(0, start));
  return list === '' ? [] : list.split(',');
}

/** Every path below a directory, directories before what they hold. */
async function listTree(tree: string): Promise<string[]> {
  const names = await readdir(tree, { recursive: true });
  return ['.', ...names.sort()];
}
