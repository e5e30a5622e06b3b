/**
 * A serial card. The kernel's own driver finds the UARTs; a card on a socket hands back what is sent, as mtty does, and
 * the line of QEMU's own card ends at the host.
 */

import type { Device } from '../device.js';
import type { Guest } from '../guest.js';

const ping = 'from the guest, by 8250_pci';
const pong = 'from the host, by the line';

/** What the kernel says of a port that it has found. */
const found = /(ttyS\d+) at I\/O 0x[0-9a-f]+ \(irq = \d+, base_baud = \d+\) is a (16[0-9]{3}\w*)/;

/** Binds, sends and receives on every port, and counts interrupts. */
export async function serial(guest: Guest, device: Device): Promise<void> {
  const { address } = device;
  await guest.step(device, 'the serial driver binds it', `readlink /sys/bus/pci/devices/${address}/driver`, {
    expect: [/\/serial$/m],
  });
  const said = await guest.step(device, 'the kernel finds its ports', `dmesg | grep -F ${address}:`, {
    expect: [found],
  });
  const ports = [...said.matchAll(new RegExp(found, 'g'))].map((match) => match[1] ?? '');
  for (const port of ports) await (device.socket === undefined ? overWire : loopedBack)(guest, device, port);
}

/** The line of QEMU's own card ends at the host, which answers. */
async function overWire(guest: Guest, device: Device, port: string): Promise<void> {
  using wire = await guest.emulator.open('wire');
  const words = `printf '${ping}\\n' >&3; timeout 20 head -n 1 <&3`;
  await guest.step(device, `${port} carries data both ways`, opened(port, words), {
    expect: [new RegExp(`^${pong}$`, 'm'), new RegExp(`^# the host got: ${ping}$`, 'm'), interrupted(port)],
    meanwhile: async () => {
      const { match } = await wire.until(/(.*)\n/, 20_000);
      wire.send(`${pong}\n`);
      return `# the host got: ${match[1]}\n`;
    },
  });
}

/** A card that hands back what it is sent. */
async function loopedBack(guest: Guest, device: Device, port: string): Promise<void> {
  const words = `printf '${ping}\\n' >&3; timeout 20 head -n 1 <&3`;
  await guest.step(device, `${port} hands back what it is sent`, opened(port, words), {
    expect: [new RegExp(`^${ping}$`, 'm'), interrupted(port)],
  });
}

/** A command with a port open as descriptor 3, and the port's interrupts behind what it prints. */
function opened(port: string, words: string): string {
  return `stty -F /dev/${port} raw -echo 115200 && exec 3<>/dev/${port} && { ${words}; grep -w ${port} /proc/interrupts; }`;
}

/** A line of /proc/interrupts that counts some for a port. */
function interrupted(port: string): RegExp {
  return new RegExp(`^ *\\d+: +[1-9]\\d* .*\\b${port}\\b`, 'm');
}
