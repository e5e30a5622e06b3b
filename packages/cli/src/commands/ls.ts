import type { Process } from '@vfio/host';
import { deviceIds } from '@vfio/machine';
import { defineCommand, resultView } from '../command.js';
import { Exit } from '../errors.js';
import { inProcess } from '../files.js';
import { allDevices } from '../naming.js';
import { type Column, renderTable } from '../output/table.js';
import { object } from '../shape.js';

/** A device as `ls` lists it; what it has not is null in JSON. */
interface Listed {
  readonly address: string;
  readonly bus: string | null;
  readonly driver: string | null;
  readonly ids: string | null;
  readonly type: string | null;
  readonly iommuGroup: number | null;
  readonly vfio: string | null;
  readonly node: string | null;
  readonly users: number;
}

interface ListColumn extends Column {
  readonly key: keyof Listed;
  readonly optional?: boolean;
}

const listColumns: readonly ListColumn[] = [
  { title: 'DEVICE', key: 'address' },
  { title: 'IDS', key: 'ids', optional: true },
  { title: 'BUS', key: 'bus' },
  { title: 'DRIVER', key: 'driver' },
  { title: 'TYPE', key: 'type', optional: true },
  { title: 'GROUP', key: 'iommuGroup', align: 'right' },
  { title: 'VFIO', key: 'vfio' },
  { title: 'NODE', key: 'node' },
  { title: 'USERS', key: 'users', align: 'right' },
];

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
    const others = await inProcess(context, (process) => devicesWithIds(process, known));
    return [
      ...inGroups.map((entry) => ({
        address: entry.address,
        bus: entry.bus ?? null,
        driver: entry.driver ?? null,
        ids: entry.ids ?? null,
        type: entry.type ?? null,
        iommuGroup: entry.iommuGroup ?? null,
        vfio: entry.vfio ?? null,
        node: entry.node ?? null,
        users: entry.users,
      })),
      ...others.map(({ address, bus, driver, ids }) => ({
        address,
        bus,
        driver: driver ?? null,
        ids: ids ?? null,
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
        const columns = columnsFor(devices);
        const rows = devices.map((entry) => columns.map(({ key }) => cell(entry[key])));
        terminal.write(renderTable(columns, rows, terminal.colours));
      }
      return Exit.OK;
    }),
});

/** Devices that are in no IOMMU group. */
async function devicesWithIds(process: Process, inGroups: ReadonlySet<string>) {
  const others = allDevices(process).filter(({ address }) => !inGroups.has(address));
  return await Promise.all(
    others.map(async (device) => ({ ...device, ids: await deviceIds(process, device.directory) })),
  );
}

/** What is only said about some kinds of devices has no column where there are none of them. */
function columnsFor(devices: readonly Listed[]): readonly ListColumn[] {
  return listColumns.filter(({ optional, key }) => !optional || devices.some((entry) => entry[key] !== null));
}

function cell(value: string | number | null): string | undefined {
  return value === null ? undefined : String(value);
}
