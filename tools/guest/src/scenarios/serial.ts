/**
 * A serial card. The kernel's own driver finds the UARTs; a card on a socket hands back what is sent, as mtty does, and
 * the line of QEMU's own card ends at the host.
 */

import type { Device } from '../device.js';
import type { Guest } from '../guest.js';

/** Short enough for mtty, which loses what fills all 16 bytes of its FIFO at once, as the kernel's sample does. */
const ping = 'from the guest';
const pong = 'from the host, by the line';

/** What the kernel says of a port that it has found. */
const found = /(ttyS\d+) at I\/O 0x[0-9a-f]+ \(irq = (\d+), base_baud = \d+\) is a 16[0-9]{3}\w*/g;

/** A port as the guest knows it. */
interface Port {
  readonly name: string;
  /** Number of its interrupt, which ports of a card share. */
  readonly irq: string;
}

/** Binds, sends and receives on every port, and counts interrupts. */
export async function serial(guest: Guest, device: Device): Promise<void> {
  const { address } = device;
  await guest.step(device, 'the serial driver binds it', `readlink /sys/bus/pci/devices/${address}/driver`, {
    expect: [/\/serial$/m],
  });
  const said = await guest.step(device, 'the kernel finds its ports', `dmesg | grep -F ${address}:`, {
    expect: [new RegExp(found.source)],
  });
  for (const [, name = '', irq = ''] of said.matchAll(found)) {
    await (device.socket === undefined ? overWire : loopedBack)(guest, device, { name, irq });
  }
}

/** The line of QEMU's own card ends at the host, which answers. */
async function overWire(guest: Guest, device: Device, port: Port): Promise<void> {
  using wire = await guest.emulator.open('wire');
  await guest.step(device, `${port.name} carries data both ways`, exchange(port), {
    expect: [new RegExp(`^${pong}$`, 'm'), new RegExp(`^# the host got: ${ping}$`, 'm'), interrupted(port)],
    meanwhile: async () => {
      const { match } = await wire.until(/(.*)\n/, 20_000);
      wire.send(`${pong}\n`);
      return `# the host got: ${match[1]}\n`;
    },
  });
}

/** A card that hands back what it is sent. */
async function loopedBack(guest: Guest, device: Device, port: Port): Promise<void> {
  await guest.step(device, `${port.name} hands back what it is sent`, exchange(port), {
    expect: [new RegExp(`^${ping}$`, 'm'), interrupted(port)],
  });
}

/** A command that opens a port, sends a line, receives one, and shows how often it was interrupted. */
function exchange({ name, irq }: Port): string {
  const words = `printf '${ping}\\n' >&3; timeout 20 head -n 1 <&3; grep '^ *${irq}:' /proc/interrupts`;
  return `stty -F /dev/${name} raw -echo 115200 && exec 3<>/dev/${name} && { ${words}; }`;
}

/** A line of /proc/interrupts that counts some. Ports that share an interrupt have the name of the first. */
function interrupted({ irq }: Port): RegExp {
  return new RegExp(`^ *${irq}: +[1-9]\\d* .*\\bttyS\\d+`, 'm');
}
