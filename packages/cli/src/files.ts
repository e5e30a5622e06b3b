// A process of the machine that reads and writes sysfs for a command, as an administrator's shell would.

import { isSystemError, type Process } from '@vfio/host';
import type { Machine } from '@vfio/machine';
import { aborted } from './abort.js';

/** Runs something in a process of its own, which ends with it, or when nobody waits any more. */
export async function inProcess<T>(
  { machine, signal }: { readonly machine: Machine; readonly signal: AbortSignal },
  run: (process: Process) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted();
  const process = machine.process({ comm: 'vfio' });
  const kill = () => void process.kill();
  signal.addEventListener('abort', kill);
  try {
    const work = run(process);
    return await Promise.race([work, aborted(signal, work)]);
  } finally {
    signal.removeEventListener('abort', kill);
    // a call that can not be interrupted ends in its own time
    if (!signal.aborted) await process.exit();
  }
}

/** Names in a directory; none if it is not there. */
export function namesIn(process: Process, path: string): string[] {
  return attempt(() => process.readdir(path).map(({ name }) => name)) ?? [];
}

/** The last part of where a link leads; undefined if there is no such link. */
export function linkName(process: Process, path: string): string | undefined {
  return attempt(() => process.readlink(path))
    ?.split('/')
    .at(-1);
}

/** Text of an attribute without its line end; undefined if there is no such file. */
export async function attribute(process: Process, path: string): Promise<string | undefined> {
  try {
    return (await process.readFile(path)).trimEnd();
  } catch (error) {
    if (isSystemError(error)) return undefined;
    throw error;
  }
}

/** Whether something is at a path. */
export function exists(process: Process, path: string): boolean {
  return attempt(() => process.lstat(path)) !== undefined;
}

function attempt<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if (isSystemError(error)) return undefined;
    throw error;
  }
}
