/* VFIO_DEVICE_RESET. */
import { DeviceInfoFlag, Request } from '@vfio/core';
import type { DriverConformance } from './options.js';
import { ends } from './promise.js';
import type { CaseSpec } from './subject.js';

/** Whether the driver was said to reset its devices. */
export function resets({ reset, flags }: DriverConformance): boolean {
  return reset ?? (flags & DeviceInfoFlag.RESET) !== 0;
}

/** Reset. */
export const resetCases: readonly CaseSpec[] = [
  {
    name: 'reset: it works as flag RESET says',
    async run(subject) {
      await using device = await subject.open();
      const works = resets(subject.options);
      const promised = `RESET of a device that ${works ? 'can be' : 'can not be'} reset`;
      for (let round = 0; round < 2; round++) {
        await ends(() => subject.ioctl(device, Request.DEVICE_RESET), works ? 0 : ['EINVAL', 'ENOTTY'], promised);
      }
      if (works) await ends(() => subject.ioctl(device, Request.DEVICE_RESET, 1n), 0, 'RESET takes no argument');
    },
  },
];
