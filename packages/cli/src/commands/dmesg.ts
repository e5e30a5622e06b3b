import type { LogEntry, LogLevel } from '@vfio/host';
import { untilAborted } from '../abort.js';
import { defineCommand, textOption, type ViewOptions } from '../command.js';
import { Exit, UsageError } from '../errors.js';
import type { Colours, Terminal } from '../output/terminal.js';
import { flag, object, oneOf } from '../shape.js';

const levels = ['emerg', 'alert', 'crit', 'err', 'warn', 'notice', 'info', 'debug'] as const;

/** An entry of the log on its way to a person. */
interface Line {
  /** Seconds. */
  readonly time: number;
  readonly level: LogLevel;
  readonly dev?: string;
  readonly text: string;
  /** As dmesg writes it. */
  readonly line: string;
  /** Of a WARN: where. */
  readonly stack?: string;
}

/** `vfio dmesg` */
export const dmesg = defineCommand({
  words: ['dmesg'],
  summary: "show the kernel's log",
  examples: [
    ['vfio dmesg', 'all of it'],
    ['vfio dmesg --level warn', 'warnings and worse'],
    ['vfio dmesg --follow', 'and what comes, until ^C'],
  ],
  configure: (command) => {
    command
      .option('-l, --level <level>', `this level and worse: ${levels.join(', ')}`, 'info')
      .option('-f, --follow', 'go on until ^C')
      .option('--json', 'one line of JSON for each entry');
  },
  parse: (_operands, options) => {
    const level = levels.find((one) => one === textOption(options, 'level'));
    if (!level) throw new UsageError(`no level '${String(options.level)}': use one of ${levels.join(', ')}`);
    return { level, follow: options.follow === true };
  },
  shape: object({ level: oneOf(levels), follow: flag }),

  async run({ machine, signal, emit }, { level, follow }) {
    const { log } = machine.host;
    const worst = levels.indexOf(level);
    const tell = (entry: LogEntry) => {
      if (levels.indexOf(entry.level) > worst) return;
      const { time, dev, text, stack } = entry;
      emit({
        time: time / 1000,
        level: entry.level,
        ...(dev === undefined ? {} : { dev }),
        text,
        line: log.format(entry),
        ...(stack === undefined ? {} : { stack }),
      });
    };
    for (const entry of log.entries) tell(entry);
    if (!follow) return null;
    using _subscription = log.subscribe(tell);
    await untilAborted(signal);
    return null;
  },

  view: (terminal, options) => ({
    event: (line: Line) => show(terminal, options, line),
    result: () => Exit.OK,
  }),
});

function show(terminal: Terminal, { json }: ViewOptions, entry: Line): void {
  if (json) {
    const { line: _, ...rest } = entry;
    terminal.jsonLine(rest);
    return;
  }
  terminal.print(colour(terminal.colours, entry)(entry.line));
  if (entry.stack !== undefined) terminal.print(terminal.colours.dim(entry.stack));
}

function colour({ red, yellow, dim }: Colours, { level }: Line): (text: string) => string {
  if (levels.indexOf(level) <= levels.indexOf('err')) return red;
  if (level === 'warn') return yellow;
  return level === 'debug' ? dim : (text) => text;
}
