/*
 * read, write, pread and pwrite: the checks that do not depend on the file, then the file's operation. This is the
 * hottest path of the host; a synchronous operation on bytes costs one small object.
 */
import { SystemError } from '../errors.js';
import type { File } from '../fs/file.js';
import { MAX_RW_COUNT, O } from '../fs/flags.js';
import { UserBuffer } from '../mm/user-buffer.js';
import type { Process } from './process.js';

/** Memory of the calling process. */
export interface UserRange {
  readonly addr: bigint;
  /** Bytes. */
  readonly length: number;
}

/** What a read fills or a write takes: bytes of the host, or memory of the process. */
export type TransferBuffer = Uint8Array | UserRange;

const MAX_POSITION = 2 ** 63;

/**
 * Reads or writes at a position.
 *
 * @param offset - bytes; undefined for the file's own position, which then moves on
 * @source fs/read_write.c ksys_pread64(), vfs_read(), vfs_write()
 */
export function transfer(
  process: Process,
  fd: number,
  into: TransferBuffer,
  offset: number | bigint | undefined,
  write: boolean,
): number | Promise<number> {
  if (offset !== undefined && offset < 0) throw new SystemError('EINVAL', `negative offset ${offset}`);
  const file = process.files.get(fd);
  if (offset !== undefined && file.seek !== 'normal' && file.seek !== 'none') {
    throw new SystemError('ESPIPE', `${file.label} has no positions`);
  }
  if (!(write ? file.writable : file.readable)) {
    throw new SystemError('EBADF', `descriptor ${fd} is not open for ${write ? 'writing' : 'reading'}`);
  }
  const operation = write ? file.write : file.read;
  if (operation === undefined) throw new SystemError('EINVAL', `${file.label} cannot be ${write ? 'written' : 'read'}`);
  const append = write && (file.flags & O.APPEND) !== 0 && file.size !== undefined;
  const position = append ? (file.size?.() ?? 0) : offset === undefined ? file.position : Number(offset);
  const buffer = bufferOf(process, into, write);
  if (position + buffer.length >= MAX_POSITION) throw new SystemError('EINVAL', 'the range ends beyond 2^63');
  const result = operation.call(file, buffer, position);
  if (typeof result === 'number') {
    if (result > 0) finish(file, buffer, position, offset === undefined, write, result);
    return result;
  }
  return finishLater(file.get(), buffer, position, offset === undefined, write, result);
}

function bufferOf(process: Process, into: TransferBuffer, write: boolean): UserBuffer {
  if (into instanceof Uint8Array) {
    return into.length <= MAX_RW_COUNT
      ? new UserBuffer(into.length, into, process)
      : new UserBuffer(MAX_RW_COUNT, into.subarray(0, MAX_RW_COUNT), process);
  }
  if (into.length < 0) throw new SystemError('EINVAL', `negative length ${into.length}`);
  // The whole range has to lie in user space, even the part beyond the most that is moved at once.
  if (into.length > MAX_RW_COUNT) process.mm.checkAccess(into.addr, into.length);
  return process.mm.userBuffer(into.addr, Math.min(into.length, MAX_RW_COUNT), write ? 'read' : 'write', process);
}

function finish(file: File, buffer: UserBuffer, position: number, moves: boolean, write: boolean, count: number): void {
  if (!write) buffer.commit(count);
  if (moves && (file.seek === 'normal' || file.seek === 'none')) file.position = position + count;
}

async function finishLater(
  file: File,
  buffer: UserBuffer,
  position: number,
  moves: boolean,
  write: boolean,
  result: Promise<number>,
): Promise<number> {
  try {
    const count = await result;
    if (count > 0) finish(file, buffer, position, moves, write, count);
    return count;
  } finally {
    await file.put();
  }
}
