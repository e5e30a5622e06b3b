// wprobe: which bits of a register can be written, found by writing patterns and reading them back.

import { type Command, type CommandCall, wordAt } from '../command.js';
import { attempt, type Outcome, showOutcome } from '../outcome.js';
import { hex64 } from '../output.js';
import { getScalar, needScalar, putScalar } from '../scalar.js';

/** As many patterns as one step tries. */
const MAX_PATTERNS = 16;

async function wprobe(call: CommandCall): Promise<void> {
  const { process, names } = call.scope;
  const { result } = call;
  const descriptor = names.descriptor(wordAt(call, 1));
  const offset = BigInt.asIntN(64, names.evaluate(wordAt(call, 2)));
  const scalar = needScalar(wordAt(call, 3));
  const ones = 2n ** BigInt(8 * scalar.size) - 1n;
  const given = call.words.slice(4, 4 + MAX_PATTERNS).map((word) => names.evaluate(word) & ones);
  const patterns = given.length > 0 ? given : [ones, 0n];
  const bytes = new Uint8Array(scalar.size);
  const readBack = () => attempt(() => process.pread(descriptor, bytes, offset));

  const first = await readBack();
  if (!complete(first, scalar.size)) {
    result.at = 'read';
    showOutcome(result, first);
    return;
  }
  const original = getScalar(bytes, 0, scalar, names.byteOrder);
  result.orig = hex64(original);
  const writes: string[] = [];
  for (const pattern of [...patterns, original]) {
    putScalar(bytes, 0, scalar, pattern, names.byteOrder);
    const written = await attempt(() => process.pwrite(descriptor, bytes, offset));
    if (!complete(written, scalar.size)) {
      writes.push(written.ok ? 'short' : written.errno);
      continue;
    }
    const got = await readBack();
    if (complete(got, scalar.size)) writes.push(hex64(getScalar(bytes, 0, scalar, names.byteOrder)));
    else writes.push(`read ${got.ok ? 'short' : got.errno}`);
  }
  result.writes = writes;
}

function complete(outcome: Outcome<number>, size: number): boolean {
  return outcome.ok && outcome.value === size;
}

/** The probe, by name. */
export const probeCommands: Readonly<Record<string, Command>> = {
  wprobe: { usage: 'wprobe FD OFFSET TYPE [PATTERN...]', words: 4, run: wprobe },
};
