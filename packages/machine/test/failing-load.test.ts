// A machine that does not come up leaves nothing behind, whichever step failed.

import { SectionError, VfioError } from '@vfio/core';
import { type FaultStep, type Host, isSystemError } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { Machine, type MachineFile } from '../src/index.js';
import { Folder, modelPackage } from './lab.js';

const file: MachineFile = {
  version: 1,
  host: {
    devices: [
      { path: 'soc/dma', iommuGroup: 'dma' },
      { path: 'soc/timer', iommuGroup: 'dma' },
    ],
  },
  modules: ['vfio_iommu_type1'],
  model: { devices: [{ name: 'model0' }] },
};

/** Entries of sysfs come in hundreds, most of them within one step of the driver model: some of them will do. */
function tried(step: FaultStep | undefined, index: number): boolean {
  return !step?.name.startsWith('sysfs_create_') || index % 8 === 0;
}

describe('a load that fails', () => {
  it('leaves nothing behind, whichever step of the kernel it is', async () => {
    let steps: readonly FaultStep[] = [];
    for (let failAt = -1; failAt < steps.length; failAt++) {
      if (!tried(steps[failAt], failAt)) continue;
      let host: Host | undefined;
      let failed: () => string | undefined = () => undefined;
      let recorded: readonly FaultStep[] = [];
      const driver = modelPackage({
        onDefine: (context) => {
          host = context.host;
          recorded = host.faults.record().steps;
          if (failAt < 0) return;
          const arm = host.faults.failAt(failAt);
          failed = () => arm.step;
        },
      });
      const result: unknown = await Machine.load(file, { drivers: [driver], checked: true }).catch(
        (error: unknown) => error,
      );
      if (failAt < 0) steps = recorded;
      const step = steps[failAt];
      expect(failed(), 'the same steps each time').toBe(step?.name);
      // a failing probe is no failing load: the device is there without a driver, as on a real machine
      if (result instanceof Machine) expect(await result.shutdown(), step?.name).toEqual([]);
      else expect(isSystemError(result, step?.code), `${step?.name}: ${String(result)}`).toBe(true);
      expect([host?.tracker.leaks(), host?.log.oopses, host?.log.warnings()], step?.name).toEqual([[], [], []]);
    }
    expect(steps.length).toBeGreaterThan(40);
  }, 60_000);

  it('has the error of the package that could not build, unchanged', async () => {
    const error = new VfioError('ENOSPC', 'no ports left');
    const driver = {
      ...modelPackage(),
      build: async () => {
        throw error;
      },
    };
    await expect(Machine.load(file, { drivers: [driver], checked: true })).rejects.toBe(error);
  });

  it('tells where a section makes no sense', async () => {
    using folder = new Folder();
    const path = folder.write('lab.yaml', 'version: 1\nmodel:\n  devices:\n    - { name: model7 }\n');
    const driver = {
      ...modelPackage(),
      powerOn: async () => {
        throw new SectionError(['devices', 0, 'name'], "there is no slot for 'model7': use model0");
      },
    };
    await expect(Machine.load(path, { drivers: [driver], checked: true })).rejects.toThrow(
      expect.objectContaining({
        name: 'MachineFileError',
        message: `${path}:4:9: model.devices[0].name: there is no slot for 'model7': use model0`,
        cause: expect.objectContaining({ name: 'SectionError' }),
      }),
    );
  });

  it('says what was left as well, when it is checked', async () => {
    const load = (checked: boolean) => {
      const driver = modelPackage();
      const build: typeof driver.build = async ({ host }) => {
        host.tracker.track('memory', () => 'a table');
        throw new VfioError('EIO', 'the card is dead');
      };
      return Machine.load({ version: 1, model: {} }, { drivers: [{ ...driver, build }], checked });
    };
    const error = await load(true).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(AggregateError);
    expect(error).toMatchObject({
      message: expect.stringMatching(/^EIO: the card is dead; and then: leak: 1 not given back/),
    });
    await expect(load(false)).rejects.toThrow(expect.objectContaining({ code: 'EIO' }));
  });

  it('is told of a package whose define throws', async () => {
    let host: Host | undefined;
    const driver = modelPackage({
      onDefine: (context) => {
        host = context.host;
        context.host.modules.define({ name: 'model', init: () => {} });
      },
    });
    await expect(Machine.load(file, { drivers: [driver], checked: true })).rejects.toThrow(
      'module model is defined twice',
    );
    expect(() => host?.init.readdir('/')).toThrow('ESRCH');
  });
});
