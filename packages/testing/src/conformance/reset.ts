/* VFIO_DEVICE_RESET. */
import type { Device } from '@vfio/client';
import { DeviceInfoFlag, Request } from '@vfio/core';
import { ends } from './promise.js';
import type { CaseSpec, Subject } from './subject.js';

/** Whether a device can be reset: as was said of the driver, else as the device says itself. */
export async function resets({ options }: Subject, device: Device): Promise<boolean> {
  return options.reset ?? ((await device.info()).flags & DeviceInfoFlag.RESET) !== 0;
}

/** Reset. */
export const resetCases: readonly CaseSpec[] = [
  {
    name: 'reset: it works as flag RESET says',
    async run(subject) {
      await using device = await subject.open();
      const works = await resets(subject, device);
      const promised = `RESET of a device that ${works ? 'can be' : 'can not be'} reset`;
      for (let round = 0; round < 2; round++) {
        await ends(() => subject.ioctl(device, Request.DEVICE_RESET), works ? 0 : ['EINVAL', 'ENOTTY'], promised);
      }
      if (works) await ends(() => subject.ioctl(device, Request.DEVICE_RESET, 1n), 0, 'RESET takes no argument');
    },
  },
];
