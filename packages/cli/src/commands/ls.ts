import { defineCommand, resultView } from '../command.js';
import { Exit } from '../errors.js';
import { inProcess } from '../files.js';
import { allDevices } from '../naming.js';
import { renderTable } from '../output/table.js';
import { object } from '../shape.js';

/** A device as `ls` lists it; what it has not is null in JSON. */
interface Listed {
  readonly address: string;
  readonly bus: string | null;
  readonly driver: string | null;
  readonly type: string | null;
  readonly iommuGroup: number | null;
  readonly vfio: string | null;
  readonly node: string | null;
  readonly users: number;
}

/** `vfio ls` */
export const ls = defineCommand<object, never, readonly Listed[]>({
  words: ['ls'],
  summary: 'list the devices of a machine',
  examples: [
    ['vfio ls', 'those of the running machine'],
    ['vfio ls --json', 'for programs'],
    ['vfio ls -m lab.yaml', 'those that a file describes, without keeping it up'],
  ],
  configure: (command) => {
    command.option('--json', 'as JSON');
  },
  parse: () => ({}),
  shape: object({}),

  async run(context) {
    const inGroups = await context.machine.devices();
    const known = new Set(inGroups.map(({ address }) => address));
    const others = await inProcess(context, async (process) => allDevices(process));
    return [
      ...inGroups.map((entry) => ({
        address: entry.address,
        bus: entry.bus ?? null,
        driver: entry.driver ?? null,
        type: entry.type ?? null,
        iommuGroup: entry.iommuGroup ?? null,
        vfio: entry.vfio ?? null,
        node: entry.node ?? null,
        users: entry.users,
      })),
      ...others
        .filter(({ address }) => !known.has(address))
        .map(({ address, bus, driver }) => ({
          address,
          bus,
          driver: driver ?? null,
          type: null,
          iommuGroup: null,
          vfio: null,
          node: null,
          users: 0,
        })),
    ];
  },

  view: (terminal, { json }) =>
    resultView((devices) => {
      if (json) terminal.json(devices);
      else if (devices.length === 0) terminal.note('no devices');
      else {
        const columns = [
          { title: 'DEVICE' },
          { title: 'BUS' },
          { title: 'DRIVER' },
          { title: 'TYPE' },
          { title: 'GROUP', align: 'right' as const },
          { title: 'VFIO' },
          { title: 'NODE' },
          { title: 'USERS', align: 'right' as const },
        ];
        const cell = (value: string | number | null) => (value === null ? undefined : String(value));
        const rows = devices.map((entry) => [
          entry.address,
          cell(entry.bus),
          cell(entry.driver),
          cell(entry.type),
          cell(entry.iommuGroup),
          cell(entry.vfio),
          cell(entry.node),
          cell(entry.users),
        ]);
        terminal.write(renderTable(columns, rows, terminal.colours));
      }
      return Exit.OK;
    }),
});
