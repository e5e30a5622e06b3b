// The packages that put devices on sockets: loaded when somebody asks for that, as nothing else here needs system calls.

import { CommandError } from '../errors.js';

/** What they export. */
export interface UserPackages {
  readonly sys: typeof import('@vfio/sys');
  readonly user: typeof import('@vfio/user');
}

/** @throws CommandError - they are not installed, or can not be used on this system */
export async function loadUser(): Promise<UserPackages> {
  try {
    return { sys: await import('@vfio/sys'), user: await import('@vfio/user') };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CommandError(`devices on sockets need @vfio/user, which can not be loaded: ${reason}`, { cause });
  }
}
