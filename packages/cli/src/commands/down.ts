import { type DownResult, downCommand } from '../control/protocol.js';
import { Exit } from '../errors.js';
import type { Io } from '../io.js';
import type { Terminal } from '../output/terminal.js';
import { findMachine, reportLeaks, type TargetOptions } from '../target.js';

/** `vfio down`: ends a machine that is up, and says what it left behind. */
export async function down({ name, control }: TargetOptions, terminal: Terminal, io: Io): Promise<number> {
  const client = await findMachine({ name, control }, io);
  try {
    using _progress = terminal.progress(`shutting ${client.hello.machine} down`);
    // of one version with us, which connecting has made sure of
    const { machine, leaks } = (await client.call(downCommand, {}, () => undefined)) as DownResult;
    terminal.print(`${machine} is down`);
    return reportLeaks(leaks, machine, terminal) ? Exit.FAILED : Exit.OK;
  } finally {
    client.close();
  }
}
