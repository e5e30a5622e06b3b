/* ioctl: the requests that work on every descriptor, then the file's own. */
import { isSystemError, SystemError } from '../errors.js';
import { type File, IoctlCall } from '../fs/file.js';
import { O } from '../fs/flags.js';
import type { Process } from './process.js';

/** Requests that the descriptor layer answers itself. */
const Generic = { FIONCLEX: 0x5450, FIOCLEX: 0x5451, FIONBIO: 0x5421 } as const;

/**
 * Performs an ioctl.
 *
 * @param request - cut to 32 bits, as in the kernel
 * @throws EBADF - not open
 * @throws ENOTTY - the file has no ioctl, or not this one
 * @source fs/ioctl.c do_vfs_ioctl(), vfs_ioctl()
 */
export async function descriptorIoctl(process: Process, fd: number, request: number, arg: bigint): Promise<number> {
  const file = process.files.get(fd).get();
  try {
    const call = new IoctlCall(process, request >>> 0, BigInt.asUintN(64, arg));
    const answer = genericIoctl(fd, file, call);
    if (answer !== undefined) return answer;
    if (file.ioctl === undefined) throw noSuchRequest(file, call);
    try {
      return await file.ioctl(call);
    } catch (error) {
      if (isSystemError(error, 'ENOIOCTLCMD')) throw noSuchRequest(file, call, error);
      throw error;
    }
  } finally {
    await file.put();
  }
}

function genericIoctl(fd: number, file: File, call: IoctlCall): number | undefined {
  switch (call.request) {
    case Generic.FIOCLEX:
    case Generic.FIONCLEX:
      call.process.files.setCloexec(fd, call.request === Generic.FIOCLEX);
      return 0;
    case Generic.FIONBIO:
      file.flags = call.u32() !== 0 ? file.flags | O.NONBLOCK : file.flags & ~O.NONBLOCK;
      return 0;
    default:
      return undefined;
  }
}

function noSuchRequest(file: File, call: IoctlCall, cause?: unknown): SystemError {
  return new SystemError('ENOTTY', `${file.label} has no request 0x${call.request.toString(16)}`, { cause });
}
