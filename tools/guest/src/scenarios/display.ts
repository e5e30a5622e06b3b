/**
 * A display of the Bochs kind: the kernel's own driver binds it and puts a console on it, and what the guest writes
 * there is found on a picture that the host takes.
 */

import { readFile } from 'node:fs/promises';
import type { Device } from '../device.js';
import type { Guest } from '../guest.js';
import { type Picture, readPng } from '../png.js';
import { takePicture } from '../screenshot.js';

/** Bars that the guest paints over whole rows of the console: escape code, and the colour that the kernel has for it. */
const bars = [
  { row: 2, code: 41, name: 'red', colour: [0xaa, 0, 0] },
  { row: 4, code: 42, name: 'green', colour: [0, 0xaa, 0] },
  { row: 6, code: 44, name: 'blue', colour: [0, 0, 0xaa] },
] as const;

/** Height of a row of the console, with the font that the kernel takes for displays of this size. */
const rowHeight = 16;

/** Binds, finds the console, draws, and looks. */
export async function display(guest: Guest, device: Device): Promise<void> {
  const { address } = device;
  await guest.step(device, 'bochs-drm binds it', `readlink /sys/bus/pci/devices/${address}/driver`, {
    expect: [/\/bochs-drm$/m],
  });
  await guest.step(device, 'the kernel has a console on it', 'dmesg | grep -E "bochs|fb0|frame buffer"', {
    expect: [/\[drm\] Initialized bochs-drm/, /fb0: bochs-drmdrmfb frame buffer device/],
  });
  const mode = await guest.step(device, 'it has a mode', 'cat /sys/class/graphics/fb0/virtual_size', {
    expect: [/^\d+,\d+$/m],
  });
  const [width, height] = mode.trim().split(',').map(Number);
  const painting = bars.map(({ row, code }) => `\\033[${row + 1};1H\\033[${code}m\\033[K`).join('');
  const text = '\\033[0m\\033[9;1HDrawn by the kernel of a guest.';
  await guest.step(
    device,
    'the console takes colours and text',
    `printf '\\033c\\033[?25l${painting}${text}' > /dev/tty0`,
    {
      expect: [],
    },
  );
  // the driver copies what has changed from a worker
  await guest.run('sleep 1');
  await guest.look(device, 'the picture shows what was drawn', 'a picture of the screen', async () => {
    const path = guest.file(`${device.name}.png`);
    await takePicture(guest, device, path);
    const picture = readPng(await readFile(path));
    const missing: string[] = [];
    if (picture.width !== width || picture.height !== height) missing.push(`a picture of ${width} x ${height}`);
    for (const { row, name, colour } of bars) {
      if (!isBar(picture, row, colour)) missing.push(`a ${name} bar`);
    }
    if (!hasText(picture, 8)) missing.push('text');
    return {
      output: `${picture.width} x ${picture.height}, ${bars.map(({ name }) => name).join(', ')}, text\n`,
      missing,
    };
  });
}

/** Whether a whole row of the console has one colour. */
function isBar(picture: Picture, row: number, colour: readonly number[]): boolean {
  for (let y = row * rowHeight; y < (row + 1) * rowHeight; y++) {
    for (let x = 0; x < picture.width; x++) {
      if (picture.at(x, y).some((value, index) => value !== colour[index])) return false;
    }
  }
  return true;
}

/** Whether a row of the console has something written on it, and more of its ground than of that. */
function hasText(picture: Picture, row: number): boolean {
  let [ground, ink] = [0, 0];
  for (let y = row * rowHeight; y < (row + 1) * rowHeight; y++) {
    for (let x = 0; x < picture.width; x++) {
      if (picture.at(x, y).every((value) => value === 0)) ground++;
      else ink++;
    }
  }
  return ink > 200 && ink < ground;
}
