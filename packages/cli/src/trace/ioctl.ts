// The argument of an ioctl, before and after the call.

import { Feature, FeatureFlag, type UapiCall, type UapiStruct } from '@vfio/core';
import type { Process } from '@vfio/host';
import { longestArgument, peek, peekText } from './peek.js';
import { capabilityNames, type DecodedStruct, decodeStruct, formatStruct, hex, nameOf } from './values.js';

/** An argument that was looked at before the call. */
export interface ShownArgument {
  /** How it went in: `{argsz=32, index=0}`. */
  readonly before: string;
  /** What came out, seen after the call; empty if nothing changed. */
  after(failed: boolean): string;
  /** The fields as they are after the call, of a struct. */
  values(): Readonly<Record<string, unknown>> | undefined;
}

const nothing = { after: () => '', values: () => undefined };

/** Looks at the argument of a request whose meaning is known. */
export function showArgument(process: Process, call: UapiCall, address: bigint): ShownArgument {
  const { argument } = call;
  switch (argument.kind) {
    case 'none':
      return { before: address === 0n ? '' : hex(address), ...nothing };
    case 'number':
      return { before: nameOf(argument.names ?? {}, address) ?? address.toString(), ...nothing };
    case 's32': {
      const bytes = peek(process.mm, address, 4);
      if (bytes.length < 4) return { before: hex(address), ...nothing };
      const value = new DataView(bytes.buffer, bytes.byteOffset, 4).getInt32(0, process.byteOrder === 'little');
      return { before: `[${value}]`, ...nothing };
    }
    case 'text': {
      const text = peekText(process.mm, address);
      return { before: text === undefined ? hex(address) : JSON.stringify(text), ...nothing };
    }
    case 'struct':
      return showStruct(process, argument, address);
  }
}

function showStruct(process: Process, layout: UapiStruct, address: bigint): ShownArgument {
  const { struct } = layout;
  const look = () => {
    const head = peek(process.mm, address, struct.size);
    const bytes = head.length < struct.size ? head : peek(process.mm, address, givenSize(head, struct.size, process));
    return { bytes, decoded: decodeStruct(layout, bytes, process.byteOrder) };
  };
  const before = look().decoded;
  if (!before) return { before: hex(address), ...nothing };
  return {
    before: formatStruct(incoming(layout, before)),
    after(failed) {
      const { bytes, decoded } = look();
      if (!decoded) return '';
      const shown = outgoing(layout, before, decoded, failed);
      const caps = failed ? '' : capabilityNames(layout, decoded, bytes, process.byteOrder);
      if (caps === '' && shown.fields.size === 0 && shown.rest === '') return '';
      return formatStruct({ fields: shown.fields, rest: [shown.rest, caps].filter((part) => part !== '').join(', ') });
    },
    values: () => look().decoded?.values,
  };
}

/** Bytes that the caller says there are: the first field of every struct. */
function givenSize(head: Uint8Array, least: number, { byteOrder }: Process): number {
  const size = new DataView(head.buffer, head.byteOffset, 4).getUint32(0, byteOrder === 'little');
  return Math.min(Math.max(size, least), longestArgument);
}

/** What the caller says: without the fields that are only answers. */
function incoming(layout: UapiStruct, decoded: DecodedStruct): Pick<DecodedStruct, 'fields' | 'rest'> {
  const answers = new Set((layout.out ?? []).map(cName));
  const fields = new Map([...withFeature(layout, decoded)].filter(([name]) => !answers.has(name)));
  const rest = layout.rest?.(decoded.values);
  const filled = rest !== undefined && 'filledByKernel' in rest && rest.filledByKernel;
  return { fields, rest: filled ? '' : decoded.rest };
}

/** What the kernel says: its answers, and whatever else it changed. */
function outgoing(
  layout: UapiStruct,
  before: DecodedStruct,
  after: DecodedStruct,
  failed: boolean,
): Pick<DecodedStruct, 'fields' | 'rest'> {
  const answers = new Set(failed ? [] : (layout.out ?? []).map(cName));
  const fields = new Map(
    [...after.fields].filter(([name, text]) => answers.has(name) || before.fields.get(name) !== text),
  );
  const rest = layout.rest?.(after.values);
  const filled = !failed && rest !== undefined && 'filledByKernel' in rest && rest.filledByKernel;
  return { fields, rest: filled || before.rest !== after.rest ? after.rest : '' };
}

/** The low half of the flags of DEVICE_FEATURE is a number with a name of its own. */
function withFeature({ struct }: UapiStruct, { fields, values }: DecodedStruct): ReadonlyMap<string, string> {
  const { flags } = values;
  if (struct.name !== 'vfio_device_feature' || typeof flags !== 'number') return fields;
  const number = flags & FeatureFlag.MASK;
  const what = Object.entries(FeatureFlag)
    .filter(([name, bit]) => name !== 'MASK' && (flags & bit) !== 0)
    .map(([name]) => name);
  return new Map([...fields, ['flags', [...what, nameOf(Feature, number) ?? String(number)].join('|')]]);
}

function cName(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
