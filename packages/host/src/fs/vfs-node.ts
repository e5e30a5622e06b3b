/*
 * What a file system gives the path walk: nodes. Sysfs, devtmpfs, proc and tmpfs each have their own kind.
 */
import type { Process } from '../process/process.js';
import type { File } from './file.js';

/** Kinds of node. */
export type NodeKind = 'dir' | 'file' | 'link' | 'char';

/** Numbers of a character device. */
export interface DeviceNumber {
  readonly major: number;
  readonly minor: number;
}

/** A node of a file system. Two look-ups of the same thing give the same object as long as it is there. */
export interface VfsNode {
  readonly kind: NodeKind;
  /** Permission bits, `0o7777`. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes, for `stat` of a file. */
  readonly size?: number;
  readonly rdev?: DeviceNumber;
  /** Its name is gone while somebody still holds it, and /proc says so. */
  readonly deleted?: boolean;

  /** dir: the entry of that name; never asked for `.` and `..`. */
  lookup?(name: string, process: Process | undefined): VfsNode | undefined;
  /** dir: the names in it. */
  list?(process: Process): string[];
  /** link: its text. */
  target?(process: Process): string;
  /** link: where it leads without a walk, as those of /proc/<pid>/fd do. ENXIO when there is nothing to open. */
  follow?(process: Process): VfsNode;

  /** Opens it. `flags` has no bits that only matter to the path walk. Absent: a directory lists, others are ENXIO. */
  open?(process: Process, flags: number): File | Promise<File>;

  /** dir: makes an empty file. Absent: EACCES. */
  create?(name: string, mode: number, process: Process): VfsNode;
  /** Cuts it to nothing, for O_TRUNC. */
  truncate?(): void;
  /** For chmod. Absent: EPERM. */
  setMode?(mode: number): void;
  /** For chown. Absent: EPERM. */
  setOwner?(uid: number, gid: number): void;
}

/** What somebody wants to do with a node. */
export const Access = { EXEC: 1, WRITE: 2, READ: 4 } as const;

/**
 * Whether a process may access a node, by its mode bits and the process's capabilities.
 *
 * @param wanted - {@link Access} bits
 * @source fs/namei.c generic_permission()
 */
export function permitted(process: Process, node: VfsNode, wanted: number): boolean {
  const { credentials } = process;
  let shift = 0;
  if (credentials.uid === node.uid) shift = 6;
  else if (credentials.inGroup(node.gid)) shift = 3;
  if (((node.mode >> shift) & 7 & wanted) === wanted) return true;
  if (credentials.capable('DAC_OVERRIDE')) {
    return node.kind === 'dir' || (wanted & Access.EXEC) === 0 || (node.mode & 0o111) !== 0;
  }
  const readOnly = node.kind === 'dir' ? Access.READ | Access.EXEC : Access.READ;
  return (wanted & ~readOnly) === 0 && credentials.capable('DAC_READ_SEARCH');
}
