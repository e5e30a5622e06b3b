// `vfio serve`, of a device of a machine that is up: its process serves it, for as long as somebody wants that.

import { untilAborted } from '../abort.js';
import { defineCommand, type View } from '../command.js';
import { Exit } from '../errors.js';
import type { Terminal } from '../output/terminal.js';
import { vfioDevice } from '../samples.js';
import { list, object, text } from '../shape.js';
import { DeviceServers } from '../user/device-servers.js';

/** A device, and the socket that it is to have. */
export interface Wanted {
  /** As a person names it. */
  readonly device: string;
  readonly path: string;
}

/** A socket listens. */
export interface Listening {
  readonly device: string;
  readonly machine: string;
  readonly where: string;
}

/** Says where a device is. */
export function listeningText({ device, machine, where }: Listening): string {
  return `${device} of ${machine} is served at ${where}`;
}

const examples = [
  ['vfio serve mtty --socket-path /tmp/mtty.sock', 'a serial card, on a machine of its own'],
  ['vfio serve vfio0 --socket-path /tmp/vfio0.sock', 'a device of the machine that is up'],
  ['vfio serve edu --socket-path a.sock mbochs --socket-path b.sock', 'two at once'],
] as const;

/** The half of `vfio serve` that is where the machine is. */
export const serveCommand = defineCommand<{ devices: readonly Wanted[] }, Listening, null>({
  words: ['serve'],
  summary: 'put devices on UNIX sockets, for QEMU and other clients of vfio-user',
  examples,
  // its command line is understood elsewhere, as a machine need not be up for it
  parse: () => ({ devices: [] }),
  shape: object({ devices: list(object({ device: text(256), path: text(4096) })) }),

  async run({ machine, signal, emit }, { devices }) {
    const onBug = (error: unknown) => machine.host.log.err(`vfio serve: ${String(error)}`);
    await using servers = await DeviceServers.start(onBug);
    for (const { device, path } of devices) {
      const address = await vfioDevice(machine, device, signal);
      servers.open(machine, address, { path });
      emit({ device: address, machine: machine.name, where: path });
    }
    await untilAborted(signal);
    return null;
  },

  view: (terminal) => serveView(terminal),
});

function serveView(terminal: Terminal): View<Listening, null> {
  return { event: (event) => terminal.note(listeningText(event)), result: () => Exit.OK };
}
