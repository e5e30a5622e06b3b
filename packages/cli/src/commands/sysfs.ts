import type { Process } from '@vfio/host';
import { defineCommand, operand, resultView } from '../command.js';
import { CommandError, Exit } from '../errors.js';
import { exists, inProcess } from '../files.js';
import { findDevice } from '../naming.js';
import { flag, list, object, text } from '../shape.js';

/** An entry of a directory. */
interface Entry {
  readonly name: string;
  readonly kind: string;
  /** Where a link leads. */
  readonly target?: string;
}

/** What a directory shows after a name, as `ls -F`. */
const marks: Readonly<Record<string, string>> = { dir: '/', link: '@', char: '%' };

/**
 * From what a person writes to a path below /sys: a path, one relative to /sys, or one that starts with a device.
 */
function sysfsPath(process: Process, word: string): string {
  if (word.startsWith('/')) {
    if (word === '/sys' || word.startsWith('/sys/')) return word;
    throw new CommandError(`'${word}' is not below /sys`);
  }
  const [first = '', ...rest] = word.split('/');
  if (first === '' || first === '.' || exists(process, `/sys/${first}`)) return `/sys/${word}`;
  return [findDevice(process, first).directory, ...rest].join('/');
}

const pathHelp = 'below /sys, relative to it, or beginning with a device: vfio0/mdev_type';

/** `vfio sysfs ls` */
export const sysfsLs = defineCommand<{ path: string }, never, readonly Entry[]>({
  words: ['sysfs', 'ls'],
  summary: 'list a directory',
  examples: [
    ['vfio sysfs ls bus/mdev/devices', 'links with where they lead'],
    ['vfio sysfs ls vfio0', 'the directory of a device'],
  ],
  configure: (command) => {
    command.argument('[path]', pathHelp, '/sys').option('--json', 'as JSON');
  },
  parse: (operands) => ({ path: operands[0] ?? '/sys' }),
  shape: object({ path: text(4096) }),

  run: (context, args) =>
    inProcess(context, async (process) => {
      const path = sysfsPath(process, args.path);
      return process.readdir(path).map(({ name, kind }) => ({
        name,
        kind,
        ...(kind === 'link' ? { target: process.readlink(`${path}/${name}`) } : {}),
      }));
    }),

  view: (terminal, { json }) =>
    resultView((entries) => {
      if (json) terminal.json(entries);
      else {
        const { cyan, bold, dim } = terminal.colours;
        for (const { name, kind, target } of entries) {
          const coloured = kind === 'dir' ? bold(name) : kind === 'link' ? cyan(name) : name;
          terminal.print(`${coloured}${marks[kind] ?? ''}${target === undefined ? '' : dim(` -> ${target}`)}`);
        }
      }
      return Exit.OK;
    }),
});

/** `vfio sysfs cat` */
export const sysfsCat = defineCommand<{ paths: readonly string[] }, never, readonly string[]>({
  words: ['sysfs', 'cat'],
  summary: 'read attributes',
  examples: [
    ['vfio sysfs cat module/vfio/version', 'an attribute'],
    ['vfio sysfs cat vfio0/mdev_type/available_instances', 'one of a device'],
  ],
  configure: (command) => {
    command.argument('<path...>', pathHelp);
  },
  parse: (operands) => ({ paths: [...operands] }),
  shape: object({ paths: list(text(4096), 64) }),
  run: (context, args) =>
    inProcess(context, async (process) => {
      const texts: string[] = [];
      for (const path of args.paths) texts.push(await process.readFile(sysfsPath(process, path)));
      return texts;
    }),
  view: (terminal) =>
    resultView((texts) => {
      for (const one of texts) terminal.write(one);
      return Exit.OK;
    }),
});

/** `vfio sysfs write` */
export const sysfsWrite = defineCommand<{ path: string; text: string; newline: boolean }, never, number>({
  words: ['sysfs', 'write'],
  summary: 'write an attribute, as echo would',
  examples: [
    ['vfio sysfs write module/vfio_iommu_type1/parameters/dma_entry_limit 1000', 'in one write, with a line end'],
    ['vfio sysfs write --no-newline vfio0/remove 1', 'without one'],
  ],
  configure: (command) => {
    command
      .argument('<path>', pathHelp)
      .argument('<text>', 'what to write')
      .option('--no-newline', 'without a line end');
  },
  parse: (operands, options) => ({
    path: operand(operands, 0),
    text: operand(operands, 1),
    newline: options.newline !== false,
  }),
  shape: object({ path: text(4096), text: text(1 << 16), newline: flag }),
  run: (context, args) =>
    inProcess(context, async (process) => {
      const bytes = args.newline ? `${args.text}\n` : args.text;
      return process.writeFile(sysfsPath(process, args.path), bytes);
    }),
  view: () => resultView(() => Exit.OK),
});
