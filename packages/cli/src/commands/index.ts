// The commands that work on a machine.

import type { Command } from '../command.js';
import { bind, unbind } from './bind.js';
import { create } from './create.js';
import { dmesg } from './dmesg.js';
import { exercise } from './exercise.js';
import { ls } from './ls.js';
import { remove } from './remove.js';
import { sysfsCat, sysfsLs, sysfsWrite } from './sysfs.js';
import { types } from './types.js';

/** Those that `trace` can trace, in the order of the help. */
export const plainCommands: readonly Command[] = [
  ls,
  types,
  create,
  remove,
  bind,
  unbind,
  sysfsLs,
  sysfsCat,
  sysfsWrite,
  dmesg,
  exercise,
];
