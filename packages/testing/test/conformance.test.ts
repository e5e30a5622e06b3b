import { DeviceInfoFlag, Vfio } from '@vfio/core';
import { Host } from '@vfio/host';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { createLab, type LabOptions } from '../../client/test/lab.js';
import { ModelDevice } from '../../client/test/model-device.js';
import {
  ConformanceError,
  type ConformanceTarget,
  conformanceCases,
  type DriverConformance,
  testDriver,
} from '../src/index.js';
import { type Mutant, mutants } from './conformance-mutants.js';

async function target(options: LabOptions = {}): Promise<ConformanceTarget> {
  const lab = await createLab({ iommufd: true, ...options });
  return { machine: lab, address: 'model0', unbind: () => lab.unbind() };
}

const model = {
  regions: 4,
  irqs: 3,
  flags: DeviceInfoFlag.PCI | DeviceInfoFlag.RESET,
  regionSizes: { 0: 0x3000, 2: 100 },
  irqCounts: { 0: 1, 1: 4 },
  migration: 7,
  dmaLogging: true,
  cdev: true,
  create: () => target(),
} satisfies DriverConformance;

const runner = { describe, it };
testDriver({ ...model, name: 'a device that keeps all promises', runner });

/** What is told of a driver; nothing, where it is undefined. */
type Told = Omit<Partial<DriverConformance>, 'flags'> & { readonly flags?: number | undefined };

/** Other devices, and the cases whose course depends on what is different about them. */
const variants: readonly (readonly [string, RegExp, LabOptions, Told])[] = [
  ['without migration', /^features/, { migration: 0 }, { migration: false }],
  ['that can only stop and copy', /^(features|migration)/, { migration: 1 }, { migration: 1 }],
  ['that copies ahead and has no P2P', /^(features|migration)/, { migration: 5 }, { migration: 5 }],
  ['without an IOMMU', /^(info|(lifetime|cdev): (?!a failure))/, { emulated: true }, {}],
  ['of which little is told', /^(info|reset|migration)/, {}, { flags: undefined, migration: true }],
  ['with fewer vectors than it says', /^set irqs/, { vectors: 2 }, {}],
  ['of a kernel without IOVA bitmaps', /^dma logging/, { iovaBitmap: false }, {}],
  ['on a big-endian machine', /^(?!lifetime|cdev: a failure)/, { host: { byteOrder: 'big' } }, {}],
];
for (const [name, which, lab, options] of variants) {
  describe(`a device ${name} keeps all promises`, () => {
    const { flags, ...told } = { ...model, ...options };
    const known = flags === undefined ? told : { ...told, flags };
    const cases = conformanceCases({ ...known, create: () => target(lab) });
    for (const { name, run } of cases.filter((one) => which.test(one.name))) it(name, run);
  });
}

describe('every case', () => {
  afterEach(() => {
    vi.restoreAllMocks();
  });

  const cases = conformanceCases(model);
  const broken = async ({ lab = {}, hasty }: Mutant): Promise<ConformanceTarget> => {
    const made = await target(lab);
    if (!hasty) return made;
    const unbind = async () => {
      void made.unbind();
    };
    return { ...made, unbind };
  };

  it('has a mutant', () => {
    expect(Object.keys(mutants).sort()).toEqual(cases.map(({ name }) => name).sort());
  });

  it.each(cases.map(({ name }) => name))(
    'fails where its promise is broken: %s',
    async (name) => {
      const mutant = mutants[name]!;
      mutant.patch?.();
      const options = { ...model, create: () => broken(mutant) };
      const failing = conformanceCases(options).find((one) => one.name === name);
      await expect(failing?.run()).rejects.toThrow(ConformanceError);
    },
    30_000,
  );

  it('says what was promised and what was found', async () => {
    mutants['irqs: an index past the last is EINVAL']!.patch?.();
    const failing = conformanceCases(model).find(({ name }) => name === 'irqs: an index past the last is EINVAL');
    await expect(failing?.run()).rejects.toThrow('GET_IRQ_INFO refuses index 3 of 3: EINVAL. Found: 0');
  });
});

describe('what is left after a case', () => {
  const reset = (options: Partial<DriverConformance>) =>
    conformanceCases({ ...model, ...options })
      .find(({ name }) => name.startsWith('reset:'))
      ?.run();

  it('fails it when it was not there before', async () => {
    class Leaky extends ModelDevice {
      override async closeDevice(): Promise<void> {
        await super.closeDevice();
        this.host.tracker.track('pin', () => 'a page');
      }
    }
    await expect(reset({ create: () => target({ Model: Leaky }) })).rejects.toThrow(
      'Nothing is left behind. Found: pin a page',
    );
  });

  it('fails it when the end of the machine finds it', async () => {
    class Leaky extends ModelDevice {
      override init(): void {
        super.init();
        this.host.tracker.track('memory', () => 'a table');
      }
    }
    await expect(reset({ create: () => target({ Model: Leaky }) })).rejects.toThrow(
      /A machine that is shut down gives everything back\. Found: .*memory: a table/s,
    );
  });

  it('is a warning of the kernel too', async () => {
    class Warns extends ModelDevice {
      override openDevice(): void {
        this.host.log.warnOn(true, 'so it goes');
      }
    }
    await expect(reset({ create: () => target({ Model: Warns }) })).rejects.toThrow(
      'The kernel warns of nothing. Found: so it goes',
    );
  });

  it('is the death of a task that nobody waits for', async () => {
    class Dies extends ModelDevice {
      override openDevice(): void {
        this.host.clock.setTimer(0, () => {});
        this.host.log.oops(new Error('a work item'), 'work');
      }
    }
    const run = reset({ create: () => target({ Model: Dies }) });
    await expect(run).rejects.toThrow(
      expect.objectContaining({ cause: expect.objectContaining({ message: 'a work item' }) }),
    );
  });

  it('does not hide what the case found', async () => {
    class Leaky extends ModelDevice {
      override openDevice(): void {
        this.host.tracker.track('memory', () => 'a table');
      }
    }
    await expect(reset({ regions: 4, reset: false, create: () => target({ Model: Leaky }) })).rejects.toThrow(
      'RESET of a device that can not be reset: EINVAL or ENOTTY. Found: 0',
    );
  });
});

describe('exceptions', () => {
  const name = 'regions: nothing is read past the end';
  const run = (create: () => Promise<ConformanceTarget>) =>
    conformanceCases({ ...model, create, exceptions: { [name]: 'the kernel does so too' } })
      .find((one) => one.name === name)
      ?.run();

  it('excuse a driver that does not keep the promise', async () => {
    await run(() => target(mutants[name]!.lab));
  });

  it('are not for drivers that keep it', async () => {
    await expect(run(() => target())).rejects.toThrow(
      `The driver keeps '${name}' after all: take the exception out (the kernel does so too)`,
    );
  });

  it('excuse no bug', async () => {
    class Buggy extends ModelDevice {
      override read(): never {
        throw new TypeError('a bug');
      }
    }
    await expect(run(() => target({ Model: Buggy }))).rejects.toThrow(new TypeError('a bug'));
  });

  it('are of cases that there are', () => {
    expect(() => conformanceCases({ ...model, exceptions: { 'regions: x': 'y' } })).toThrow(
      /^no case is named 'regions: x': the names are 'info: argsz below 16 is EINVAL', /,
    );
    const migrationOnly = { 'migration: its flags are what they should be': 'x' };
    expect(() => conformanceCases({ ...model, migration: false, exceptions: migrationOnly })).toThrow(TypeError);
  });
});

describe('a driver package', () => {
  it('gets the cases for what its devices have', () => {
    const names = (options: Partial<DriverConformance>) =>
      new Set(conformanceCases({ ...model, ...options }).map(({ name }) => name.split(':')[0]));
    expect([...names({})]).toEqual([
      'info',
      'regions',
      'irqs',
      'set irqs',
      'requests',
      'features',
      'reset',
      'migration',
      'dma logging',
      'lifetime',
      'cdev',
    ]);
    expect(names({ migration: false }).has('migration')).toBe(false);
    expect(names({ dmaLogging: false }).has('dma logging')).toBe(false);
    expect(names({ irqs: 0 }).has('set irqs')).toBe(false);
    expect(names({ cdev: false }).has('cdev')).toBe(false);
  });

  it('may use any runner with describe and it', async () => {
    const registered: string[] = [];
    const timeouts: (number | undefined)[] = [];
    testDriver({
      ...model,
      runner: {
        describe: (name, body) => {
          registered.push(name);
          body();
        },
        it: (name, _run, timeoutMs) => {
          registered.push(name);
          timeouts.push(timeoutMs);
        },
      },
    });
    expect(registered).toEqual(['VFIO conformance', ...conformanceCases(model).map(({ name }) => name)]);
    expect(timeouts.filter((timeout) => timeout !== undefined)).toEqual([60_000, 120_000, 120_000, 120_000, 120_000]);
  });

  it('finds the globals of its runner, or is told what to do', () => {
    expect(() => testDriver(model)).toThrow('give it { runner: { describe, it } }');
    const describeGlobal = vi.fn((_: string, body: () => void) => body());
    const itGlobal = vi.fn();
    vi.stubGlobal('describe', describeGlobal);
    vi.stubGlobal('it', itGlobal);
    try {
      testDriver({ ...model, name: 'by globals' });
    } finally {
      vi.unstubAllGlobals();
    }
    expect(describeGlobal).toHaveBeenCalledWith('by globals', expect.any(Function));
    expect(itGlobal).toHaveBeenCalledTimes(conformanceCases(model).length);
  });

  it('has to make checked machines: nothing else knows of leaks', async () => {
    const create = () => target({ host: { checked: false } });
    const [first] = conformanceCases({ ...model, create });
    await expect(first?.run()).rejects.toThrow('create() has to make a checked host');
  });

  it('may open its devices in a way of its own, on a plain host', async () => {
    const create = async (): Promise<ConformanceTarget> => {
      const { host, vfio, client: _, ...lab } = await createLab();
      return {
        machine: { host, vfio },
        address: 'model0',
        open: (client) => client.openDevice('model0', { iommu: 'type1' }),
        unbind: () => lab.unbind(),
      };
    };
    for (const { run } of conformanceCases({ ...model, create }).slice(0, 2)) await run();
  });

  it('hears of a device that can not be opened at all', async () => {
    const host = new Host({ checked: true });
    const vfio = new Vfio(host);
    const create = () => ({ machine: { host, vfio }, address: 'nobody', unbind: async () => {} });
    const [first] = conformanceCases({ ...model, create });
    await expect(first?.run()).rejects.toThrow(expect.objectContaining({ code: 'ENODEV' }));
  });
});
