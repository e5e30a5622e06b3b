/* mmap of a file: the checks around the file's own operation. */
import { SystemError } from '../errors.js';
import { PAGE_SIZE, Prot, pageAlign, TASK_SIZE } from '../mm/layout.js';
import type { MapOptions } from '../mm/map-options.js';
import type { Process } from './process.js';

/** How a file is mapped. */
export interface FileMmapOptions extends MapOptions {
  /** MAP_SHARED unless false, which is MAP_PRIVATE. */
  readonly shared?: boolean;
  /** Bytes from the start of the file, page aligned. */
  readonly offset?: number | bigint;
}

/**
 * Maps a file into a process.
 *
 * @returns the address
 * @throws EINVAL - length 0 or offset not page aligned, or what the file says
 * @throws EBADF - not open
 * @throws ENOMEM - no room
 * @throws EOVERFLOW - the range leaves what a file can be
 * @throws EACCES - not open for reading, or a shared writable mapping of what is not open for writing
 * @throws ENODEV - the file cannot be mapped
 * @source mm/mmap.c ksys_mmap_pgoff(), do_mmap()
 */
export async function mapFile(process: Process, fd: number, options: FileMmapOptions): Promise<bigint> {
  const { prot, shared = true } = options;
  const offset = BigInt.asUintN(64, BigInt(options.offset ?? 0));
  if (offset % BigInt(PAGE_SIZE) !== 0n)
    throw new SystemError('EINVAL', `offset 0x${offset.toString(16)} is not page aligned`);
  const file = process.files.get(fd).get();
  try {
    const length = pageAlign(Number(options.length));
    if (length <= 0) throw new SystemError('EINVAL', 'length 0');
    if (length > TASK_SIZE) throw new SystemError('ENOMEM', `${length} bytes do not fit user space`);
    const largest = file.node?.kind === 'char' ? 2n ** 64n : 2n ** 63n;
    if (offset + BigInt(length) > largest) throw new SystemError('EOVERFLOW', 'the range leaves the file');
    if (shared && (prot & Prot.WRITE) !== 0 && !file.writable) {
      throw new SystemError('EACCES', `descriptor ${fd} is not open for writing`);
    }
    if (!file.readable) throw new SystemError('EACCES', `descriptor ${fd} is not open for reading`);
    if (file.mmap === undefined) throw new SystemError('ENODEV', `${file.label} cannot be mapped`);
    const reallyShared = shared && file.writable;
    const mayProt = shared && !file.writable ? Prot.READ | Prot.EXEC : Prot.READ | Prot.WRITE | Prot.EXEC;
    const request = { offset: Number(offset), length, prot, shared: reallyShared, process };
    const mapping = await file.mmap(request);
    try {
      return process.mm.mapFile({ ...options, length, shared, file, mapping, offset: Number(offset), mayProt });
    } catch (error) {
      mapping.close?.();
      throw error;
    }
  } finally {
    await file.put();
  }
}
