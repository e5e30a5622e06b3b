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
  /** Payload of the reply. */
  readonly reply: Uint8Array;
}

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
  const json = formatCapabilities(own);
  const reply = new Uint8Array(versionMessage.size + json.length);
  // QEMU takes no minor but its own
  reply.set(versionMessage.encode({ major: MAJOR, minor: Math.min(minor, MINOR) }, 'little'));
  reply.set(json, versionMessage.size);
  return { theirs, reply };
}

function read(call: Call): Capabilities {
  try {
    return parseCapabilities(call.payload(versionMessage.size));
  } catch (error) {
    if (isVfioError(error)) throw violation(error.reason);
    throw error;
  }
}
