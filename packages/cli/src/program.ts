// The command line: what words there are, and what each of them starts.

import { existsSync } from 'node:fs';
import { Command as Commander, CommanderError } from 'commander';
import type { Command, Invocation, Options } from './command.js';
import { textOption } from './command.js';
import { down } from './commands/down.js';
import { importDump } from './commands/import.js';
import { plainCommands } from './commands/index.js';
import { replay } from './commands/replay.js';
import { traceCommand } from './commands/trace.js';
import { up, upDetached } from './commands/up.js';
import { Exit, explain, failureOf, UsageError } from './errors.js';
import type { Io } from './io.js';
import { Terminal } from './output/terminal.js';
import { traceScript } from './replay/trace-script.js';
import { runOnTarget, type TargetOptions } from './target.js';
import { readVersion } from './version.js';

/**
 * Runs a command line.
 *
 * @param words - behind the program's name
 * @returns the exit code: 0, 1 if something failed, 2 if the command line has no meaning
 */
export async function main(words: readonly string[], io: Io): Promise<number> {
  using terminal = new Terminal(io);
  const debug = Boolean(io.env.VFIO_DEBUG);
  try {
    return await runWords(words, terminal, io);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? Exit.OK : Exit.USAGE;
    const failure = failureOf(error);
    terminal.note(explain(failure, debug));
    return failure.exitCode;
  }
}

async function runWords(words: readonly string[], terminal: Terminal, io: Io): Promise<number> {
  let code: number = Exit.OK;
  const program = newProgram(terminal);
  const trace = traceCommand(plainCommands, parsePlain(terminal));
  for (const command of [...plainCommands, trace]) {
    const use = async (invocation: Invocation, options: Options) => {
      code = await runOnTarget(invocation, targetOf(options), terminal, io);
    };
    const script = async (path: string, options: Options) => {
      code = await traceScript(path, options, terminal, io);
    };
    addTarget(declare(program, command)).action(async (...parameters: unknown[]) => {
      const { operands, options } = given(parameters);
      const [first] = operands;
      if (command === trace && first !== undefined && isScript(first)) await script(first, options);
      else await use(command.invoke(operands, options), options);
    });
  }
  addUp(program, terminal, io, (result) => {
    code = result;
  });
  await program.parseAsync([...words], { from: 'user' });
  return code;
}

/** The commands that have to do with whole machines, not with what is on one. */
function addUp(program: Commander, terminal: Terminal, io: Io, end: (code: number) => void): void {
  program
    .command('up')
    .summary('bring a machine up')
    .description('Brings a machine up, and keeps it up until ^C or vfio down.')
    .argument('<machine.yaml>', 'machine file')
    .option('-d, --detach', 'in the background; returns when it is up')
    .option('-n, --name <name>', "name to find it by; the machine's own by default")
    .option('-c, --control <path>', 'control socket, instead of one by its name')
    .option('--checked', 'look for misuse and leaks, as a kernel with KASAN and lockdep does')
    .addHelpText(
      'after',
      examplesText([
        ['vfio up examples/lab.yaml', 'until ^C'],
        ['vfio up examples/lab.yaml --detach --name ci', 'in the background, as ci'],
      ]),
    )
    .action(async (file: string, options: Options) => {
      const { name, control } = targetOf(options);
      const chosen = {
        ...(name === undefined ? {} : { name }),
        ...(control === undefined ? {} : { control }),
        ...(options.checked === true ? { checked: true } : {}),
      };
      const words = [
        'up',
        ...(options.checked === true ? ['--checked'] : []),
        ...(name === undefined ? [] : ['--name', name]),
        ...(control === undefined ? [] : ['--control', control]),
        '--',
        file,
      ];
      const detach = options.detach === true;
      end(await (detach ? upDetached(file, words, chosen, terminal, io) : up(file, chosen, terminal, io)));
    });
  addNamed(program.command('down').summary('shut a machine down'))
    .description('Shuts a machine down that is up, and says what it left behind.')
    .addHelpText(
      'after',
      examplesText([
        ['vfio down', 'the only one'],
        ['vfio down --name ci', 'that one'],
      ]),
    )
    .action(async (options: Options) => end(await down(targetOf(options), terminal, io)));
  program
    .command('import')
    .summary('make a machine file out of what a real machine says of itself')
    .description(
      'Makes a machine file out of a text that a tool printed on a real machine, and writes it to standard output.\n' +
        'What the tool is depends on the packages that are installed: @vfio/pci takes lspci -x, -xxx and -xxxx.',
    )
    .argument('<dump>', 'the text, or - for standard input')
    .option('-n, --name <name>', 'name of the machine; that of the file by default')
    .addHelpText(
      'after',
      examplesText([
        ['vfio import dump.txt > machine.yaml', 'dump.txt is what sudo lspci -xxxx printed'],
        ['ssh host sudo lspci -xxxx | vfio import - --name host > host.yaml', 'in one go'],
      ]),
    )
    .action(async (file: string, options: Options) =>
      end(await importDump(file, textOption(options, 'name'), terminal, io)),
    );
  program
    .command('replay')
    .summary('replay scripts and compare with what a real kernel answered')
    .description(
      'Replays scripts, each on a machine of its own, and compares with what a real kernel answered: golden/*/<name>.jsonl\n' +
        'upward from the script. The machine is machines/<name>.yaml upward from it, as the header of the script says.',
    )
    .argument('<script...>', 'scripts, and folders of them')
    .option('--diff', 'show what differs')
    .option(
      '--deviations <file>',
      'differences that are meant to be; deviations.json upward from each script by default',
    )
    .option('--json', 'as JSON')
    .addHelpText(
      'after',
      examplesText([
        ['vfio replay transcripts', 'all that the installed packages can'],
        ['vfio replay --diff transcripts/scripts/mtty-irq.vfs', 'one, with what differs'],
      ]),
    )
    .action(async (paths: string[], options: Options) => {
      const deviations = textOption(options, 'deviations');
      const chosen = {
        json: options.json === true,
        diff: options.diff === true,
        ...(deviations === undefined ? {} : { deviations }),
      };
      end(await replay(paths, chosen, terminal, io));
    });
}

function newProgram(terminal: Terminal): Commander {
  return new Commander('vfio')
    .description('Linux VFIO without the hardware: machines, their devices, and what a kernel says of them.')
    .version(readVersion())
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.write(text),
      writeErr: (text) => terminal.note(text.trimEnd()),
      outputError: (text, write) => write(text.replace(/^error: /, 'vfio: ')),
    })
    .showHelpAfterError('see --help')
    .addHelpText(
      'after',
      examplesText([
        ['vfio up examples/lab.yaml --detach', 'a machine in the background'],
        ['vfio ls', 'its devices'],
        ['vfio exercise vfio0', 'drive one of them'],
        ['vfio down', 'and away with it'],
      ]),
    );
}

/** Adds a command with its words, nested as they are. */
function declare(program: Commander, command: Command): Commander {
  const parents = command.words.slice(0, -1);
  let parent = program;
  for (const word of parents) {
    parent = parent.commands.find((one) => one.name() === word) ?? parent.command(word).summary(groupSummary);
  }
  const declared = parent.command(command.words.at(-1) ?? command.name).summary(command.summary);
  declared.description(sentence(command.summary)).addHelpText('after', examplesText(command.examples));
  command.configure?.(declared);
  return declared;
}

const groupSummary = 'look into sysfs, and write to it';

/** What a command line of the plain commands means; nothing is carried out. */
function parsePlain(terminal: Terminal): (words: readonly string[]) => Invocation {
  return (words) => {
    let invocation: Invocation | undefined;
    const program = newProgram(terminal);
    for (const command of plainCommands) {
      declare(program, command).action((...parameters: unknown[]) => {
        const { operands, options } = given(parameters);
        invocation = command.invoke(operands, options);
      });
    }
    program.parse([...words], { from: 'user' });
    if (!invocation) throw new UsageError(`'${words.join(' ')}' can not be traced`);
    return invocation;
  };
}

/** Operands and options out of what commander calls an action with: they come before the command itself. */
function given(parameters: readonly unknown[]): { operands: readonly string[]; options: Options } {
  const command = parameters.at(-1);
  if (!(command instanceof Commander)) throw new TypeError('an action is called with its command');
  return { operands: command.args, options: command.opts<Record<string, unknown>>() };
}

function addTarget(command: Commander): Commander {
  return addNamed(
    command.option('-m, --machine <file>', 'a machine of its own, from this file, just for this command'),
  );
}

function addNamed(command: Commander): Commander {
  return command
    .option('-n, --name <name>', 'the machine that is up under this name')
    .option('-c, --control <path>', 'the machine that is up at this control socket');
}

function targetOf(options: Options): TargetOptions {
  const machine = textOption(options, 'machine');
  const name = textOption(options, 'name');
  const control = textOption(options, 'control');
  return {
    ...(machine === undefined ? {} : { machine }),
    ...(name === undefined ? {} : { name }),
    ...(control === undefined ? {} : { control }),
  };
}

function isScript(word: string): boolean {
  return word.endsWith('.vfs') || (word.includes('/') && existsSync(word));
}

function examplesText(examples: Command['examples']): string {
  const width = Math.max(...examples.map(([line]) => line.length));
  return `\nExamples:\n${examples.map(([line, meaning]) => `  ${line.padEnd(width)}  ${meaning}`).join('\n')}`;
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
