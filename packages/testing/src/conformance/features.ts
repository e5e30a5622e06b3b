/* VFIO_DEVICE_FEATURE: the checks of its head, and that PROBE tells of each number and direction what using it would. */
import type { Device } from '@vfio/client';
import { deviceFeature, Feature, FeatureFlag, Request } from '@vfio/core';
import type { DriverConformance } from './options.js';
import { ends, keeps, type Outcome } from './promise.js';
import type { CaseSpec, Subject } from './subject.js';

const { GET, SET, PROBE, MASK } = FeatureFlag;
/** The first number without a meaning, in a kernel of the release that this one answers like. */
const FIRST_UNKNOWN = Feature.MIG_PRECOPY_INFOv2 + 1;

/** What VFIO fixes of a feature, whichever device has it. */
interface FeatureRule {
  readonly name: keyof typeof Feature;
  readonly get?: true;
  readonly set?: true;
  /** Bytes of its data. */
  readonly size: number;
  /** What devices that lack it say; some say that they never could. */
  readonly absent: readonly Outcome[];
  /** Whether the device has it; undefined: the driver decides. */
  offered?(options: DriverConformance): boolean;
}

/** Whether the driver was said to migrate. */
export const migrates = ({ migration = false }: DriverConformance) => migration !== false && migration !== 0;
/** Whether the driver was said to log its writes. */
export const logs = ({ dmaLogging = false }: DriverConformance) => dmaLogging;

const rules: readonly FeatureRule[] = [
  { name: 'PCI_VF_TOKEN', set: true, size: 16, absent: ['ENOTTY'] },
  { name: 'MIGRATION', get: true, size: 8, absent: ['ENOTTY'], offered: migrates },
  { name: 'MIG_DEVICE_STATE', get: true, set: true, size: 8, absent: ['ENOTTY'], offered: migrates },
  { name: 'LOW_POWER_ENTRY', set: true, size: 0, absent: ['ENOTTY'] },
  { name: 'LOW_POWER_ENTRY_WITH_WAKEUP', set: true, size: 8, absent: ['ENOTTY'] },
  { name: 'LOW_POWER_EXIT', set: true, size: 0, absent: ['ENOTTY'] },
  { name: 'DMA_LOGGING_START', set: true, size: 24, absent: ['ENOTTY'], offered: logs },
  { name: 'DMA_LOGGING_STOP', set: true, size: 0, absent: ['ENOTTY'], offered: logs },
  { name: 'DMA_LOGGING_REPORT', get: true, size: 32, absent: ['ENOTTY'], offered: logs },
  { name: 'MIG_DATA_SIZE', get: true, size: 8, absent: ['ENOTTY'], offered: migrates },
  { name: 'BUS_MASTER', set: true, size: 4, absent: ['ENOTTY'] },
  { name: 'DMA_BUF', get: true, size: 16, absent: ['ENOTTY', 'EOPNOTSUPP'] },
];

function request(subject: Subject, device: Device, flags: number, room = 0, argsz?: number): () => Promise<number> {
  return () => subject.ioctl(device, Request.DEVICE_FEATURE, subject.feature(flags, new Uint8Array(room), argsz));
}

/** Whether the device has a feature, as it says itself; held against what was told of the driver. */
async function has(subject: Subject, device: Device, rule: FeatureRule): Promise<boolean> {
  const number = Feature[rule.name];
  const outcome = await ends(
    request(subject, device, PROBE | number),
    [0, ...rule.absent],
    `PROBE of feature ${rule.name} without a direction says whether the device has it`,
  );
  const offered = rule.offered?.(subject.options);
  const wanted = offered === true ? 'has' : 'has not';
  const agree = offered === undefined || offered === (outcome === 0);
  keeps(agree, `PROBE says that the device ${wanted} feature ${rule.name}`, String(outcome));
  return outcome === 0;
}

/** Features in general. */
export const featureCases: readonly CaseSpec[] = [
  {
    name: 'features: argsz below 8 is EINVAL',
    async run(subject) {
      await using device = await subject.open();
      const probe = PROBE | GET | Feature.MIGRATION;
      for (const argsz of [0, deviceFeature.size - 1]) {
        await ends(request(subject, device, probe, 0, argsz), 'EINVAL', `FEATURE refuses argsz ${argsz}`);
      }
    },
  },
  {
    name: 'features: an unknown flag is EINVAL',
    async run(subject) {
      await using device = await subject.open();
      for (const bit of [0x8_0000, 0x8000_0000]) {
        for (const { name } of rules) {
          const flags = (PROBE | bit | Feature[name]) >>> 0;
          await ends(request(subject, device, flags), 'EINVAL', `FEATURE ${name} refuses flag 0x${bit.toString(16)}`);
        }
      }
    },
  },
  {
    name: 'features: GET together with SET is EINVAL, unless it is probed',
    async run(subject) {
      await using device = await subject.open();
      for (const { name } of rules) {
        const promised = `FEATURE ${name} refuses GET together with SET`;
        await ends(request(subject, device, GET | SET | Feature[name], 64), 'EINVAL', promised);
      }
    },
  },
  {
    name: 'features: numbers without a meaning are ENOTTY',
    async run(subject) {
      await using device = await subject.open();
      for (const number of [FIRST_UNKNOWN, 0x7fff, MASK]) {
        for (const flags of [PROBE, PROBE | GET, PROBE | SET, PROBE | GET | SET, GET, SET, 0]) {
          const promised = `feature ${number} with flags 0x${flags.toString(16)} is unknown`;
          await ends(request(subject, device, flags | number, 64), 'ENOTTY', promised);
        }
      }
    },
  },
  {
    name: 'features: PROBE tells the directions of each feature',
    async run(subject) {
      await using device = await subject.open();
      for (const rule of rules) {
        const offered = await has(subject, device, rule);
        for (const [flags, possible] of [
          [GET, rule.get === true],
          [SET, rule.set === true],
          [GET | SET, rule.get === true && rule.set === true],
        ] as const) {
          const expected = !offered ? rule.absent : possible ? 0 : 'EINVAL';
          const promised = `PROBE of feature ${rule.name} with flags 0x${flags.toString(16)}, which the device ${offered ? 'has' : 'has not'}`;
          await ends(request(subject, device, PROBE | flags | Feature[rule.name]), expected, promised);
        }
      }
    },
  },
  {
    name: 'features: using one answers as PROBE did',
    async run(subject) {
      await using device = await subject.open();
      for (const rule of rules) {
        const number = Feature[rule.name];
        if (!(await has(subject, device, rule))) {
          for (const flags of [GET, SET, 0]) {
            const promised = `feature ${rule.name} with flags 0x${flags.toString(16)}, which the device has not`;
            await ends(request(subject, device, flags | number, rule.size), rule.absent, promised);
          }
          continue;
        }
        const promised = `feature ${rule.name}`;
        await ends(request(subject, device, number, rule.size), 'EINVAL', `${promised} with neither GET nor SET`);
        for (const [flag, possible, word] of [
          [GET, rule.get === true, 'GET'],
          [SET, rule.set === true, 'SET'],
        ] as const) {
          if (!possible)
            await ends(request(subject, device, flag | number, rule.size), 'EINVAL', `${promised} has no ${word}`);
          else if (rule.size > 0) {
            const short = request(subject, device, flag | number, rule.size - 1);
            await ends(short, 'EINVAL', `${word} of ${promised} with ${rule.size - 1} of ${rule.size} bytes`);
          }
        }
      }
    },
  },
  {
    name: 'features: data that is not there is EFAULT',
    when: (options) => migrates(options) || logs(options),
    async run(subject) {
      await using device = await subject.open();
      for (const rule of rules) {
        if (rule.offered === undefined || !rule.offered(subject.options)) continue;
        for (const flag of [...(rule.get ? [GET] : []), ...(rule.set ? [SET] : [])]) {
          if (rule.size === 0) continue;
          const argsz = deviceFeature.size + rule.size;
          const promised = `feature ${rule.name} refuses data that ends before its ${rule.size} bytes`;
          await ends(request(subject, device, flag | Feature[rule.name], rule.size - 1, argsz), 'EFAULT', promised);
        }
      }
    },
  },
  {
    name: 'features: MIG_PRECOPY_INFOv2 is for devices with PRE_COPY, until their last close',
    async run(subject) {
      const device = await subject.open();
      const number = Feature.MIG_PRECOPY_INFOv2;
      const copies = (await device.migration.capabilities())?.preCopy === true;
      const expected = copies ? 0 : 'EINVAL';
      const promised = `MIG_PRECOPY_INFOv2 of a device ${copies ? 'with' : 'without'} PRE_COPY`;
      for (const flags of [PROBE, PROBE | SET, SET]) {
        await ends(request(subject, device, flags | number), expected, `${promised}, flags 0x${flags.toString(16)}`);
      }
      await ends(request(subject, device, GET | number, 8), 'EINVAL', `${promised} has no GET`);
      await device.close();
      const left = subject.registered?.precopyInfoV2 === true;
      keeps(!left, 'the second form of pre-copy information lasts until the last close', 'it is still asked for');
    },
  },
];
