/*
 * What tests of processes, files and memory share: the parts of a machine that processes stand on, and files that
 * do as they are told.
 */
import { expect } from 'vitest';
import {
  File,
  type FileOptions,
  Host,
  type HostOptions,
  O,
  type Process,
  TmpfsDirectory,
  type UserBuffer,
  type VfsNode,
  VirtualClock,
} from '../src/index.js';

/** A machine with a clock that stands still, and its root directory to put things into. */
export function createLab(options: HostOptions = {}) {
  const clock = new VirtualClock();
  const host = new Host({ checked: true, clock, ...options });
  const { memory, vfs, processes, chrdevs, devtmpfs, procfs, init } = host;
  const root = directory(vfs.resolve(init, '/').node);
  const tmp = directory(vfs.resolve(init, '/tmp').node);
  return { host, clock, memory, root, tmp, vfs, processes, chrdevs, devtmpfs, procfs, init };
}

function directory(node: VfsNode): TmpfsDirectory {
  if (node instanceof TmpfsDirectory) return node;
  throw new TypeError('not a directory of a tmpfs');
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

/** Opens a file for a process; its descriptor. */
export function install(process: Process, file: File): number {
  return process.files.add(file);
}
