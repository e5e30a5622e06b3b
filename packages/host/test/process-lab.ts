/*
 * What tests of processes, files and memory share: the parts of a machine that processes stand on, and files that
 * do as they are told.
 */
import { expect } from 'vitest';
import {
  CharDevices,
  Devtmpfs,
  File,
  type FileOptions,
  Host,
  type HostOptions,
  O,
  PhysicalMemory,
  type PhysicalMemoryOptions,
  type Process,
  ProcessTable,
  ProcFs,
  TmpfsDirectory,
  type UserBuffer,
  Vfs,
  VirtualClock,
} from '../src/index.js';

/** A machine with a clock that stands still. */
export function createLab(options: HostOptions & PhysicalMemoryOptions = {}) {
  const clock = new VirtualClock();
  const host = new Host({ checked: true, clock, ...options });
  const memory = new PhysicalMemory(host, options);
  const root = new TmpfsDirectory('/');
  const vfs = new Vfs(root);
  const processes = new ProcessTable(host, { memory, vfs });
  const chrdevs = new CharDevices(host);
  const devtmpfs = new Devtmpfs(host, chrdevs);
  const procfs = new ProcFs(processes);
  const tmp = root.mkdir('tmp', 0o1777);
  root.mkdir('dev');
  root.mkdir('proc');
  vfs.mount('/dev', devtmpfs.root);
  vfs.mount('/proc', procfs.root);
  procfs.addFile('devices', () => chrdevs.devicesText());
  procfs.addFile('misc', () => chrdevs.miscText());
  const init = processes.spawn({ comm: 'init' });
  return { host, clock, memory, root, tmp, vfs, processes, chrdevs, devtmpfs, procfs, init };
}

/** The machine of {@link createLab}. */
export type Lab = ReturnType<typeof createLab>;

/** A file with the operations that a test gives it. */
export class TestFile extends File {
  constructor(operations: Partial<File>, options: Partial<FileOptions> = {}) {
    super({ flags: O.RDWR, label: 'anon_inode:[test]', seek: 'none', ...options });
    Object.assign(this, operations);
  }
}

/** Bytes behind a file, at most up to what the caller can take. */
export function serve(content: Uint8Array) {
  return {
    read(buffer: UserBuffer, position: number): number {
      const part = content.subarray(position, position + buffer.bytes.length);
      buffer.bytes.set(part);
      return part.length;
    },
    write(buffer: UserBuffer, position: number): number {
      const part = buffer.bytes.subarray(0, Math.max(0, content.length - position));
      content.set(part, position);
      return part.length;
    },
  };
}

/** An error that carries this code. */
export function errno(code: string, rest: Record<string, unknown> = {}) {
  return expect.objectContaining({ code, ...rest });
}

/** Installs a file and gives its descriptor. */
export function install(process: Process, file: File): number {
  return process.files.add(file);
}
