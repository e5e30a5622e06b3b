// The first message: versions, and what each side can do.

import { isVfioError } from '@vfio/core';
import { type Capabilities, formatCapabilities, parseCapabilities } from '../wire/capabilities.js';
import { versionMessage } from '../wire/messages.js';
import type { Call } from './call.js';
import { violation } from './connection.js';
import { MAJOR, MINOR } from './limits.js';

/** What came of it. */
export interface Agreement {
  readonly theirs: Capabilities;
  /** Whether commands of the server get a socket of their own, whose other end goes along as the first descriptor. */
  readonly twin: boolean;
  /** Payload of the reply. */
  readonly reply: Uint8Array;
}

/** Which descriptor of the reply the twin socket is. */
const twinFdIndex = 0;

/**
 * Reads a VERSION message and makes the reply.
 *
 * @param own - what the server says of itself
 * @throws Violation - another major version, or nothing that can be read: the client has to leave
 */
export function negotiate(call: Call, own: Capabilities): Agreement {
  if (call.length < versionMessage.size) throw violation(`${call.length} bytes do not hold a version`);
  const { major, minor } = versionMessage.decode(call.payload(0, versionMessage.size), 'little');
  if (major !== MAJOR) throw violation(`version ${major}.${minor}`);
  const theirs = read(call);
  // a client that can not receive a descriptor can not have it
  const twin = theirs.twinSocket && theirs.maxMsgFds > 0;
  const json = formatCapabilities({ ...own, twinSocket: twin }, twinFdIndex);
  const reply = new Uint8Array(versionMessage.size + json.length);
  // QEMU takes no minor but its own
  reply.set(versionMessage.encode({ major: MAJOR, minor: Math.min(minor, MINOR) }, 'little'));
  reply.set(json, versionMessage.size);
  return { theirs, twin, reply };
}

function read(call: Call): Capabilities {
  try {
    return parseCapabilities(call.payload(versionMessage.size));
  } catch (error) {
    if (isVfioError(error)) throw violation(error.reason);
    throw error;
  }
}
