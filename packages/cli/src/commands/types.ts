import { defineCommand, resultView } from '../command.js';
import { Exit } from '../errors.js';
import { inProcess } from '../files.js';
import { type MdevType, mdevTypes } from '../mdev.js';
import { renderTable } from '../output/table.js';
import { object } from '../shape.js';

/** `vfio types` */
export const types = defineCommand<object, never, readonly MdevType[]>({
  words: ['types'],
  summary: 'list the types of mediated devices that can be created',
  examples: [['vfio types', 'with how many more of each there can be']],
  configure: (command) => {
    command.option('--json', 'as JSON');
  },
  parse: () => ({}),
  shape: object({}),
  run: (context) => inProcess(context, mdevTypes),
  view: (terminal, { json }) =>
    resultView((found) => {
      if (json) terminal.json(found);
      else if (found.length === 0) terminal.note('no device offers mediated devices');
      else {
        const columns = [
          { title: 'TYPE' },
          { title: 'PARENT' },
          { title: 'NAME' },
          { title: 'API' },
          { title: 'AVAILABLE', align: 'right' as const },
          { title: 'DEVICES', align: 'right' as const },
        ];
        const rows = found.map(({ type, parent, name, deviceApi, available, devices }) => [
          type,
          parent,
          name ?? undefined,
          deviceApi ?? undefined,
          available === null ? undefined : String(available),
          String(devices.length),
        ]);
        terminal.write(renderTable(columns, rows, terminal.colours));
      }
      return Exit.OK;
    }),
});
