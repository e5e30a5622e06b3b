/** Any device: the guest finds it on its bus and understands its configuration space. */

import type { Device } from '../device.js';
import type { Guest } from '../guest.js';

/** Lists the device with all that lspci knows to read. */
export async function listed(guest: Guest, device: Device): Promise<void> {
  await guest.step(device, 'lspci lists it', `lspci -vv -nn -s ${device.address}`, {
    expect: [
      /^\S+ .+ \[[0-9a-f]{4}\]: .+\[[0-9a-f]{4}:[0-9a-f]{4}\]/,
      /^\tRegion \d: (Memory|I\/O ports) at [0-9a-f]+/m,
    ],
  });
  await guest.step(device, 'the kernel has no complaint about it', `dmesg | grep -F ${device.address}`, {
    expect: [/\[[0-9a-f]{4}:[0-9a-f]{4}\]/],
    refuse: [/failed|error|invalid|can't|no space/i],
  });
}
