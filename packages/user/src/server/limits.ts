// Limits of a server: what it tells the client, and what follows for the size of a message.

import { type Capabilities, defaultCapabilities } from '../wire/capabilities.js';
import { HEADER_BYTES } from '../wire/header.js';

/** The only major version. */
export const MAJOR = 0;
/** The newest minor version that is spoken. */
export const MINOR = 1;

/** Most descriptors that it says it takes with a message: QEMU refuses a server that says more. It does take more. */
const mostFds = 16;

/** Longest head of a message with data of the largest transfer. */
const headBytes = 16;

/** What a server says of itself. */
export function serverCapabilities(wanted: Partial<Capabilities>): Capabilities {
  return { ...defaultCapabilities, maxMsgFds: mostFds, ...wanted };
}

/** Bytes of the longest message that may arrive. */
export function longestMessage(own: Capabilities): number {
  // a bitmap with one byte for each of all interrupts of a type, and a page of capabilities, are shorter than the default
  return HEADER_BYTES + headBytes + Math.max(own.maxDataXferSize, 65536);
}
