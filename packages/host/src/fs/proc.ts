/*
 * /proc: the processes of a host, and files about the host as a whole that its parts add.
 */
import type { Process } from '../process/process.js';
import type { ProcessTable } from '../process/process-table.js';
import { ProcessDirectory } from './proc-pid.js';
import { type ShowText, TextNode } from './text-file.js';
import type { VfsNode } from './vfs-node.js';

/** The file system at /proc. */
export class ProcFs {
  readonly root: VfsNode;
  readonly #processes: ProcessTable;
  readonly #files = new Map<string, VfsNode>();
  readonly #directories = new WeakMap<Process, ProcessDirectory>();

  constructor(processes: ProcessTable) {
    this.#processes = processes;
    this.root = {
      kind: 'dir',
      mode: 0o555,
      uid: 0,
      gid: 0,
      lookup: (name) => this.#files.get(name) ?? this.#directory(name),
      list: () => [...this.#processes.all().map(({ pid }) => String(pid)), ...this.#files.keys()],
    };
    const self: VfsNode = { kind: 'link', mode: 0o777, uid: 0, gid: 0, target: ({ pid }) => String(pid) };
    this.#files.set('self', self);
  }

  /** Adds a file about the host; it is there until disposed. */
  addFile(name: string, show: ShowText, mode = 0o444): Disposable {
    const node = new TextNode({ path: `/proc/${name}`, mode, show });
    this.#files.set(name, node);
    return { [Symbol.dispose]: () => void (this.#files.get(name) === node && this.#files.delete(name)) };
  }

  #directory(name: string): ProcessDirectory | undefined {
    const process = /^[1-9][0-9]*$/.test(name) ? this.#processes.get(Number(name)) : undefined;
    if (process === undefined) return undefined;
    let directory = this.#directories.get(process);
    if (directory === undefined) {
      directory = new ProcessDirectory(process);
      this.#directories.set(process, directory);
    }
    return directory;
  }
}
