/* The other door: the device's own node, an iommufd that it is bound to, and the address spaces that it is attached to. */
import type { Device } from '@vfio/client';
import {
  deviceAttachIommufdPt,
  deviceBindIommufd,
  deviceDetachIommufdPt,
  deviceFeature,
  deviceInfo,
  Feature,
  FeatureFlag,
  Request,
  regionInfo,
} from '@vfio/core';
import { type ErrnoCode, O } from '@vfio/host';
import { Baseline, describeLeaks } from '../baseline.js';
import { closesBeforeUnbind, expectUsers, failEverywhere } from './lifetime.js';
import type { DriverConformance } from './options.js';
import { ends, keeps } from './promise.js';
import { type CaseSpec, INFO_MINIMUM, type Subject } from './subject.js';

const ROUNDS = 3;
/** Bytes of `struct vfio_device_bind_iommufd` before it had a token. */
const BIND_MINIMUM = deviceBindIommufd.endOf('outDevid');
const ATTACH_MINIMUM = deviceAttachIommufdPt.endOf('ptId');
const UNKNOWN_FLAG = 0x80;
const NOT_OPEN = 0x7fff;
const NO_OBJECT = 0x7fff_ffff;
const PAGE = 4096;

const hasNode = ({ cdev = false }: DriverConformance) => cdev;

/** Opens the node and leaves it at that. */
async function openNode({ client, process, target }: Subject): Promise<number> {
  return await process.open(await client.nodeOf(target.address), O.RDWR | O.CLOEXEC);
}

/** The first version of BIND, with whatever is wrong with it. */
function bind(
  { process, order }: Subject,
  fd: number,
  iommufd: number,
  { argsz = BIND_MINIMUM, flags = 0 } = {},
): () => Promise<number> {
  const bytes = deviceBindIommufd.encode({ argsz, flags, iommufd }, order).subarray(0, BIND_MINIMUM);
  return () => process.ioctl(fd, Request.DEVICE_BIND_IOMMUFD, bytes);
}

function attach({ process, order }: Subject, { fd }: Device, ptId: number, change: object = {}): () => Promise<number> {
  const bytes = deviceAttachIommufdPt.encode({ argsz: ATTACH_MINIMUM, ptId, ...change }, order);
  return () => process.ioctl(fd, Request.DEVICE_ATTACH_IOMMUFD_PT, bytes.subarray(0, ATTACH_MINIMUM));
}

function detach({ process, order }: Subject, { fd }: Device, change: object = {}): () => Promise<number> {
  const length = deviceDetachIommufdPt.endOf('flags');
  const bytes = deviceDetachIommufdPt.encode({ argsz: length, ...change }, order).subarray(0, length);
  return () => process.ioctl(fd, Request.DEVICE_DETACH_IOMMUFD_PT, bytes);
}

const binding: readonly CaseSpec[] = [
  {
    name: 'cdev: nothing works before BIND',
    when: hasNode,
    async run(subject) {
      const { process, order } = subject;
      const fd = await openNode(subject);
      const requests: readonly (readonly [string, number, Uint8Array])[] = [
        ['GET_INFO', Request.DEVICE_GET_INFO, deviceInfo.encode({ argsz: INFO_MINIMUM }, order)],
        ['GET_REGION_INFO', Request.DEVICE_GET_REGION_INFO, regionInfo.encode({ argsz: regionInfo.size }, order)],
        [
          'FEATURE',
          Request.DEVICE_FEATURE,
          deviceFeature.encode({ argsz: deviceFeature.size, flags: FeatureFlag.PROBE | Feature.MIGRATION }, order),
        ],
        ['RESET', Request.DEVICE_RESET, new Uint8Array(0)],
        ['an unknown request', 0x3bff, new Uint8Array(0)],
      ];
      for (const [name, request, bytes] of requests) {
        await ends(() => process.ioctl(fd, request, bytes), 'EINVAL', `${name} before BIND is refused`);
      }
      await ends(() => process.pread(fd, new Uint8Array(4), 0), 'EINVAL', 'a read before BIND is refused');
      await ends(() => process.pwrite(fd, new Uint8Array(4), 0), 'EINVAL', 'a write before BIND is refused');
      const map = async () => Number(await process.mmap(fd, { length: PAGE, prot: 1, shared: true, offset: 0 }));
      await ends(map, 'EINVAL', 'mmap before BIND is refused');
      expectUsers(subject, 0, 'before BIND');
      await process.close(fd);
    },
  },
  {
    name: 'cdev: BIND checks its struct and its iommufd',
    when: hasNode,
    async run(subject) {
      const { process, client, order } = subject;
      await using iommufd = await client.openIommufd();
      const fd = await openNode(subject);
      const refusals: readonly (readonly [string, ErrnoCode, () => Promise<number>])[] = [
        ['argsz 15', 'EINVAL', bind(subject, fd, iommufd.fd, { argsz: BIND_MINIMUM - 1 })],
        ['an unknown flag', 'EINVAL', bind(subject, fd, iommufd.fd, { flags: UNKNOWN_FLAG })],
        ['iommufd -1', 'EINVAL', bind(subject, fd, -1)],
        ['an iommufd that is not open', 'EBADF', bind(subject, fd, NOT_OPEN)],
        ['what is no iommufd', 'EBADFD', bind(subject, fd, fd)],
        ['a null pointer', 'EFAULT', () => process.ioctl(fd, Request.DEVICE_BIND_IOMMUFD, 0n)],
        [
          'a struct that is cut off',
          'EFAULT',
          () => {
            const value = { argsz: BIND_MINIMUM, iommufd: iommufd.fd };
            const bytes = deviceBindIommufd.encode(value, order).subarray(0, BIND_MINIMUM - 1);
            return process.ioctl(fd, Request.DEVICE_BIND_IOMMUFD, bytes);
          },
        ],
      ];
      for (const [what, code, call] of refusals) await ends(call, code, `BIND with ${what} is refused`);
      expectUsers(subject, 0, 'after BIND was refused');
      await ends(bind(subject, fd, iommufd.fd), 0, 'BIND of 16 bytes, after it was refused');
      expectUsers(subject, 1, 'after BIND');
      await process.close(fd);
      expectUsers(subject, 0, 'after the close of a bound device');
    },
  },
  {
    name: 'cdev: a device is bound once',
    when: hasNode,
    async run(subject) {
      const { process } = subject;
      await using device = await subject.openCdev();
      const { iommufd, id } = device.binding;
      keeps(id > 0, 'BIND tells the id of the device in the iommufd, which is never 0', String(id));
      await ends(bind(subject, device.fd, iommufd.fd), 'EINVAL', 'a second BIND of one descriptor');
      const other = await openNode(subject);
      await ends(bind(subject, other, iommufd.fd), 'EINVAL', 'BIND of a second descriptor');
      await process.close(other);
      expectUsers(subject, 1, 'after BIND was refused to others');
      const { numRegions, numIrqs } = await device.info();
      const same = numRegions === subject.options.regions && numIrqs === subject.options.irqs;
      keeps(
        same,
        'a bound device tells the same of itself as one of a group',
        `${numRegions} regions, ${numIrqs} irqs`,
      );
    },
  },
  {
    name: 'cdev: node and group exclude each other',
    when: hasNode,
    async run(subject) {
      const { process, client } = subject;
      const path = `/dev/vfio/${await client.groupOf(subject.target.address)}`;
      const device = await subject.openCdev();
      await ends(() => process.open(path, O.RDWR), 'EBUSY', 'an open of the group of a bound device');
      await device.close();
      const group = await process.open(path, O.RDWR);
      await using iommufd = await client.openIommufd();
      const fd = await openNode(subject);
      await ends(bind(subject, fd, iommufd.fd), 'EBUSY', 'BIND of a device whose group is open');
      await process.close(group);
      await ends(bind(subject, fd, iommufd.fd), 0, 'BIND after the group was closed');
      await process.close(fd);
    },
  },
];

const attaching: readonly CaseSpec[] = [
  {
    name: 'cdev: a bound device is attached, moved and detached',
    when: hasNode,
    async run(subject) {
      await using device = await subject.openCdev();
      const { iommufd } = device.binding;
      const other = await iommufd.allocIoas();
      await ends(attach(subject, device, other.id), 0, 'ATTACH of an attached device moves it');
      await ends(() => iommufd.destroy(other.id).then(() => 0), 'EBUSY', 'DESTROY of what a device is attached to');
      await ends(detach(subject, device), 0, 'DETACH');
      await ends(detach(subject, device), 0, 'DETACH of what is not attached');
      await ends(() => iommufd.destroy(other.id).then(() => 0), 0, 'DESTROY of what no device is attached to');
      await ends(attach(subject, device, other.id), 'ENOENT', 'ATTACH to an address space that is gone');
    },
  },
  {
    name: 'cdev: ATTACH and DETACH check their structs',
    when: hasNode,
    async run(subject) {
      await using device = await subject.openCdev();
      const id = device.binding.ioas?.id ?? NO_OBJECT;
      const refused = 'is refused';
      await ends(
        attach(subject, device, id, { argsz: ATTACH_MINIMUM - 1 }),
        'EINVAL',
        `ATTACH with argsz 11 ${refused}`,
      );
      await ends(
        attach(subject, device, id, { flags: UNKNOWN_FLAG }),
        'EINVAL',
        `ATTACH with an unknown flag ${refused}`,
      );
      await ends(attach(subject, device, NO_OBJECT), 'ENOENT', `ATTACH to an id that nothing has ${refused}`);
      await ends(detach(subject, device, { argsz: 7 }), 'EINVAL', `DETACH with argsz 7 ${refused}`);
      await ends(detach(subject, device, { flags: UNKNOWN_FLAG }), 'EINVAL', `DETACH with an unknown flag ${refused}`);
      for (const [name, request] of [
        ['ATTACH', Request.DEVICE_ATTACH_IOMMUFD_PT],
        ['DETACH', Request.DEVICE_DETACH_IOMMUFD_PT],
      ] as const) {
        await ends(() => subject.ioctl(device, request, 0n), 'EFAULT', `${name} of a null pointer ${refused}`);
      }
    },
  },
];

const lifetime: readonly CaseSpec[] = [
  {
    name: 'cdev: opens and closes balance, the iommufd closed first or last',
    when: hasNode,
    async run(subject) {
      const before = new Baseline(subject.host);
      for (let round = 1; round <= ROUNDS; round++) {
        const device = await subject.openCdev();
        expectUsers(subject, 1, `in round ${round}, after BIND`);
        if (round % 2 === 0) await device.binding.iommufd.close();
        await device.close();
        expectUsers(subject, 0, `in round ${round}, after the close`);
        await before.settle();
        const left = before.newLeaks();
        keeps(left.length === 0, `round ${round} of BIND and close leaves nothing behind`, describeLeaks(left));
      }
    },
  },
  {
    name: 'cdev: the device goes when its last descriptor is closed, bound or not',
    when: hasNode,
    async run(subject) {
      const { process } = subject;
      const idle = await openNode(subject);
      const device = await subject.openCdev();
      await closesBeforeUnbind(subject, async (gone) => {
        await device.close();
        keeps(!(await gone()), 'the driver can not leave a device whose node is open', 'it is gone');
        await process.close(idle);
      });
    },
  },
  {
    name: 'cdev: a failure at any step of BIND and ATTACH leaves nothing behind',
    when: hasNode,
    timeoutMs: 120_000,
    run: ({ options }) =>
      failEverywhere(options, async (subject) => {
        await using _device = await subject.openCdev();
      }),
  },
];

/** Device nodes and iommufd. */
export const cdevCases: readonly CaseSpec[] = [...binding, ...attaching, ...lifetime];
