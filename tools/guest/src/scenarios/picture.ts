/**
 * A plain framebuffer, for which Linux has no driver outside its samples: the guest draws into the BAR itself, and the
 * host's picture shows it.
 */

import { readFile } from 'node:fs/promises';
import type { Device } from '../device.js';
import type { Guest } from '../guest.js';
import { readPng } from '../png.js';
import { takePicture } from '../screenshot.js';

/** What is drawn, as a 32-bit word without alpha, and as the picture has it. */
const paint = { word: '0x00336699', colour: [0x33, 0x66, 0x99] } as const;

/** How much of the framebuffer is painted, from its start: some rows of any mode. */
const bytes = 64 * 1024;

/** Draws, reads back, and looks. */
export async function picture(guest: Guest, device: Device): Promise<void> {
  if (!guest.probe) return;
  const { address } = device;
  await guest.run(`echo 1 > /sys/bus/pci/devices/${address}/enable`);
  await guest.step(device, 'the guest draws into its BAR', `probe fill ${address} 0 0 ${bytes} ${paint.word}`, {});
  const sum = ((Number(paint.word) * (bytes / 4)) % 2 ** 32).toString(16).padStart(8, '0');
  await guest.step(device, 'and reads what it has drawn', `probe sum ${address} 0 0 ${bytes}`, {
    expect: [new RegExp(`^${sum}$`, 'm')],
  });
  await guest.look(device, 'the picture shows what was drawn', 'a picture of the screen', async () => {
    const path = guest.file(`${device.name}.png`);
    await takePicture(guest, device, path);
    const { width, height, at } = readPng(await readFile(path));
    const points = [at(0, 0), at(width - 1, 0), at(0, 1)];
    const painted = points.every((point) => point.every((value, index) => value === paint.colour[index]));
    return {
      output: `${width} x ${height}\n`,
      missing: painted ? [] : [`points of ${paint.colour}, got ${points.join(' ')}`],
    };
  });
}
