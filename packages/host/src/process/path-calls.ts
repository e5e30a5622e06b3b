/* System calls on paths, other than open. */
import { isSystemError, SystemError } from '../errors.js';
import type { File } from '../fs/file.js';
import { O } from '../fs/flags.js';
import { Access, type DeviceNumber, type NodeKind, permitted, type VfsNode } from '../fs/vfs-node.js';
import { userBuffer } from '../mm/user-buffer.js';
import type { Process } from './process.js';

/** State of a node. */
export interface Stat {
  readonly ino: number;
  readonly kind: NodeKind;
  /** Permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes; 0 for what is no regular file. */
  readonly size: number;
  readonly rdev?: DeviceNumber;
}

/** A name in a directory. */
export interface DirectoryEntry {
  readonly name: string;
  readonly kind: NodeKind;
}

/** State of a node, as `stat` tells it. */
export function statOf(process: Process, node: VfsNode): Stat {
  const { kind, mode, uid, gid, size = 0, rdev } = node;
  const ino = process.vfs.inode(node);
  return { ino, kind, mode: mode & 0o7777, uid, gid, size, ...(rdev === undefined ? {} : { rdev }) };
}

/** State of an open file; one without a node is an anonymous inode. */
export function statFile(process: Process, file: File): Stat {
  if (file.node !== undefined) return statOf(process, file.node);
  return { ino: 0, kind: 'file', mode: 0o600, uid: 0, gid: 0, size: file.size?.() ?? 0 };
}

/** Names in a directory with their kinds, without `.` and `..`, in the order the file system has them. */
export function readDirectory(process: Process, path: string): DirectoryEntry[] {
  const { node } = process.vfs.resolve(process, path);
  if (node.kind !== 'dir') throw new SystemError('ENOTDIR', 'not a directory');
  if (!permitted(process, node, Access.READ)) throw new SystemError('EACCES', 'the directory may not be read');
  return (node.list?.(process) ?? []).flatMap((name) => {
    const found = node.lookup?.(name, process);
    return found === undefined ? [] : [{ name, kind: found.kind }];
  });
}

/** Text of a link. */
export function readLink(process: Process, path: string): string {
  const { node } = process.vfs.resolve(process, path, { follow: false });
  if (node.kind !== 'link' || node.target === undefined) throw new SystemError('EINVAL', 'not a symbolic link');
  return node.target(process);
}

/** Changes permission bits; the owner may, and who has CAP_FOWNER. */
export function changeMode(process: Process, path: string, mode: number): void {
  const { node } = process.vfs.resolve(process, path);
  const { credentials } = process;
  if (credentials.uid !== node.uid && !credentials.capable('FOWNER')) {
    throw new SystemError('EPERM', `belongs to user ${node.uid}`);
  }
  if (node.setMode === undefined) throw new SystemError('EPERM', 'the mode cannot be changed');
  node.setMode(mode & 0o7777);
}

/** Changes owner and group; -1 leaves one as it is. Who owns a node may give it to a group of its own. */
export function changeOwner(process: Process, path: string, uid: number, gid: number): void {
  const { node } = process.vfs.resolve(process, path);
  const { credentials } = process;
  const newUid = uid === -1 ? node.uid : uid;
  const newGid = gid === -1 ? node.gid : gid;
  const owns = credentials.uid === node.uid && newUid === node.uid;
  const allowed = credentials.capable('CHOWN') || (owns && (newGid === node.gid || credentials.inGroup(newGid)));
  if (!allowed) throw new SystemError('EPERM', `user ${credentials.uid} may not give it away`);
  if (node.setOwner === undefined) throw new SystemError('EPERM', 'the owner cannot be changed');
  node.setOwner(newUid, newGid);
}

const CHUNK = 65536;

/** Opens, reads to the end, closes. */
export async function readWhole(process: Process, path: string): Promise<string> {
  const file = await opened(process, path, O.RDONLY);
  try {
    const decoder = new TextDecoder();
    const chunk = new Uint8Array(CHUNK);
    let text = '';
    for (let position = 0; ; ) {
      if (file.read === undefined) throw new SystemError('EINVAL', 'cannot be read');
      const count = await file.read(userBuffer(chunk, process), position);
      if (count === 0) return text + decoder.decode();
      text += decoder.decode(chunk.subarray(0, count), { stream: true });
      position += count;
    }
  } finally {
    await file.put();
  }
}

/** Opens a file; a failure says that it was here. */
async function opened(process: Process, path: string, flags: number): Promise<File> {
  try {
    return await process.vfs.open(process, path, flags);
  } catch (error) {
    throw isSystemError(error) ? error.inSyscall('open', path) : error;
  }
}

/** Opens, writes once, closes; the number of bytes taken. */
export async function writeOnce(process: Process, path: string, text: string): Promise<number> {
  const file = await opened(process, path, O.WRONLY);
  try {
    if (file.write === undefined) throw new SystemError('EINVAL', 'cannot be written');
    return await file.write(userBuffer(new TextEncoder().encode(text), process), 0);
  } finally {
    await file.put();
  }
}
