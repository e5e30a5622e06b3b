import { randomUUID } from 'node:crypto';
import type { Process } from '@vfio/host';
import { defineCommand, operand, resultView, textOption } from '../command.js';
import { CommandError, Exit, UsageError } from '../errors.js';
import { inProcess, namesIn } from '../files.js';
import { type MdevType, mdevTypes } from '../mdev.js';
import { object, optional, text } from '../shape.js';

interface Created {
  readonly uuid: string;
  readonly type: string;
  readonly parent: string;
  /** `vfioN`, if a driver took it. */
  readonly vfio: string | null;
}

const uuidPattern = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** `vfio create` */
export const create = defineCommand<{ type: string; uuid: string; parent?: string }, never, Created>({
  words: ['create'],
  summary: 'create a mediated device',
  examples: [
    ['vfio create mtty-1', 'with a UUID of its own'],
    ['vfio create mtty-2 83b8f4f2-509f-382f-3c1e-e6bfe0fa1003', 'with this one'],
  ],
  configure: (command) => {
    command
      .argument('<type>', 'type, as in vfio types')
      .argument('[uuid]', 'UUID of the new device; a random one by default')
      .option('--parent <device>', 'the parent, if several offer the type')
      .option('--json', 'as JSON');
  },
  parse: (operands, options) => {
    const uuid = operands[1] ?? randomUUID();
    if (!uuidPattern.test(uuid)) throw new UsageError(`'${uuid}' is no UUID: leave it out to get one`);
    const parent = textOption(options, 'parent');
    return { type: operand(operands, 0), uuid, ...(parent === undefined ? {} : { parent }) };
  },
  shape: object({ type: text(256), uuid: text(64), parent: optional(text(256)) }),

  run: (context, { type: name, uuid, parent }) =>
    inProcess(context, async (process): Promise<Created> => {
      const type = typeNamed(await mdevTypes(process), name, parent);
      await process.writeFile(`${type.directory}/create`, uuid);
      return { uuid, type: type.type, parent: type.parent, vfio: vfioOf(process, uuid) };
    }),

  view: (terminal, { json }) =>
    resultView((created) => {
      if (json) terminal.json(created);
      else terminal.print(created.vfio === null ? created.uuid : `${created.uuid} is ${created.vfio}`);
      return Exit.OK;
    }),
});

function typeNamed(types: readonly MdevType[], name: string, parent: string | undefined): MdevType {
  const found = types.filter((type) => type.type === name && (parent === undefined || type.parent === parent));
  const [type, other] = found;
  if (!type) {
    const known = [...new Set(types.map((one) => one.type))].join(', ') || 'there are none';
    throw new CommandError(`no type '${name}'${parent === undefined ? '' : ` of '${parent}'`}: ${known}`);
  }
  if (other) {
    const parents = found.map((one) => one.parent).join(', ');
    throw new CommandError(`several devices offer '${name}': give one with --parent: ${parents}`);
  }
  return type;
}

function vfioOf(process: Process, uuid: string): string | null {
  return namesIn(process, `/sys/bus/mdev/devices/${uuid.toLowerCase()}/vfio-dev`)[0] ?? null;
}
