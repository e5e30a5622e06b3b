// Mediated device types and instances, as sysfs has them.

import type { Process } from '@vfio/host';
import { attribute, namesIn } from './files.js';

/** A type that a parent device offers. */
export interface MdevType {
  /** Name of the parent device. */
  readonly parent: string;
  /** `mtty-1` */
  readonly type: string;
  /** Its directory. */
  readonly directory: string;
  readonly name: string | null;
  readonly deviceApi: string | null;
  /** How many more can be created. */
  readonly available: number | null;
  readonly description: string | null;
  /** Instances that there are. */
  readonly devices: readonly string[];
}

const parentsRoot = '/sys/class/mdev_bus';

/** All types of all parents. */
export async function mdevTypes(process: Process): Promise<MdevType[]> {
  const types: MdevType[] = [];
  for (const parent of namesIn(process, parentsRoot)) {
    const root = `${parentsRoot}/${parent}/mdev_supported_types`;
    for (const type of namesIn(process, root)) {
      const directory = `${root}/${type}`;
      const available = await attribute(process, `${directory}/available_instances`);
      types.push({
        parent,
        type,
        directory,
        name: (await attribute(process, `${directory}/name`)) ?? null,
        deviceApi: (await attribute(process, `${directory}/device_api`)) ?? null,
        available: available === undefined ? null : Number(available),
        description: (await attribute(process, `${directory}/description`)) ?? null,
        devices: namesIn(process, `${directory}/devices`),
      });
    }
  }
  return types;
}
