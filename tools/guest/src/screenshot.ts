/** Pictures of a device's screen: QEMU takes them of its own devices, and a command of everybody else's. */

import type { Device } from './device.js';
import type { Guest } from './guest.js';
import { must } from './process.js';

/**
 * Takes a picture.
 *
 * @param guest - that draws
 * @param device - with the screen
 * @param path - of the PNG to be
 * @throws Error - no picture can be had
 */
export async function takePicture(guest: Guest, device: Device, path: string): Promise<void> {
  if (device.socket === undefined) {
    return await guest.emulator.command('screendump', { filename: path, device: 'screen', format: 'png' });
  }
  if (device.screenshot === undefined) throw new Error(`no --screenshot ${device.name}=COMMAND was given`);
  await must('sh', ['-c', `${device.screenshot} "$0"`, path]);
}
