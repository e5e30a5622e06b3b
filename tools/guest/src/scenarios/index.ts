/**
 * What is tried with each kind of device. A scenario only notes what it finds; the transcript says whether all of it
 * was as expected.
 */

import type { Device, Kind } from '../device.js';
import type { Guest } from '../guest.js';
import { display } from './display.js';
import { ioat } from './ioat.js';
import { listed } from './listed.js';
import { picture } from './picture.js';
import { serial } from './serial.js';
import { edu, testdev } from './vfio.js';

type Scenario = (guest: Guest, device: Device) => Promise<void>;

const scenarios: Readonly<Record<Kind, Scenario | undefined>> = {
  serial,
  display,
  picture,
  edu,
  ioat,
  testdev,
  any: undefined,
};

/**
 * Tries a device: that it is listed, and then what its kind is for.
 *
 * @param guest - that has it
 * @param device - one of its devices
 */
export async function tryDevice(guest: Guest, device: Device): Promise<void> {
  await listed(guest, device);
  await scenarios[device.kind]?.(guest, device);
}
