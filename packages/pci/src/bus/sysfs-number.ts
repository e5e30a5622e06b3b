/*
 * Numbers that administrators write to files of the bus.
 */
import { isSystemError, kstrtoint, kstrtoull, SystemError } from '@vfio/host';

/**
 * A number without a sign. What is wrong with it nobody is told.
 *
 * @throws EINVAL - not a number, or one of more than 64 bits
 * @source drivers/pci/pci-sysfs.c enable_store() and its like
 */
export function storedNumber(text: string): bigint {
  return orEinval(text, () => kstrtoull(text));
}

/** As `storedNumber`, with a sign and 32 bits. */
export function storedInt(text: string): number {
  return orEinval(text, () => kstrtoint(text));
}

function orEinval<T>(text: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new SystemError('EINVAL', `not a number: ${JSON.stringify(text)}`, { cause: error });
  }
}
