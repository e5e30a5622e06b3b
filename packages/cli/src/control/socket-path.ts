// Where control sockets are: in a directory of one's own below XDG_RUNTIME_DIR or the directory for temporary files.

import { lstatSync, mkdirSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { CommandError, UsageError } from '../errors.js';

/** Variables that say where. */
export type Environment = Readonly<Record<string, string | undefined>>;

const ending = '.sock';
/** `sun_path`, with room for the zero at its end. */
const longestPath = 107;

/** The directory; it may not be there yet. */
export function controlDirectory(env: Environment): string {
  return join(env.XDG_RUNTIME_DIR || env.TMPDIR || tmpdir(), `vfio-${userId()}`);
}

/**
 * Makes the directory, or checks the one that is there: somebody else's would see our machines, or put theirs in our place.
 *
 * @throws CommandError - it is not ours, or others may enter it
 */
export function prepareDirectory(directory: string): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const { uid, mode } = lstatSync(directory);
  const isDirectory = lstatSync(directory).isDirectory();
  if (!isDirectory || uid !== userId() || (mode & 0o077) !== 0) {
    throw new CommandError(
      `${directory} must be a directory of yours with mode 0700: give another path with --control`,
    );
  }
}

/**
 * The socket of a machine of that name.
 *
 * @throws UsageError - it is no name for a file
 * @throws CommandError - the path is too long for a socket
 */
export function socketPath(env: Environment, name: string): string {
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(name)) {
    throw new UsageError(`'${name}' can not name a socket: give letters, digits, '.', '-' and '_' with --name`);
  }
  return checkedPath(join(controlDirectory(env), `${name}${ending}`));
}

/**
 * Checks that a path can be one of a socket.
 *
 * @throws CommandError - it is too long
 */
export function checkedPath(path: string): string {
  if (Buffer.byteLength(path) <= longestPath) return path;
  throw new CommandError(
    `${path} is longer than the ${longestPath} bytes of a socket: give another one with --control`,
  );
}

/** Sockets of machines in the directory, whether somebody listens or not. */
export function knownSockets(env: Environment): string[] {
  const directory = controlDirectory(env);
  try {
    return readdirSync(directory)
      .filter((name) => name.endsWith(ending))
      .sort()
      .map((name) => join(directory, name));
  } catch {
    return [];
  }
}

/** Name of the machine that a socket belongs to. */
export function machineName(socket: string): string {
  return basename(socket, ending);
}

function userId(): number {
  // there is no such function where there are no such users
  return process.getuid?.() ?? 0;
}
