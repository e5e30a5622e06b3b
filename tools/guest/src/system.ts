/**
 * QEMU, a kernel and the guest's programs, unpacked from Debian's packages into one directory. It is made as a whole:
 * a directory of that name is complete, or it is not there.
 */

import { access, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Apt, unpack } from './apt.js';
import { must, Unavailable } from './process.js';

/** The first QEMU with vfio-user-pci. */
const leastQemu = [10, 1] as const;

/** The dynamic linker, as programs name it. */
export const linker = 'ld-linux-x86-64.so.2';

/** What is unpacked, and where it is. */
export interface System {
  /** Directory with the packages' files. */
  readonly root: string;
  /** Version of QEMU as it says itself, `11.1.2` for example. */
  readonly qemu: string;
  /** The kernel's release, as `uname -r` prints it. */
  readonly kernel: string;
}

/**
 * The system from the cache; made on first use, which downloads some 170 MB.
 *
 * @param cache - directory for it
 * @param suite - a suite of Debian
 * @param say - hears what takes time
 * @throws Unavailable - QEMU 10.1 or a kernel can not be had
 */
export async function systemOf(cache: string, suite: string, say: (line: string) => void): Promise<System> {
  const home = join(cache, suite);
  const known = await readFile(join(home, 'system.json'), 'utf8').catch(() => undefined);
  if (known !== undefined) return { ...JSON.parse(known), root: join(home, 'root') };
  const making = join(cache, `${suite}.${process.pid}`);
  try {
    await mkdir(join(making, 'apt'), { recursive: true });
    const apt = await Apt.open(join(making, 'apt'), suite);
    const version = await apt.version('qemu-system-x86');
    if (!isEnough(version)) {
      throw new Unavailable(`Debian ${suite} has QEMU ${version ?? 'not at all'}, and vfio-user-pci came with 10.1`);
    }
    const release = await kernelRelease(apt, suite);
    say(`getting QEMU ${version} and Linux ${release} of Debian ${suite}`);
    const kernel = [`linux-binary-${release}`, `linux-modules-${release}`];
    const files = await apt.download(['qemu-system-x86', 'busybox-static', 'pciutils', 'pci.ids', ...kernel]);
    const root = join(making, 'root');
    await unpack(files, root);
    await rm(join(making, 'apt'), { recursive: true });
    const words = hostProgram(root, 'qemu-system-x86_64', ['--version']);
    const said = await must(words.command, words.args);
    const qemu = /version (\S+)/.exec(said)?.[1] ?? '';
    await access(join(root, 'usr', 'lib', 'modules', release, 'vmlinuz'));
    await writeFile(join(making, 'system.json'), `${JSON.stringify({ qemu, kernel: release })}\n`);
    await rm(home, { recursive: true, force: true });
    await rename(making, home);
    return { root: join(home, 'root'), qemu, kernel: release };
  } finally {
    await rm(making, { recursive: true, force: true });
  }
}

/**
 * How a program of the unpacked packages is called: by its own dynamic linker and with its own libraries, so that the
 * system's, which may be older, have no part in it.
 *
 * @param root - directory with the packages' files
 * @param name - of a program in `usr/bin`
 * @param args - its arguments
 */
export function hostProgram(root: string, name: string, args: readonly string[]): { command: string; args: string[] } {
  const libraries = join(root, 'usr', 'lib', 'x86_64-linux-gnu');
  return {
    command: join(libraries, linker),
    args: ['--library-path', libraries, join(root, 'usr', 'bin', name), ...args],
  };
}

/**
 * Whether a version of Debian's package has vfio-user-pci.
 *
 * @param version - `1:11.1.2+ds-3` for example; undefined for none
 */
export function isEnough(version: string | undefined): boolean {
  const parts = /^(?:\d+:)?(\d+)\.(\d+)/.exec(version ?? '');
  if (!parts) return false;
  const [major, minor] = [Number(parts[1]), Number(parts[2])];
  return major > leastQemu[0] || (major === leastQemu[0] && minor >= leastQemu[1]);
}

/** The newest kernel of the suite: the package that always names it depends on the one with the release. */
async function kernelRelease(apt: Apt, suite: string): Promise<string> {
  for (const name of await apt.dependencies('linux-image-amd64')) {
    const release = /^linux-image-(\d.*)$/.exec(name)?.[1];
    if (release && (await apt.version(`linux-binary-${release}`))) return release;
  }
  throw new Unavailable(`Debian ${suite} has no kernel whose modules are a package of their own`);
}
