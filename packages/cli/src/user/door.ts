// Where clients of a device come in: a socket at a path, or one that whoever has started us has made.

import { lstatSync } from 'node:fs';
import { isSystemError } from '@vfio/host';
import type { Linux, UnixListener, UnixSocket } from '@vfio/sys';
import { CommandError } from '../errors.js';
import type { UserPackages } from './load.js';

/** A path, or a descriptor of this process. */
export type Door = { readonly path: string } | { readonly fd: number };

/** An open door. */
export interface OpenDoor {
  /** Absent where there is only the one client who is here already. */
  readonly listener?: UnixListener;
  readonly client?: UnixSocket;
}

/** How a door is called in what is said of it. */
export function doorText(door: Door): string {
  return 'path' in door ? door.path : `descriptor ${door.fd}`;
}

/**
 * Opens a door. A socket that nobody listens at any more is replaced; a new one is for its owner only.
 *
 * @throws CommandError - somebody listens there, or it is something else
 */
export function openDoor({ sys }: UserPackages, linux: Linux, door: Door): OpenDoor {
  if ('path' in door) return { listener: listenAt(sys, linux, door.path) };
  try {
    return { listener: sys.adoptListener(linux, door.fd) };
  } catch (error) {
    // one that does not listen is connected
    if (isSystemError(error, 'EINVAL') && sys.fstat(door.fd).socket) return { client: sys.adoptSocket(linux, door.fd) };
    if (!isSystemError(error)) throw error;
    throw new CommandError(`descriptor ${door.fd} is no socket: ${error.message}`, { cause: error });
  }
}

function listenAt(sys: UserPackages['sys'], linux: Linux, path: string): UnixListener {
  try {
    return sys.listenUnix(linux, path);
  } catch (cause) {
    if (!isSystemError(cause, 'EADDRINUSE')) throw cause;
    const isSocket = lstatSync(path, { throwIfNoEntry: false })?.isSocket() ?? false;
    const what = isSocket ? 'somebody listens there already' : 'it is there and is no socket';
    throw new CommandError(`${path}: ${what}: give another --socket-path`, { cause });
  }
}
