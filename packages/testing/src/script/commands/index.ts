// The commands of the language that make a step. `set`, `default`, `for`, `spawn`, `wait` and `exit` steer the interpreter and are its own.

import type { Command } from '../command.js';
import { descriptorCommands } from './descriptors.js';
import { fileCommands } from './files.js';
import { memoryCommands } from './memory.js';
import { probeCommands } from './probe.js';
import { processCommands } from './processes.js';
import { waitingCommands } from './waiting.js';

/** All commands by name. */
export const commands: ReadonlyMap<string, Command> = new Map(
  [descriptorCommands, memoryCommands, waitingCommands, fileCommands, processCommands, probeCommands].flatMap((table) =>
    Object.entries(table),
  ),
);
