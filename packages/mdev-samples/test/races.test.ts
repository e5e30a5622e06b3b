/* What happens at the same time, in every order; and what is left when a step fails. */
import { isSystemError } from '@vfio/host';
import { explore, forEachFault } from '@vfio/testing';
import { describe, expect, it } from 'vitest';
import { Lab, OTHER_UUID, UUID } from './lab.js';

/** Runs something that may be refused with one of these. */
async function unless(codes: readonly string[], fn: () => Promise<unknown>): Promise<boolean> {
  try {
    await fn();
    return true;
  } catch (error) {
    if (isSystemError(error) && codes.includes(error.code)) return false;
    throw error;
  }
}

describe('every order', { timeout: 60_000 }, () => {
  it('of two creates of one UUID makes one device', async () => {
    const report = await explore({ preemptions: 1, maxRuns: 300 }, async (seams) => {
      const lab = await Lab.create({ host: seams });
      const made: boolean[] = [];
      return {
        tasks: {
          one: async () => made.push(await unless(['EEXIST'], () => lab.create(UUID, 'mtty-1'))),
          two: async () => made.push(await unless(['EEXIST'], () => lab.create(UUID, 'mtty-2'))),
        },
        async check() {
          expect(made.sort()).toEqual([false, true]);
          expect(lab.names('/sys/bus/mdev/devices')).toEqual([UUID]);
          await lab[Symbol.asyncDispose]();
        },
      };
    });
    expect(report.runs).toBeGreaterThan(1);
  });

  it('H04 of creates that do not fit together never takes the pool below zero', async () => {
    await explore({ preemptions: 1, maxRuns: 300 }, async (seams) => {
      const lab = await Lab.create({ host: seams });
      for (let n = 0; n < 11; n++) await lab.create(`83b8f4f2-509f-382f-3c1e-${String(n).padStart(12, '0')}`, 'mtty-2');
      await lab.create('83b8f4f2-509f-382f-3c1e-0000000000ff', 'mtty-1');
      const made: boolean[] = [];
      const create = (uuid: string) => async () =>
        made.push(await unless(['ENOSPC'], () => lab.create(uuid, 'mtty-1')));
      return {
        tasks: { one: create(UUID), two: create(OTHER_UUID) },
        async check() {
          expect(made.sort()).toEqual([false, true]);
          expect(await lab.available()).toEqual([0, 0]);
          await lab[Symbol.asyncDispose]();
        },
      };
    });
  });

  it('of a create, a remove and the end of the module leaves nothing and blocks nobody', async () => {
    const report = await explore({ preemptions: 2, maxRuns: 60, seed: 7 }, async (seams) => {
      const lab = await Lab.create({ host: seams });
      await lab.create(UUID);
      const gone = ['ENODEV', 'ENOENT', 'EAGAIN'];
      return {
        tasks: {
          create: () => unless(gone, () => lab.create(OTHER_UUID)),
          remove: () => unless(gone, () => lab.remove(UUID)),
          unload: () => lab.host.modules.rmmod('mtty'),
        },
        async check() {
          expect(lab.names('/sys/bus/mdev/devices')).toEqual([]);
          expect(lab.names('/sys/class/mdev_bus')).toEqual([]);
          await lab[Symbol.asyncDispose]();
        },
      };
    });
    expect(report.runs).toBe(60);
  });

  it('of a remove and a close ends with both', async () => {
    await explore({ preemptions: 1, maxRuns: 100 }, async (seams) => {
      const lab = await Lab.create({ host: seams });
      const card = await lab.card('mtty-2');
      return {
        tasks: { remove: () => lab.remove(), close: () => card.process.close(card.fd) },
        async check() {
          expect(await lab.available()).toEqual([24, 12]);
          await lab[Symbol.asyncDispose]();
        },
      };
    });
  });

  it('of a change of state, a reset and a close ends in a state that a walk can start from', async () => {
    await explore({ preemptions: 2, maxRuns: 300 }, async (seams) => {
      const lab = await Lab.create({ host: seams });
      const card = await lab.card();
      const second = await card.again();
      return {
        tasks: {
          change: () => card.setState(3),
          reset: () => card.ioctl(0x3b6f),
          close: () => card.process.close(second),
        },
        async check() {
          const { deviceState } = await card.state();
          expect([2, 3]).toContain(deviceState); // RUNNING or STOP_COPY
          await card.ioctl(0x3b6f);
          const fd = await card.setState(3);
          expect(await card.readStream(fd, 100)).toHaveLength(60);
          await lab[Symbol.asyncDispose]();
        },
      };
    });
  });
});

describe('every step fails once', { timeout: 60_000 }, () => {
  it('of the life of the module', async () => {
    const { steps } = await forEachFault({
      prepare: async () => {
        const lab = await Lab.create();
        await lab.host.modules.rmmod('mtty');
        await lab.host.modules.rmmod('mdev');
        return lab;
      },
      scenario: async (lab) => {
        await lab.host.modules.modprobe('mtty');
        await lab.host.modules.rmmod('mtty');
        await lab.host.modules.rmmod('mdev');
      },
      check: async (lab) => {
        await unless(['ENOENT'], () => lab.host.modules.rmmod('mtty'));
        await unless(['ENOENT'], () => lab.host.modules.rmmod('mdev'));
        expect(lab.names('/sys/class')).not.toContain('mtty');
        expect(await lab.root.readFile('/proc/devices')).not.toContain('mtty');
        await lab.host.modules.modprobe('mtty');
        expect(await lab.available()).toEqual([24, 12]);
        await lab.host.modules.rmmod('mtty');
        await lab.host.modules.rmmod('mdev');
      },
    });
    expect(steps.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['__register_chrdev_region:major', 'cdev_add:probe', 'bus_add_driver:private']),
    );
  });

  it('of the life of a card that migrates', async () => {
    const { steps } = await forEachFault({
      prepare: async () => {
        const lab = await Lab.create();
        const program = lab.host.spawn({ comm: 'program' });
        return { host: lab.host, lab, program, [Symbol.asyncDispose]: () => lab[Symbol.asyncDispose]() };
      },
      scenario: async ({ lab, program }) => {
        await lab.create();
        try {
          const card = await lab.open(UUID, program);
          await card.info();
          await card.connect(1, card.eventfd());
          const stream = await card.readStream(await card.setState(3), 100);
          await card.writeStream(await card.setState(4), stream);
          await card.setState(2);
        } finally {
          await program.exit();
          await lab.remove();
        }
      },
      check: async ({ lab }) => {
        expect(await lab.available()).toEqual([24, 12]);
      },
    });
    expect(steps.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['mtty_init_dev:vconfig', 'mtty_save_device_data:file', 'mtty_resume_device_data:file']),
    );
  });
});
