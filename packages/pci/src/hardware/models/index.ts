/*
 * The devices that are known, by vendor and device.
 */
import { EduDevice } from '../edu.js';
import { e1000e } from './e1000e.js';
import { ivshmem } from './ivshmem.js';
import type { DeviceModel, MakeModel, ModelContext } from './model.js';
import { nvme } from './nvme.js';
import { stdvga } from './stdvga.js';
import { testdev } from './testdev.js';

const models: Readonly<Record<string, MakeModel>> = {
  '1234:11e8': edu,
  '1b36:0005': testdev,
  '1234:1111': stdvga,
  '8086:10d3': e1000e,
  '1b36:0010': nvme,
  '1af4:1110': ivshmem,
};

/** What makes the device of a function, if that is known. */
export function modelFor(vendor: number, device: number): MakeModel | undefined {
  return models[`${hex(vendor)}:${hex(device)}`];
}

function edu({ fn }: ModelContext): DeviceModel {
  const device = new EduDevice(fn);
  return { bars: { 0: device }, powerOff: () => device.powerOff() };
}

function hex(id: number): string {
  return id.toString(16).padStart(4, '0');
}
