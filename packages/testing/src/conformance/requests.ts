/* Requests of the device file that are unknown, and arguments that are not where the caller says. */
import type { Device } from '@vfio/client';
import { deviceFeature, deviceInfo, Feature, FeatureFlag, irqInfo, irqSet, Request, regionInfo } from '@vfio/core';
import { ends } from './promise.js';
import { type CaseSpec, INFO_MINIMUM, type Subject } from './subject.js';

/** A request that takes a structure. */
interface StructRequest {
  readonly name: string;
  readonly request: number;
  /** A valid structure, cut to the bytes that the kernel reads at least. */
  readonly struct: Uint8Array;
  /** Whether it succeeds, and answers by writing to the structure. */
  readonly answers: boolean;
}

/** The requests that every device with such things takes. */
async function structRequests({ options, order }: Subject, device: Device): Promise<StructRequest[]> {
  const probe = FeatureFlag.PROBE | FeatureFlag.GET | Feature.MIGRATION;
  const [region] = await device.regions();
  const [irq] = await device.irqs();
  const info = deviceInfo.encode({ argsz: INFO_MINIMUM }, order).subarray(0, INFO_MINIMUM);
  const requests: StructRequest[] = [
    { name: 'GET_INFO', request: Request.DEVICE_GET_INFO, struct: info, answers: true },
    {
      name: 'FEATURE',
      request: Request.DEVICE_FEATURE,
      struct: deviceFeature.encode({ argsz: deviceFeature.size, flags: probe }, order),
      answers: false,
    },
  ];
  if (options.regions > 0) {
    const struct = regionInfo.encode({ argsz: regionInfo.size, index: region?.index ?? 0 }, order);
    const answers = region !== undefined;
    requests.push({ name: 'GET_REGION_INFO', request: Request.DEVICE_GET_REGION_INFO, struct, answers });
  }
  if (options.irqs > 0) {
    const index = irq?.index ?? 0;
    const struct = irqInfo.encode({ argsz: irqInfo.size, index }, order);
    const answers = irq !== undefined;
    requests.push({ name: 'GET_IRQ_INFO', request: Request.DEVICE_GET_IRQ_INFO, struct, answers });
    const set = irqSet.encode({ argsz: irqSet.size, index }, order);
    requests.push({ name: 'SET_IRQS', request: Request.DEVICE_SET_IRQS, struct: set, answers: false });
  }
  return requests;
}

/** Numbers that no device answers to: before, between and after those of VFIO, and those of other files. */
const unknown: readonly (readonly [number, string])[] = [
  [0x3b00, 'number 0'],
  [0x3b63, 'the number before the first'],
  [0x3bff, 'number 0xff'],
  [0x3c6b, "GET_INFO's number of another type"],
  [0xc018_3b6b, "GET_INFO's number with a size"],
  [Request.GET_API_VERSION, 'GET_API_VERSION, of containers'],
  [Request.GROUP_GET_STATUS, 'GROUP_GET_STATUS, of groups'],
  [Request.GROUP_GET_DEVICE_FD, 'GROUP_GET_DEVICE_FD, of groups'],
  [Request.DEVICE_ATTACH_IOMMUFD_PT, 'ATTACH_IOMMUFD_PT, on a device that was opened through its group'],
  [Request.DEVICE_DETACH_IOMMUFD_PT, 'DETACH_IOMMUFD_PT, on a device that was opened through its group'],
];

/** Requests in general. */
export const requestCases: readonly CaseSpec[] = [
  {
    name: 'requests: unknown ones are ENOTTY',
    async run(subject) {
      await using device = await subject.open();
      for (const [request, what] of unknown) {
        await ends(
          () => subject.ioctl(device, request),
          'ENOTTY',
          `request 0x${request.toString(16)} (${what}) is unknown`,
        );
      }
    },
  },
  {
    name: 'requests: a null pointer is EFAULT',
    async run(subject) {
      await using device = await subject.open();
      for (const { name, request } of await structRequests(subject, device)) {
        await ends(() => subject.ioctl(device, request, 0n), 'EFAULT', `${name} of a null pointer is refused`);
      }
    },
  },
  {
    name: 'requests: a struct that is cut off is EFAULT',
    async run(subject) {
      await using device = await subject.open();
      for (const { name, request, struct } of await structRequests(subject, device)) {
        for (const length of [4, struct.length - 1]) {
          await ends(
            () => subject.ioctl(device, request, struct.slice(0, length)),
            'EFAULT',
            `${name} of ${struct.length} bytes is refused when only ${length} can be read`,
          );
        }
      }
    },
  },
  {
    name: 'requests: an answer that can not be written is EFAULT',
    async run(subject) {
      await using device = await subject.open();
      for (const { name, request, struct, answers } of await structRequests(subject, device)) {
        if (!answers) continue;
        using memory = subject.readOnly(struct);
        await ends(
          () => subject.ioctl(device, request, memory.address),
          'EFAULT',
          `${name} of a struct that can not be written is refused`,
        );
      }
    },
  },
];
