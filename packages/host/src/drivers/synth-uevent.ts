/*
 * Uevents on demand: what user space writes to an object's `uevent` file is sent as if it had happened. Programs that
 * start late ask in this way for what they missed.
 */
import { isSystemError, SystemError } from '../errors.js';
import type { Seams } from '../seams.js';
import { cString } from '../sysfs/parse.js';
import { type UeventAction, type UeventEnv, ueventActions } from './uevents.js';

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?= |$)/i;
const argument = / (?<key>[0-9A-Za-z]+)=(?<value>[0-9A-Za-z]+)(?= |$)/y;

/**
 * Sends what was asked for: `ACTION` or `ACTION UUID [KEY=VALUE ...]`.
 *
 * @param text - what was written
 * @param devpath - names the object in the log
 * @param emit - sends a message for the object
 * @throws EINVAL - no such action, or its arguments are wrong
 * @source lib/kobject_uevent.c kobject_synth_uevent()
 */
export function synthUevent(
  seams: Seams,
  text: string,
  devpath: string,
  emit: (action: UeventAction, fill: (env: UeventEnv) => void) => void,
): void {
  try {
    const words = text.replace(/[\n\0]$/, '');
    const [first = ''] = words.split(' ', 1);
    const action = ueventActions.find((known) => known === first);
    if (!action) throw new SystemError('EINVAL', 'unknown uevent action string');
    if (words === first) emit(action, (env) => env.addUeventVar('SYNTH_UUID', '0'));
    else {
      const variables = parseArguments(cString(words.slice(first.length + 1)));
      emit(action, (env) => {
        for (const [key, value] of variables) env.addUeventVar(key, value);
      });
    }
  } catch (error) {
    if (isSystemError(error)) seams.log.warn(`synth uevent: ${devpath}: ${error.reason}`);
    throw error;
  }
}

function parseArguments(text: string): [string, string][] {
  const id = uuid.exec(text)?.[0];
  if (id === undefined) throw new SystemError('EINVAL', 'incorrect uevent action arguments');
  const variables: [string, string][] = [['SYNTH_UUID', id]];
  for (let at = id.length; at < text.length; at = argument.lastIndex) {
    argument.lastIndex = at;
    const { key, value } = argument.exec(text)?.groups ?? {};
    if (key === undefined || value === undefined) throw new SystemError('EINVAL', 'incorrect uevent action arguments');
    variables.push([`SYNTH_ARG_${key}`, value]);
  }
  return variables;
}
