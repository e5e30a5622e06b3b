// `vfio screenshot`: what a guest shows, as a picture.

import { writeFileSync } from 'node:fs';
import { defineCommand, type Invocation, operand, resultView, type View } from '../command.js';
import { connect } from '../control/client.js';
import { socketPath } from '../control/socket-path.js';
import { Exit } from '../errors.js';
import { driversOf, type Io } from '../io.js';
import type { Terminal } from '../output/terminal.js';
import { sampleOf, vfioDevice } from '../samples.js';
import { takePicture } from '../screenshot/take.js';
import { object, text } from '../shape.js';
import { runOnTarget, type TargetOptions } from '../target.js';

/** A picture on its way from the machine. */
interface Taken {
  readonly device: string;
  readonly width: number;
  readonly height: number;
  /** PNG, in base 64. */
  readonly png: string;
}

/** The half of `vfio screenshot` that is where the machine is. */
export const screenshotCommand = defineCommand<{ device: string }, never, Taken>({
  words: ['screenshot'],
  summary: 'write what a display shows to a PNG file',
  examples: [
    ['vfio screenshot vfio0 screen.png', 'of a device of the machine that is up'],
    ['vfio screenshot mbochs screen.png', 'of the device of vfio serve mbochs'],
  ],
  configure: (command) => {
    command.argument('<device>', 'address, UUID or vfioN').argument('<file>', 'the picture, replaced if it is there');
  },
  parse: (operands) => ({ device: operand(operands, 0) }),
  shape: object({ device: text(256) }),

  async run({ machine, signal }, { device }) {
    const address = await vfioDevice(machine, device, signal);
    const { width, height, data } = await takePicture(machine, address, signal);
    const { encode } = await import('fast-png');
    const png = encode({ width, height, data, channels: 3, depth: 8 });
    return { device: address, width, height, png: Buffer.from(png).toString('base64') };
  },

  view: (terminal) => resultView((taken) => describe(terminal, taken)),
});

/** Takes a picture and writes it to a file. */
export async function screenshot(
  device: string,
  file: string,
  target: TargetOptions,
  terminal: Terminal,
  io: Io,
): Promise<number> {
  const invocation: Invocation = {
    ...screenshotCommand.invoke([device], {}),
    view: (): View<unknown, unknown> => {
      const view = resultView((taken: Taken) => {
        writeFileSync(file, Buffer.from(taken.png, 'base64'));
        return describe(terminal, taken);
      });
      // both halves are of one version, which the control protocol makes sure of
      return { event: () => undefined, result: (result) => view.result(result as Taken) };
    },
  };
  return await runOnTarget(invocation, await targetFor(device, target, io), terminal, io);
}

function describe(terminal: Terminal, { device, width, height }: Taken): number {
  terminal.print(`${device} shows ${width} by ${height} pixels`);
  return Exit.OK;
}

/** A word of `vfio serve` means the machine that it has brought up, if that is there. */
async function targetFor(device: string, target: TargetOptions, io: Io): Promise<TargetOptions> {
  if (Object.values(target).some((value) => value !== undefined)) return target;
  if (!sampleOf(await driversOf(io), device)) return target;
  const client = await connect(socketPath(io.env, device)).catch(() => undefined);
  client?.close();
  return client ? { name: device } : target;
}
