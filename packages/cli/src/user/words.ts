// The command line of `vfio serve`.

import { type Command as Commander, InvalidArgumentError } from 'commander';
import type { Options } from '../command.js';
import { serveCommand } from '../commands/serve.js';
import type { Io } from '../io.js';
import { addTarget, examplesText, sentence, targetOf } from '../options.js';
import type { Terminal } from '../output/terminal.js';
import type { Door } from './door.js';
import { serve } from './serve.js';

const aboutText = `
Devices and sockets come in pairs, in one order. A device is
  - one of a machine: address, UUID or vfioN. The machine is the one that is up, or one from a file;
  - a word that an installed package has for a machine with one device: mtty, mdpy, mbochs, edu, ioat, testdev.
    vfio screenshot, dmesg and the others find such a machine by its word: vfio dmesg --name mtty.
The sockets have mode 0600. The command goes on until ^C, SIGTERM or, of a machine that is up, vfio down; then the
devices are closed and the sockets are gone.`;

const qemuText = `
QEMU, from 10.1 on, has such a device with these words; the guest's memory must be shared:
  -object memory-backend-memfd,id=ram,size=1G,share=on -machine q35,memory-backend=ram -m 1G
  -device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"/tmp/mtty.sock"}}'`;

/** Adds `vfio serve` to the program. */
export function addServe(program: Commander, terminal: Terminal, io: Io, end: (code: number) => void): void {
  const doors: Door[] = [];
  const command = program
    .command('serve')
    .summary(serveCommand.summary)
    .description(`${sentence(serveCommand.summary)}\n${aboutText}`)
    .argument('<device...>', 'address, UUID, vfioN or a word')
    .option(
      '--socket-path <path>',
      'where the socket of the next device is; what is left of an old one is replaced',
      (path) => {
        doors.push({ path });
        return path;
      },
    )
    .option('--fd <number>', 'the same, as a descriptor of a socket that listens or is connected', (text) => {
      const fd = numberOf(text);
      doors.push({ fd });
      return fd;
    })
    .option(
      '--spin <ms>',
      'ask for the next message so long before waiting: for a client on another processor',
      numberOf,
    )
    .addHelpText('after', `${examplesText(serveCommand.examples)}\n${qemuText}`);
  addTarget(command).action(async (devices: string[], options: Options) => {
    const spin = options.spin;
    const request = { devices, doors, target: targetOf(options) };
    end(await serve({ ...request, ...(typeof spin === 'number' ? { spinMs: spin } : {}) }, terminal, io));
  });
}

function numberOf(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('It is no whole number.');
  return Number(text);
}
