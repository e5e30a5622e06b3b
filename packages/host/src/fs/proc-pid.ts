/* /proc/<pid>: what there is to know of a process, and its descriptors as links. */
import { SystemError } from '../errors.js';
import { PAGE_SIZE, Prot } from '../mm/layout.js';
import type { Vma } from '../mm/vma.js';
import { capabilityBit } from '../process/credentials.js';
import { type Limit, RLIM_INFINITY } from '../process/limits.js';
import type { Process } from '../process/process.js';
import type { File } from './file.js';
import { O } from './flags.js';
import { type ShowText, TextNode } from './text-file.js';
import type { VfsNode } from './vfs-node.js';

/** The directory of one process. */
export class ProcessDirectory implements VfsNode {
  readonly kind = 'dir';
  readonly mode = 0o555;
  readonly #process: Process;
  readonly #entries: ReadonlyMap<string, VfsNode>;

  constructor(process: Process) {
    this.#process = process;
    const text = (name: string, show: ShowText): [string, VfsNode] => [
      name,
      new TextNode({ path: `/proc/${process.pid}/${name}`, uid: this.uid, gid: this.gid, show }),
    ];
    this.#entries = new Map<string, VfsNode>([
      text('status', () => statusText(process)),
      text('limits', () => limitsText(process)),
      text('maps', () => mapsText(process)),
      ['comm', new CommNode(process)],
      ['fd', new DescriptorDirectory(process, 0o500, (_fd, file) => new DescriptorLink(process, file))],
      ['fdinfo', new DescriptorDirectory(process, 0o555, (fd, file) => descriptorInfo(process, fd, file))],
    ]);
  }

  get uid(): number {
    return this.#process.credentials.uid;
  }

  get gid(): number {
    return this.#process.credentials.gid;
  }

  lookup(name: string): VfsNode | undefined {
    return this.#entries.get(name);
  }

  list(): string[] {
    return [...this.#entries.keys()];
  }
}

/** /proc/<pid>/comm: the process may rename itself. */
class CommNode extends TextNode {
  constructor(process: Process) {
    super({
      path: `/proc/${process.pid}/comm`,
      mode: 0o644,
      uid: process.credentials.uid,
      gid: process.credentials.gid,
      show: () => `${process.comm}\n`,
      store: (text, writer) => {
        if (writer !== process) throw new SystemError('EINVAL', 'another process');
        process.comm = text.replace(/\n$/, '').slice(0, 15);
      },
    });
  }
}

/** A directory with an entry for each open descriptor. */
class DescriptorDirectory implements VfsNode {
  readonly kind = 'dir';
  readonly mode: number;
  readonly #process: Process;
  readonly #entry: (fd: number, file: File) => VfsNode;

  constructor(process: Process, mode: number, entry: (fd: number, file: File) => VfsNode) {
    this.#process = process;
    this.mode = mode;
    this.#entry = entry;
  }

  get uid(): number {
    return this.#process.credentials.uid;
  }

  get gid(): number {
    return this.#process.credentials.gid;
  }

  lookup(name: string): VfsNode | undefined {
    if (!/^(0|[1-9][0-9]*)$/.test(name)) return undefined;
    const fd = Number(name);
    return this.#process.files.has(fd) ? this.#entry(fd, this.#process.files.getRaw(fd)) : undefined;
  }

  list(): string[] {
    return this.#process.files.descriptors().map(String);
  }
}

/** A link that leads to an open file, whatever its text says. */
class DescriptorLink implements VfsNode {
  readonly kind = 'link';
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly #file: File;

  constructor(process: Process, file: File) {
    this.#file = file;
    this.mode = (file.readable ? 0o500 : 0) | (file.writable ? 0o300 : 0);
    this.uid = process.credentials.uid;
    this.gid = process.credentials.gid;
  }

  target(): string {
    return pathOf(this.#file);
  }

  follow(): VfsNode {
    // An anonymous inode can be looked at and not be opened again.
    return this.#file.node ?? { kind: 'file', mode: 0o600, uid: 0, gid: 0 };
  }
}

function descriptorInfo(process: Process, fd: number, file: File): VfsNode {
  return new TextNode({
    path: `/proc/${process.pid}/fdinfo/${fd}`,
    uid: process.credentials.uid,
    gid: process.credentials.gid,
    show: () => {
      const flags = (file.flags & ~O.CLOEXEC) | (process.files.isCloexec(fd) ? O.CLOEXEC : 0);
      const ino = file.node === undefined ? 0 : process.vfs.inode(file.node);
      const common = [`pos:\t${file.position}`, `flags:\t0${flags.toString(8)}`, 'mnt_id:\t0', `ino:\t${ino}`];
      return lines([...common, ...(file.fdinfo?.() ?? [])]);
    },
  });
}

/** Source: fs/d_path.c d_path() */
function pathOf(file: File): string {
  return file.node?.deleted ? `${file.label} (deleted)` : file.label;
}

function statusText(process: Process): string {
  const { credentials, mm, files } = process;
  const effective = [...credentials.capabilities].reduce(
    (mask, name) => mask | (1n << BigInt(capabilityBit[name])),
    0n,
  );
  const four = (id: number): string => Array(4).fill(id).join('\t');
  return lines([
    `Name:\t${process.comm}`,
    'State:\tR (running)',
    `Tgid:\t${process.pid}`,
    `Pid:\t${process.pid}`,
    `PPid:\t${process.parent?.pid ?? 0}`,
    `Uid:\t${four(credentials.uid)}`,
    `Gid:\t${four(credentials.gid)}`,
    `FDSize:\t${files.size}`,
    `Groups:\t${credentials.groups.join(' ')} `,
    `VmSize:\t${kilobytes(mm.size)}`,
    `VmLck:\t${kilobytes(mm.lockedVm * PAGE_SIZE)}`,
    `VmPin:\t${kilobytes(mm.pinnedVm * PAGE_SIZE)}`,
    'Threads:\t1',
    `CapEff:\t${effective.toString(16).padStart(16, '0')}`,
  ]);
}

function limitsText(process: Process): string {
  const row = (name: string, soft: string, hard: string, units: string): string =>
    `${name.padEnd(25)} ${soft.padEnd(20)} ${hard.padEnd(20)} ${units.padEnd(10)}`;
  const limit = (name: string, { soft, hard }: Limit, units: string): string =>
    row(name, limitValue(soft), limitValue(hard), units);
  return lines([
    row('Limit', 'Soft Limit', 'Hard Limit', 'Units'),
    limit('Max open files', process.limits.get('nofile'), 'files'),
    limit('Max locked memory', process.limits.get('memlock'), 'bytes'),
  ]);
}

function mapsText(process: Process): string {
  return lines(process.mm.vmas().map((vma) => mapLine(process, vma)));
}

function mapLine(process: Process, vma: Vma): string {
  const hex = (value: number, width: number): string => value.toString(16).padStart(width, '0');
  const flag = (bit: number, letter: string): string => ((vma.prot & bit) !== 0 ? letter : '-');
  const file = vma.file?.file;
  const offset = vma.file === undefined ? 0 : vma.file.fileOffset + (vma.start - vma.base);
  const ino = file?.node === undefined ? 0 : process.vfs.inode(file.node);
  const modes = flag(Prot.READ, 'r') + flag(Prot.WRITE, 'w') + flag(Prot.EXEC, 'x') + (vma.shared ? 's' : 'p');
  const place = `${hex(vma.start, 8)}-${hex(vma.end, 8)} ${modes} ${hex(offset, 8)} 00:00 ${ino}`;
  return file === undefined ? `${place} ` : `${place.padEnd(72)} ${pathOf(file)}`;
}

function limitValue(value: bigint): string {
  return value === RLIM_INFINITY ? 'unlimited' : String(value);
}

function kilobytes(bytes: number): string {
  return `${String(bytes / 1024).padStart(8)} kB`;
}

function lines(text: readonly string[]): string {
  return text.map((line) => `${line}\n`).join('');
}
