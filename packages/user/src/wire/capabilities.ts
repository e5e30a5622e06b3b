// What both sides say of themselves in VERSION: JSON with a NUL at its end, every member optional.

import { VfioError } from '@vfio/core';

/** What one side can do. */
export interface Capabilities {
  /** Descriptors that it can receive in one message. */
  readonly maxMsgFds: number;
  /** Most bytes that a message to it, or that it is asked for, carries. */
  readonly maxDataXferSize: number;
  /** DMA regions at a time. */
  readonly maxDmaMaps: number;
  /** Page sizes of DMA regions, or'ed. */
  readonly pgsizes: number;
  /** Commands of the server travel on a socket of their own. */
  readonly twinSocket: boolean;
  /** REGION_WRITE_MULTI may be used. */
  readonly writeMultiple: boolean;
}

/** What holds for members that are absent. */
export const defaultCapabilities: Capabilities = {
  maxMsgFds: 1,
  maxDataXferSize: 1 << 20,
  maxDmaMaps: 65535,
  pgsizes: 4096,
  twinSocket: false,
  writeMultiple: false,
};

const names = {
  maxMsgFds: 'max_msg_fds',
  maxDataXferSize: 'max_data_xfer_size',
  maxDmaMaps: 'max_dma_maps',
  pgsizes: 'pgsizes',
} as const;

/** A parsed JSON object. */
type Members = Readonly<Record<string, unknown>>;

/**
 * Reads the JSON of a VERSION message.
 *
 * @param bytes - behind major and minor; none is as good as an empty object
 * @throws VfioError EINVAL - no NUL at the end, no JSON, a member of the wrong type or a negative number
 */
export function parseCapabilities(bytes: Uint8Array): Capabilities {
  if (bytes.length === 0) return defaultCapabilities;
  const root = parseObject(bytes);
  const given = root.capabilities;
  if (given === undefined) return defaultCapabilities;
  if (!isObject(given)) throw refused('capabilities is no object');
  const number = (key: keyof typeof names) => numberOf(given, names[key]) ?? defaultCapabilities[key];
  const twin = objectOf(given, 'twin_socket');
  // of an older draft and still in use; looked at for its types only
  const migration = objectOf(given, 'migration');
  numberOf(migration ?? {}, 'pgsize');
  numberOf(migration ?? {}, 'max_bitmap_size');
  return {
    maxMsgFds: number('maxMsgFds'),
    maxDataXferSize: number('maxDataXferSize'),
    maxDmaMaps: number('maxDmaMaps'),
    pgsizes: number('pgsizes'),
    twinSocket: booleanOf(twin ?? {}, 'supported') ?? false,
    writeMultiple: booleanOf(given, 'write_multiple') ?? false,
  };
}

/**
 * The JSON of a VERSION message. Only what differs from the defaults is said: a client may have no room for more than it
 * sent itself, and may not know every member.
 *
 * @param twinFdIndex - which descriptor of the message is the twin socket, if there is one
 */
export function formatCapabilities(capabilities: Capabilities, twinFdIndex?: number): Uint8Array {
  const members: Record<string, unknown> = {};
  for (const key of ['maxMsgFds', 'maxDataXferSize', 'maxDmaMaps', 'pgsizes'] as const) {
    if (capabilities[key] !== defaultCapabilities[key]) members[names[key]] = capabilities[key];
  }
  if (capabilities.writeMultiple) members.write_multiple = true;
  if (capabilities.twinSocket) {
    members.twin_socket = { supported: true, ...(twinFdIndex === undefined ? {} : { fd_index: twinFdIndex }) };
  }
  return new TextEncoder().encode(`${JSON.stringify({ capabilities: members })}\0`);
}

function parseObject(bytes: Uint8Array): Members {
  if (bytes.at(-1) !== 0) throw refused('the JSON does not end in a NUL');
  const text = bytes.subarray(0, -1);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(text));
  } catch (cause) {
    throw new VfioError('EINVAL', 'not JSON', { syscall: 'VERSION', cause });
  }
  if (!isObject(value)) throw refused('the JSON is no object');
  return value;
}

function isObject(value: unknown): value is Members {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function objectOf(members: Members, name: string): Members | undefined {
  const value = members[name];
  if (value === undefined || isObject(value)) return value;
  throw refused(`${name} is no object`);
}

function numberOf(members: Members, name: string): number | undefined {
  const value = members[name];
  if (value === undefined) return undefined;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw refused(`${name} is no number that counts something`);
}

function booleanOf(members: Members, name: string): boolean | undefined {
  const value = members[name];
  if (value === undefined || typeof value === 'boolean') return value;
  throw refused(`${name} is neither true nor false`);
}

function refused(reason: string): VfioError {
  return new VfioError('EINVAL', reason, { syscall: 'VERSION' });
}
