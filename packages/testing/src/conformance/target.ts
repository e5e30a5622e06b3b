/* A fresh target for a case, and its end. */
import { isKernelBug } from '@vfio/host';
import type { DriverConformance } from './options.js';
import { ConformanceError } from './promise.js';
import { Subject } from './subject.js';

/** A target with a process on it. */
export interface Prepared {
  readonly subject: Subject;
  /**
   * Ends the process and the machine.
   *
   * @throws ConformanceError - the machine says that something was not given back
   */
  dispose(): Promise<void>;
}

/**
 * Makes a target, and opens its device once: what a first open makes for good is there then, such as the domain that a
 * group is blocked with, and a case does not take it for something left behind.
 *
 * @throws TypeError - the machine is not in checked mode
 */
export async function prepare(options: DriverConformance): Promise<Prepared> {
  const target = await options.create();
  const { machine } = target;
  const { host } = machine;
  const end = () => machine[Symbol.asyncDispose]?.() ?? host[Symbol.asyncDispose]();
  if (!host.checked) {
    await end();
    throw new TypeError(
      'the conformance suite looks for leaks: create() has to make a checked host, { checked: true }',
    );
  }
  const process = host.spawn({ comm: 'conformance' });
  const subject = new Subject(options, target, process);
  const dispose = async () => {
    await process.exit(0);
    try {
      await end();
    } catch (error) {
      if (!isKernelBug(error, 'leak')) throw error;
      throw new ConformanceError(`A machine that is shut down gives everything back. Found: ${error.message}`, {
        cause: error,
      });
    }
  };
  try {
    await (await subject.open()).close();
  } catch (error) {
    await dispose();
    throw error;
  }
  return { subject, dispose };
}
