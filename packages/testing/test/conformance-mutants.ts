// For each case of the conformance suite a device, or a kernel, that breaks just this promise: a case that none of them
// fails could not fail at all.

import {
  DeviceFile,
  deviceFeatureDmaLoggingReport,
  deviceFeatureMigState,
  Feature,
  FeatureFlag,
  GroupFile,
  type IommufdContext,
  IrqSetFlag,
  irqSet,
  MigState,
  Request,
  VfioError,
} from '@vfio/core';
import { type IoctlCall, isSystemError, type Mapping, Process, type UserBuffer } from '@vfio/host';
import { vi } from 'vitest';
import type { LabOptions } from '../../client/test/lab.js';
import { ModelDevice, registersSize } from '../../client/test/model-device.js';

/** A broken promise. */
export interface Mutant {
  /** A device that breaks it. */
  readonly lab?: LabOptions;
  /** Breaks what is below all devices, until it is called again. */
  patch?(): void;
  /** Unbinding resolves whether the device is gone or not. */
  readonly hasty?: true;
}

type Next = () => Promise<number>;

/** Stands before the requests of device files. */
function request(change: (call: IoctlCall, next: Next, file: DeviceFile) => Promise<number> | number): Mutant {
  return {
    patch: () => {
      const { ioctl } = DeviceFile.prototype;
      vi.spyOn(DeviceFile.prototype, 'ioctl').mockImplementation(async function (this: DeviceFile, call) {
        return await change(call, () => ioctl.call(this, call), this);
      });
    },
  };
}

/** Answers one request with 0 under a condition, whatever there is to say. */
function accepts(number: number, when: (call: IoctlCall) => boolean): Mutant {
  return request((call, next) => (call.request === number && when(call) ? 0 : next()));
}

/** Takes an errno of a request for success. */
function swallows(
  number: number,
  code: 'EINVAL' | 'EFAULT' | 'EBADF' | 'EMFILE' | 'ENOENT',
  when = (_: IoctlCall) => true,
): Mutant {
  return request(async (call, next) => {
    try {
      return await next();
    } catch (error) {
      if (call.request === number && isSystemError(error, code) && when(call)) return 0;
      throw error;
    }
  });
}

/** Changes the answer of a request. */
function changes(number: number, change: (call: IoctlCall, file: DeviceFile) => unknown): Mutant {
  return request(async (call, next, file) => {
    const result = await next();
    if (call.request === number) await change(call, file);
    return result;
  });
}

function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

const { DEVICE_GET_INFO, DEVICE_GET_REGION_INFO, DEVICE_GET_IRQ_INFO, DEVICE_SET_IRQS, DEVICE_FEATURE, DEVICE_RESET } =
  Request;
const { GET, SET, PROBE, MASK } = FeatureFlag;

const argsz = (call: IoctlCall) => call.u32(0);
const readableHead = (call: IoctlCall, bytes: number) => {
  try {
    call.copyIn(bytes);
    return true;
  } catch {
    return false;
  }
};
const isFeature = (call: IoctlCall, feature: number, direction = 0) =>
  readableHead(call, 8) && (call.u32(4) & MASK) === feature && (call.u32(4) & direction) === direction;
const uses = (call: IoctlCall, feature: number, direction: number) =>
  call.request === DEVICE_FEATURE && isFeature(call, feature, direction) && (call.u32(4) & PROBE) === 0;
const setOf = (call: IoctlCall) => irqSet.decode(call.copyIn(irqSet.size), call.order);
const stateOf = (call: IoctlCall) => deviceFeatureMigState.decode(call.copyIn(8, 8), call.order).deviceState;
const modelOf = (file: DeviceFile) => file.user.device as ModelDevice;

/** A device that does something else. */
function model(Model: typeof ModelDevice): Mutant {
  return { lab: { Model } };
}

/** A request of groups. */
function groupRequest(change: (call: IoctlCall, next: Next) => Promise<number>): Mutant {
  return {
    patch: () => {
      const { ioctl } = GroupFile.prototype;
      vi.spyOn(GroupFile.prototype, 'ioctl').mockImplementation(async function (this: GroupFile, call) {
        return await change(call, async () => ioctl.call(this, call));
      });
    },
  };
}

/** A step that forgets what it had when it fails. */
function forgets(when: (call: IoctlCall) => boolean): Mutant {
  return request((call, next, file) => {
    if (!when(call)) return next();
    const { tracker, faults } = modelOf(file).host;
    const taken = tracker.track('memory', () => 'something forgotten');
    faults.check('mutant:step');
    taken.release();
    return next();
  });
}

const info: Record<string, Mutant> = {
  'info: argsz below 16 is EINVAL': accepts(DEVICE_GET_INFO, (call) => readableHead(call, 16) && argsz(call) < 16),
  'info: 16 bytes are enough, and nothing is written past argsz': request(async (call, next) => {
    const longest = readableHead(call, 80) && argsz(call) === 16;
    const result = await next();
    if (call.request === DEVICE_GET_INFO && longest) call.copyOut(u32(0), 16);
    return result;
  }),
  'info: its numbers are what they should be': changes(DEVICE_GET_INFO, (call) => call.copyOut(u32(5), 12)),
  'info: capabilities are a chain behind the struct, or told of when they do not fit': changes(
    DEVICE_GET_INFO,
    (call) => readableHead(call, 40) && call.copyOut(u32(28), 16),
  ),
};

const regions: Record<string, Mutant> = {
  'regions: argsz below 32 is EINVAL': accepts(
    DEVICE_GET_REGION_INFO,
    (call) => readableHead(call, 32) && argsz(call) < 32,
  ),
  'regions: 32 bytes are enough, and nothing is written past argsz': changes(
    DEVICE_GET_REGION_INFO,
    (call) => readableHead(call, 128) && call.copyOut(u32(0), 100),
  ),
  'regions: an index past the last is EINVAL': accepts(
    DEVICE_GET_REGION_INFO,
    (call) => readableHead(call, 12) && call.u32(8) >= 4,
  ),
  'regions: each index is described or EINVAL': changes(
    DEVICE_GET_REGION_INFO,
    (call) => call.u32(8) === 1 && call.copyOut(u32(2), 8),
  ),
  'regions: sizes are what they should be': changes(
    DEVICE_GET_REGION_INFO,
    (call) => call.u32(8) === 2 && call.copyOut(u32(101), 16),
  ),
  'regions: they do not overlap in the device file': changes(
    DEVICE_GET_REGION_INFO,
    (call) => call.u32(8) === 2 && call.copyOut(new Uint8Array(8).fill(0x10, 1, 2), 24),
  ),
  'regions: what is absent or not readable can not be read': model(
    class extends ModelDevice {
      override read(buffer: UserBuffer, position: number): number {
        return Math.floor(position / 2 ** 40) === 1 ? buffer.length : super.read(buffer, position);
      }
    },
  ),
  'regions: what is absent or not writable can not be written': model(
    class extends ModelDevice {
      override write(buffer: UserBuffer, position: number): number {
        return position >= 2 ** 41 ? buffer.length : super.write(buffer, position);
      }
    },
  ),
  'regions: a read of no bytes is 0': model(
    class extends ModelDevice {
      override read(buffer: UserBuffer, position: number): number {
        if (buffer.length === 0) throw new VfioError('EINVAL', 'nothing to read');
        return super.read(buffer, position);
      }
    },
  ),
  'regions: nothing is read past the end': model(
    class extends ModelDevice {
      override read(buffer: UserBuffer, position: number): number {
        return position >= registersSize && position < 2 ** 40 ? buffer.length : super.read(buffer, position);
      }
    },
  ),
  'regions: nothing is written past the end': model(
    class extends ModelDevice {
      override write(buffer: UserBuffer, position: number): number {
        return position >= registersSize && position < 2 ** 40 ? buffer.length : super.write(buffer, position);
      }
    },
  ),
  'regions: a buffer that is not there is EFAULT': model(
    class extends ModelDevice {
      override read(buffer: UserBuffer, position: number): number {
        return buffer.bytes.length < buffer.length ? 0 : super.read(buffer, position);
      }
    },
  ),
  'regions: those with flag MMAP can be mapped, the others not': model(
    class extends ModelDevice {
      override mmap(): Mapping {
        return { kind: 'io' };
      }
    },
  ),
};

const irqs: Record<string, Mutant> = {
  'irqs: argsz below 16 is EINVAL': accepts(DEVICE_GET_IRQ_INFO, (call) => readableHead(call, 16) && argsz(call) < 16),
  'irqs: 16 bytes are enough, and nothing is written past argsz': changes(
    DEVICE_GET_IRQ_INFO,
    (call) => readableHead(call, 64) && call.copyOut(u32(0), 16),
  ),
  'irqs: an index past the last is EINVAL': accepts(
    DEVICE_GET_IRQ_INFO,
    (call) => readableHead(call, 16) && call.u32(8) >= 3,
  ),
  'irqs: counts are what they should be': changes(
    DEVICE_GET_IRQ_INFO,
    (call) => call.u32(8) === 1 && call.copyOut(u32(3), 12),
  ),
  'set irqs: argsz below 20 is EINVAL': accepts(DEVICE_SET_IRQS, (call) => argsz(call) < 20),
  'set irqs: an index past the last is EINVAL': accepts(DEVICE_SET_IRQS, (call) => setOf(call).index >= 3),
  'set irqs: an unknown flag is EINVAL': accepts(DEVICE_SET_IRQS, (call) => (setOf(call).flags & 0x40) !== 0),
  'set irqs: not exactly one kind of data is EINVAL': accepts(
    DEVICE_SET_IRQS,
    (call) => (setOf(call).flags & IrqSetFlag.DATA_TYPE_MASK) === 0,
  ),
  'set irqs: interrupts past the last are EINVAL': accepts(
    DEVICE_SET_IRQS,
    (call) => setOf(call).start === 1 && setOf(call).count === 0xffff_ffff,
  ),
  'set irqs: argsz without room for the data is EINVAL': accepts(
    DEVICE_SET_IRQS,
    (call) => argsz(call) === 23 && setOf(call).flags === (IrqSetFlag.ACTION_TRIGGER | IrqSetFlag.DATA_EVENTFD),
  ),
  'set irqs: data that is not there is EFAULT': swallows(DEVICE_SET_IRQS, 'EFAULT'),
  'set irqs: TRIGGER signals the eventfds of its range': accepts(
    DEVICE_SET_IRQS,
    (call) => setOf(call).flags === (IrqSetFlag.ACTION_TRIGGER | IrqSetFlag.DATA_NONE) && setOf(call).count > 0,
  ),
  'set irqs: BOOL signals where it is true': request((call, next, file) => {
    if (call.request !== DEVICE_SET_IRQS || (setOf(call).flags & IrqSetFlag.DATA_BOOL) === 0) return next();
    const { index, start, count } = setOf(call);
    for (let i = 0; i < count; i++) modelOf(file).irqs.raise(index, start + i);
    return 0;
  }),
  'set irqs: an eventfd of -1 disconnects': accepts(
    DEVICE_SET_IRQS,
    (call) => setOf(call).count === 1 && argsz(call) === 24 && call.u32(20) === 0xffff_ffff,
  ),
  'set irqs: another eventfd takes the place of the first': request((call, next, file) => {
    if (call.request !== DEVICE_SET_IRQS || argsz(call) !== 24) return next();
    // the first eventfd of index 1 came with others, any that comes alone is the second
    return setOf(call).index === 1 && modelOf(file).openCount === 1 ? 0 : next();
  }),
  'set irqs: TRIGGER with NONE and count 0 disables the index': accepts(
    DEVICE_SET_IRQS,
    (call) => setOf(call).count === 0,
  ),
  'set irqs: what is no eventfd is EBADF or EINVAL, and harms nothing': swallows(DEVICE_SET_IRQS, 'EBADF'),
  'set irqs: MASK and UNMASK are for an index with flag MASKABLE': accepts(
    DEVICE_SET_IRQS,
    (call) => setOf(call).index === 1 && (setOf(call).flags & IrqSetFlag.ACTION_MASK) !== 0,
  ),
  'set irqs: the last close lets go of the eventfds': model(
    class extends ModelDevice {
      override async closeDevice(): Promise<void> {}
    },
  ),
};

const requests: Record<string, Mutant> = {
  'requests: unknown ones are ENOTTY': accepts(0x3bff, () => true),
  'requests: a null pointer is EFAULT': accepts(DEVICE_GET_IRQ_INFO, (call) => call.arg === 0n),
  'requests: a struct that is cut off is EFAULT': swallows(
    DEVICE_GET_INFO,
    'EFAULT',
    (call) => !readableHead(call, 16),
  ),
  'requests: an answer that can not be written is EFAULT': swallows(DEVICE_GET_REGION_INFO, 'EFAULT', (call) =>
    readableHead(call, 32),
  ),
};

const features: Record<string, Mutant> = {
  'features: argsz below 8 is EINVAL': accepts(DEVICE_FEATURE, (call) => readableHead(call, 8) && argsz(call) === 7),
  'features: an unknown flag is EINVAL': accepts(
    DEVICE_FEATURE,
    (call) => readableHead(call, 8) && (call.u32(4) & 0x8_0000) !== 0,
  ),
  'features: GET together with SET is EINVAL, unless it is probed': swallows(DEVICE_FEATURE, 'EINVAL', (call) =>
    isFeature(call, Feature.MIG_DEVICE_STATE, GET | SET),
  ),
  'features: numbers without a meaning are ENOTTY': accepts(DEVICE_FEATURE, (call) => isFeature(call, 13, PROBE)),
  'features: PROBE tells the directions of each feature': accepts(DEVICE_FEATURE, (call) =>
    isFeature(call, Feature.MIGRATION, PROBE | SET),
  ),
  'features: using one answers as PROBE did': swallows(
    DEVICE_FEATURE,
    'EINVAL',
    (call) => isFeature(call, Feature.MIG_DATA_SIZE, GET) && argsz(call) === 15,
  ),
  'features: data that is not there is EFAULT': swallows(DEVICE_FEATURE, 'EFAULT', (call) =>
    isFeature(call, Feature.DMA_LOGGING_REPORT, GET),
  ),
  'features: MIG_PRECOPY_INFOv2 is for devices with PRE_COPY, until their last close': accepts(DEVICE_FEATURE, (call) =>
    isFeature(call, Feature.MIG_PRECOPY_INFOv2, GET),
  ),
};

const migration: Record<string, Mutant> = {
  'migration: its flags are what they should be': { lab: { migration: 3 } },
  'migration: a device that is opened is RUNNING, and reading its state gives no descriptor': changes(
    DEVICE_FEATURE,
    (call) => uses(call, Feature.MIG_DEVICE_STATE, GET) && call.copyOut(u32(7), 12),
  ),
  'migration: every change of state ends where the table says': accepts(
    DEVICE_FEATURE,
    (call) => uses(call, Feature.MIG_DEVICE_STATE, SET) && stateOf(call) === MigState.RUNNING_P2P,
  ),
  'migration: a state that is none is EINVAL, and data_fd -1': swallows(
    DEVICE_FEATURE,
    'EINVAL',
    (call) => uses(call, Feature.MIG_DEVICE_STATE, SET) && stateOf(call) === 8,
  ),
  'migration: RESET returns to RUNNING, from wherever': accepts(DEVICE_RESET, () => true),
  'migration: MIG_DATA_SIZE answers in every state': request((call, next) => {
    if (uses(call, Feature.MIG_DATA_SIZE, GET)) throw new VfioError('EINVAL', 'not now');
    return next();
  }),
  'migration: data descriptors are close-on-exec': changes(DEVICE_FEATURE, (call) => {
    if (!uses(call, Feature.MIG_DEVICE_STATE, SET)) return;
    const { dataFd } = deviceFeatureMigState.decode(call.copyIn(8, 8), call.order);
    if (dataFd >= 0) call.process.files.setCloexec(dataFd, false);
  }),
  'migration: what was saved loads, and saves the same': changes(DEVICE_FEATURE, (call, file) => {
    if (uses(call, Feature.MIG_DEVICE_STATE, SET) && stateOf(call) === MigState.STOP)
      modelOf(file).setRegisters(3, Uint8Array.of(modelOf(file).registers(3, 1)[0]! + 1));
  }),
  'migration: a data file that has ended is ENODEV': {
    patch: () => {
      const { read } = Process.prototype;
      vi.spyOn(Process.prototype, 'read').mockImplementation(function (this: Process, fd, into) {
        try {
          return read.call(this, fd, into);
        } catch (error) {
          if (isSystemError(error, 'ENODEV')) return 0;
          throw error;
        }
      });
    },
  },
  'migration: a data file can be closed in the middle': changes(
    DEVICE_FEATURE,
    (call) => uses(call, Feature.MIG_DEVICE_STATE, GET) && call.copyOut(u32(MigState.RUNNING), 8),
  ),
  'migration: no descriptor is given away when it can not be told of': request(async (call, next) => {
    try {
      return await next();
    } catch (error) {
      if (isSystemError(error, 'EFAULT') && uses(call, Feature.MIG_DEVICE_STATE, SET)) call.process.eventfd();
      throw error;
    }
  }),
  'migration: a full descriptor table is EMFILE': swallows(DEVICE_FEATURE, 'EMFILE'),
  'migration: pre-copy information is given in pre-copy, and checks its struct': {
    patch: () => {
      const { ioctl } = Process.prototype;
      vi.spyOn(Process.prototype, 'ioctl').mockImplementation(async function (this: Process, fd, number, arg) {
        if (number === Request.MIG_GET_PRECOPY_INFO && arg === 0n) return 0;
        return await ioctl.call(this, fd, number, arg);
      });
    },
  },
};

const logging: Record<string, Mutant> = {
  'dma logging: it is started, read and stopped, again and again': changes(DEVICE_FEATURE, (call) => {
    if (!uses(call, Feature.DMA_LOGGING_REPORT, GET)) return;
    const { bitmap } = deviceFeatureDmaLoggingReport.decode(call.copyIn(32, 8), call.order);
    call.copyOutAt(bitmap, new Uint8Array(8));
  }),
  'dma logging: START refuses ranges that are none': swallows(DEVICE_FEATURE, 'EINVAL', (call) =>
    isFeature(call, Feature.DMA_LOGGING_START, SET),
  ),
  'dma logging: REPORT refuses pages and ranges that are none': swallows(DEVICE_FEATURE, 'EINVAL', (call) =>
    isFeature(call, Feature.DMA_LOGGING_REPORT, GET),
  ),
  'dma logging: START whose answer can not be written is EFAULT, and stops': swallows(
    DEVICE_FEATURE,
    'EFAULT',
    (call) => isFeature(call, Feature.DMA_LOGGING_START, SET),
  ),
  'dma logging: it ends with the last close': model(
    class extends ModelDevice {
      override async closeDevice(): Promise<void> {}
    },
  ),
};

/** A device that loses something each time that it is opened. */
class Loses extends ModelDevice {
  override openDevice(): void {
    this.host.tracker.track('memory', () => 'something lost');
  }
}

const lifetime: Record<string, Mutant> = {
  'lifetime: opens and closes balance': model(Loses),
  'lifetime: a second descriptor is a second user': {
    patch: () => {
      const first = new WeakMap<Process, number>();
      groupRequest(async (call, next) => {
        if (call.request !== Request.GROUP_GET_DEVICE_FD) return await next();
        const known = first.get(call.process);
        if (known !== undefined && call.process.files.has(known)) return call.process.dup(known);
        const fd = await next();
        first.set(call.process, fd);
        return fd;
      }).patch?.();
    },
  },
  'lifetime: the device stays open when group and container are closed before it': request((call, next) => {
    if (call.process.files.descriptors().length === 1) throw new VfioError('ENODEV', 'nothing behind the device');
    return next();
  }),
  'lifetime: a child inherits the device and holds it open': request((call, next) => {
    if (call.process.comm === 'child') throw new VfioError('EINVAL', 'not your device');
    return next();
  }),
  'lifetime: the descriptor does not outlive an exec': groupRequest(async (call, next) => {
    const result = await next();
    if (call.request === Request.GROUP_GET_DEVICE_FD) call.process.files.setCloexec(result, false);
    return result;
  }),
  'lifetime: a process that is killed gives everything back': model(Loses),
  'lifetime: a name that is not quite right is ENODEV': model(
    class extends ModelDevice {
      override match(name: string): boolean {
        return name.startsWith(this.dev.name);
      }
    },
  ),
  'lifetime: the device goes when its last user has closed it, and not before': { hasty: true },
  'lifetime: a failure at any step of an open leaves nothing behind': model(
    class extends ModelDevice {
      override openDevice(): void {
        const taken = this.host.tracker.track('memory', () => 'something forgotten');
        this.host.faults.check('mutant:openDevice');
        taken.release();
      }
    },
  ),
  'lifetime: a failure at any step of connecting interrupts leaves nothing behind': forgets(
    (call) => call.request === DEVICE_SET_IRQS,
  ),
  'lifetime: a failure at any step of a migration leaves nothing behind': forgets((call) =>
    uses(call, Feature.MIG_DEVICE_STATE, SET),
  ),
};

/** A device that loses something each time that it is bound. */
class LosesBindings extends ModelDevice {
  override bindIommufd(context: IommufdContext): Promise<number> {
    this.host.tracker.track('memory', () => 'something lost');
    return super.bindIommufd(context);
  }
}

const cdev: Record<string, Mutant> = {
  'cdev: nothing works before BIND': request((call, next, file) =>
    call.request === DEVICE_GET_INFO && !file.user.accessGranted ? 0 : next(),
  ),
  'cdev: BIND checks its struct and its iommufd': swallows(Request.DEVICE_BIND_IOMMUFD, 'EBADF'),
  'cdev: a device is bound once': request(async (call, next, file) => {
    if (call.request === Request.DEVICE_BIND_IOMMUFD && file.user.accessGranted) return 0;
    return await next();
  }),
  'cdev: node and group exclude each other': {
    patch: () => {
      const { open } = Process.prototype;
      vi.spyOn(Process.prototype, 'open').mockImplementation(async function (this: Process, path, flags) {
        try {
          return await open.call(this, path, flags);
        } catch (error) {
          if (isSystemError(error, 'EBUSY')) return this.eventfd();
          throw error;
        }
      });
    },
  },
  'cdev: a bound device is attached, moved and detached': swallows(Request.DEVICE_ATTACH_IOMMUFD_PT, 'ENOENT'),
  'cdev: ATTACH and DETACH check their structs': swallows(Request.DEVICE_DETACH_IOMMUFD_PT, 'EINVAL'),
  'cdev: opens and closes balance, the iommufd closed first or last': model(LosesBindings),
  'cdev: the device goes when its last descriptor is closed, bound or not': { hasty: true },
  'cdev: a failure at any step of BIND and ATTACH leaves nothing behind': forgets(
    (call) => call.request === Request.DEVICE_ATTACH_IOMMUFD_PT,
  ),
};

/** The mutants, by the name of the case that each of them fails. */
export const mutants: Readonly<Record<string, Mutant>> = {
  ...info,
  ...regions,
  ...irqs,
  ...requests,
  ...features,
  'reset: it works as flag RESET says': request((call, next) => {
    if (call.request === DEVICE_RESET) throw new VfioError('ENOTTY', 'no reset');
    return next();
  }),
  ...migration,
  ...logging,
  ...lifetime,
  ...cdev,
};
