/**
 * Debian packages without installing them: apt with directories of its own, and so no root, no lock and no effect on the
 * system's packages. It finds what a package needs in any suite, checks signatures and hashes, and downloads.
 */

import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { has, must, run, Unavailable } from './process.js';

/** Where Debian keeps the keys of its archive, in every Debian. */
const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** Debian's own mirror, for a system whose apt has no Debian. */
const publicMirror = 'http://deb.debian.org/debian';

/** What a system needs so that Debian's packages can be downloaded and unpacked. */
const programs = ['apt-get', 'apt-cache', 'dpkg-deb'];

/**
 * The mirror that the system's apt has its Debian from, or the public one.
 *
 * @param listing - lines of `apt-get indextargets`: URI, origin and label, with `|` between them
 */
export function mirrorOf(listing: string): string {
  for (const line of listing.split('\n')) {
    const [uri, origin, label] = line.split('|');
    if (uri && origin === 'Debian' && label === 'Debian') return uri.replace(/\/+$/, '');
  }
  return publicMirror;
}

/** An apt that knows one suite and has nothing installed. */
export class Apt {
  readonly #env: NodeJS.ProcessEnv;
  readonly #archives: string;

  private constructor(env: NodeJS.ProcessEnv, archives: string) {
    this.#env = env;
    this.#archives = archives;
  }

  /**
   * Makes the directories and reads the list of the suite's packages.
   *
   * @param dir - an empty directory for it
   * @param suite - a suite of Debian, `forky` for example
   * @throws Unavailable - this is no Debian on x86-64, or the mirror can not be reached or has no such suite
   */
  static async open(dir: string, suite: string): Promise<Apt> {
    if (process.platform !== 'linux' || process.arch !== 'x64') {
      throw new Unavailable(`Debian's packages for x86-64 do not run on ${process.platform} ${process.arch}`);
    }
    for (const program of programs) {
      if (!(await has(program))) throw new Unavailable(`there is no ${program} to get Debian's packages with`);
    }
    const targets = ['indextargets', '--format', '$(REPO_URI)|$(ORIGIN)|$(LABEL)', 'Created-By: Packages'];
    const listing = await run('apt-get', targets);
    const archives = join(dir, 'cache', 'archives');
    for (const each of [join(dir, 'lists', 'partial'), join(archives, 'partial'), join(dir, 'etc', 'preferences.d')]) {
      await mkdir(each, { recursive: true });
    }
    await writeFile(join(dir, 'status'), '');
    await writeFile(
      join(dir, 'sources.list'),
      `deb [signed-by=${keyring}] ${mirrorOf(listing.stdout)} ${suite} main\n`,
    );
    await writeFile(join(dir, 'apt.conf'), configuration(dir));
    const apt = new Apt({ ...process.env, APT_CONFIG: join(dir, 'apt.conf'), LC_ALL: 'C' }, archives);
    const { status, stderr } = await run('apt-get', ['update', '-qq'], { env: apt.#env });
    if (status !== 0) throw new Unavailable(`apt can not read the suite ${suite}: ${firstError(stderr)}`);
    return apt;
  }

  /**
   * The version that the suite has of a package; undefined where it has none.
   *
   * @param name - of the package
   */
  async version(name: string): Promise<string | undefined> {
    const { stdout } = await run('apt-cache', ['policy', name], { env: this.#env });
    const version = /Candidate: (\S+)/.exec(stdout)?.[1];
    return version === '(none)' ? undefined : version;
  }

  /**
   * The packages that a package depends on by name, without theirs.
   *
   * @param name - of the package
   */
  async dependencies(name: string): Promise<string[]> {
    const { stdout } = await run('apt-cache', ['depends', '--important', name], { env: this.#env });
    return [...stdout.matchAll(/Depends: (\S+)/g)].map((match) => match[1] ?? '');
  }

  /**
   * Downloads packages and all that they depend on.
   *
   * @param names - of the packages
   * @returns paths of the files
   * @throws Unavailable - the suite lacks one, or does not let them be installed together
   */
  async download(names: readonly string[]): Promise<string[]> {
    const { status, stderr } = await run('apt-get', ['install', '--download-only', '-y', '-qq', ...names], {
      env: this.#env,
    });
    if (status !== 0) throw new Unavailable(`apt can not get ${names.join(', ')}: ${firstError(stderr)}`);
    const files = await readdir(this.#archives);
    return files.filter((file) => file.endsWith('.deb')).map((file) => join(this.#archives, file));
  }
}

/**
 * Unpacks packages over each other; nothing of theirs is run.
 *
 * @param files - paths of the packages
 * @param root - directory that they find themselves in
 */
export async function unpack(files: readonly string[], root: string): Promise<void> {
  await mkdir(root, { recursive: true });
  for (const file of files) await must('dpkg-deb', ['-x', file, root]);
}

function configuration(dir: string): string {
  const settings = {
    Dir: dir,
    'Dir::Etc': join(dir, 'etc'),
    'Dir::Etc::sourcelist': join(dir, 'sources.list'),
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::State': dir,
    'Dir::State::status': join(dir, 'status'),
    'Dir::Cache': join(dir, 'cache'),
    'APT::Architecture': 'amd64',
    'APT::Architectures': 'amd64',
    'APT::Install-Recommends': 'false',
    'Acquire::Languages': 'none',
    // mirrors that stand still are common where machines are built; what is signed stays signed
    'Acquire::Check-Valid-Until': 'false',
    // the user that root's apt changes to has no access to a checkout in root's home
    'APT::Sandbox::User': 'root',
    'Debug::NoLocking': 'true',
  };
  return Object.entries(settings)
    .map(([name, value]) => `${name} "${value}";\n`)
    .join('');
}

function firstError(stderr: string): string {
  const lines = stderr.trim().split('\n');
  return (lines.find((line) => line.startsWith('E:')) ?? lines.at(-1) ?? '').replace(/^E: /, '');
}
