// Commands on the process itself and on others: identity, limits, programs, signals, and notes in the transcript.

import { byteString, fromByteString } from '../byte-string.js';
import { type Command, type CommandCall, wordAt } from '../command.js';
import { attempt, showOutcome } from '../outcome.js';
import { hex64 } from '../output.js';
import { runProgram } from '../programs.js';

async function setuid(call: CommandCall): Promise<void> {
  const { process, names } = call.scope;
  const id = Number(BigInt.asUintN(32, names.evaluate(wordAt(call, 1))));
  // groups first, while it may: what the other two answer counts
  await attempt(() => process.setgroups([]));
  const left = await attempt(() => process.setgid(id));
  showOutcome(call.result, left.ok ? await attempt(() => process.setuid(id)) : left, 0);
}

async function setrlimit(call: CommandCall): Promise<void> {
  const { process, names } = call.scope;
  const which = wordAt(call, 1) === 'MEMLOCK' ? 'memlock' : 'nofile';
  const limit = names.evaluate(wordAt(call, 2));
  showOutcome(call.result, await attempt(() => process.setrlimit(which, limit)), 0);
}

async function run(call: CommandCall): Promise<void> {
  const { process, programs } = call.scope;
  const { status, output } = await runProgram(process, programs, call.words.slice(1).map(fromByteString));
  call.result.status = status;
  if (call.options.out) call.result.text = byteString(Buffer.from(output, 'utf8'));
}

function kill(call: CommandCall): void {
  const killed = call.scope.kill(wordAt(call, 1));
  showOutcome(call.result, killed ? { ok: true, value: 0 } : { ok: false, errno: 'ESRCH' });
}

function note(call: CommandCall): void {
  const words = call.words.slice(1).join(' ');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are left out of the transcript
  call.result.text = fromByteString(words.replace(/[\0-\x1f]/g, ''));
}

function calc(call: CommandCall): void {
  const value = call.scope.names.evaluate(wordAt(call, 2));
  call.scope.names.setNumber(wordAt(call, 1), value);
  if (!call.options.quiet) call.result.value = hex64(value);
}

/** Commands on processes, by name. */
export const processCommands: Readonly<Record<string, Command>> = {
  setuid: { usage: 'setuid UID', words: 2, run: setuid },
  setrlimit: { usage: 'setrlimit MEMLOCK|NOFILE VALUE', words: 3, run: setrlimit },
  run: { usage: 'run PROGRAM ARGUMENTS', words: 2, run },
  kill: { usage: 'kill PROCESS', words: 2, run: kill },
  note: { usage: 'note TEXT', words: 1, run: note },
  calc: { usage: 'calc VARIABLE EXPRESSION', words: 3, run: calc },
};
