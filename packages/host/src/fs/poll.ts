/* Waiting for several files at once. */
import { SystemError } from '../errors.js';
import type { Process } from '../process/process.js';
import type { File } from './file.js';
import { DEFAULT_POLL, Poll } from './flags.js';

/** A descriptor and what is of interest about it. */
export interface PollRequest {
  /** A negative one is passed over. */
  readonly fd: number;
  /** {@link Poll} bits; ERR, HUP and NVAL are always of interest. */
  readonly events: number;
}

/**
 * Waits until one of the descriptors is ready.
 *
 * @param timeoutMs - 0: does not wait; negative: waits for ever
 * @returns the bits that are true, one number for each request
 * @throws EINVAL - more requests than RLIMIT_NOFILE
 * @throws EINTR - the process was killed
 */
export async function pollFiles(
  process: Process,
  requests: readonly PollRequest[],
  timeoutMs: number,
): Promise<number[]> {
  if (requests.length > process.limits.nofile) throw new SystemError('EINVAL', `${requests.length} descriptors`);
  const files = requests.map(({ fd }) => (fd < 0 ? undefined : process.files.getOrUndefined(fd)?.get()));
  const look = (): number[] => requests.map((request, i) => answer(request, files[i]));
  try {
    const first = look();
    if (timeoutMs === 0 || first.some((bits) => bits !== 0)) return first;
    const turn = process.host.scheduler.switchPoint('poll');
    if (turn !== undefined) await turn;
    return await wait(process, files, look, timeoutMs);
  } finally {
    for (const file of files) await file?.put();
  }
}

function answer({ fd, events }: PollRequest, file: File | undefined): number {
  if (fd < 0) return 0;
  if (file === undefined) return Poll.NVAL;
  return (file.poll?.() ?? DEFAULT_POLL) & (events | Poll.ERR | Poll.HUP);
}

function wait(
  process: Process,
  files: readonly (File | undefined)[],
  look: () => number[],
  timeoutMs: number,
): Promise<number[]> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      for (const subscription of subscriptions) subscription[Symbol.dispose]();
      timer?.cancel();
      process.signal.removeEventListener('abort', killed);
    };
    const killed = (): void => {
      end();
      reject(new SystemError('EINTR', 'the process was killed'));
    };
    const wake = (): void => {
      const bits = look();
      if (bits.every((value) => value === 0)) return;
      end();
      resolve(bits);
    };
    const subscriptions = files.flatMap((file) => file?.onPoll?.(wake) ?? []);
    const timer =
      timeoutMs < 0
        ? undefined
        : process.host.clock.setTimer(timeoutMs, () => {
            end();
            resolve(look());
          });
    process.signal.addEventListener('abort', killed, { once: true });
    if (process.signal.aborted) killed();
    else wake();
  });
}
