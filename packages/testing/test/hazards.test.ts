// Hazards whose set-up is a race: each in every order of events, or as many as fit. The others are tested where they belong.

import {
  allocDevice,
  getDevice,
  MigrationFlag,
  MigState,
  putDevice,
  putRegistration,
  registerGroupDev,
  tryGetRegistration,
  unregisterGroupDev,
  VfioDevice,
  type VirqfdSlot,
  Virqfds,
} from '@vfio/core';
import { Host, isSystemError, O, type Uevent } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { ExplorationError, type ExplorerSeams, explore } from '../src/explorer.js';
import { HazardLab, SlowDevice } from './hazard-lab.js';

/** Runs something that may be refused with one of these; whether it was not. */
async function unless(codes: readonly string[], run: () => Promise<unknown>): Promise<boolean> {
  try {
    await run();
    return true;
  } catch (error) {
    if (isSystemError(error) && codes.includes(error.code)) return false;
    throw error;
  }
}

describe('unregister', { timeout: 60_000 }, () => {
  /** Events for a device that is being unregistered; each order of them adds how they ended to `outcomes`. */
  function race(events: number, outcomes: Set<string>) {
    return async (seams: ExplorerSeams) => {
      const lab = await HazardLab.create(seams);
      const device = getDevice(await allocDevice(lab.vfio, SlowDevice, await lab.addParent('dev0'), undefined));
      await registerGroupDev(device);
      let complete = false;
      const ended: string[] = [];
      const event = async () => {
        const got = tryGetRegistration(device);
        ended.push(got ? 'delivered' : 'dropped');
        if (!got) return;
        expect(complete, 'a reference after the end').toBe(false);
        await seams.scheduler.switchPoint('delivery');
        expect(complete, 'the end while somebody has a reference').toBe(false);
        putRegistration(device);
      };
      const unregister = async () => {
        await unregisterGroupDev(device);
        complete = true;
        await putDevice(device);
      };
      const users = Array.from({ length: events }, (_, at) => [`event ${at}`, event] as const);
      return {
        tasks: { unregister, ...Object.fromEntries(users) },
        async check() {
          outcomes.add(ended.sort().join());
          expect([complete, tryGetRegistration(device), device.record?.registration.value]).toEqual([true, false, 0]);
          await putDevice(device);
          await lab[Symbol.asyncDispose]();
        },
      };
    };
  }

  it('H12 waits for a reference that was had in time, and none is to be had after, in every order', async () => {
    const outcomes = new Set<string>();
    const report = await explore({ maxRuns: 20_000 }, race(1, outcomes));
    expect(report.complete).toBe(true);
    expect([...outcomes].sort()).toEqual(['delivered', 'dropped']);
  });

  it('H12 and H13: of two events each is delivered before the end, or dropped, in every order', async () => {
    const outcomes = new Set<string>();
    const report = await explore({ maxRuns: 20_000 }, race(2, outcomes));
    expect(report.complete).toBe(true);
    expect([...outcomes].sort()).toEqual(['delivered,delivered', 'delivered,dropped', 'dropped,dropped']);
  });
});

describe('a group', { timeout: 60_000 }, () => {
  /** The last device of a group leaves while another one is probed in it. */
  function race(outcomes: Set<string>) {
    return async (seams: ExplorerSeams) => {
      const lab = await HazardLab.create(seams);
      const iommuGroup = lab.host.iommu.allocGroup('shared');
      const first = await allocDevice(lab.vfio, SlowDevice, await lab.addParent('left', iommuGroup), undefined);
      const second = await allocDevice(lab.vfio, SlowDevice, await lab.addParent('right', iommuGroup), undefined);
      await registerGroupDev(first);
      const name = `${iommuGroup.id}`;
      const seen: string[] = [];
      const node = ({ action, subsystem, devpath }: Uevent) => {
        if (subsystem !== 'vfio') return;
        seen.push(action);
        const nodes = lab.names('/dev/vfio').filter((entry) => entry === name);
        expect([devpath.endsWith(`/${name}`), nodes.length]).toEqual([true, action === 'add' ? 1 : 0]);
      };
      const watch = lab.host.uevents.subscribe(node);
      return {
        tasks: { leave: () => unregisterGroupDev(first), probe: () => registerGroupDev(second) },
        async check() {
          await putDevice(first);
          outcomes.add(seen.join());
          watch[Symbol.dispose]();
          expect(lab.vfio.groups.map((group) => [group.name, group.drivers, group.devices])).toEqual([
            [name, 1, [second]],
          ]);
          expect(lab.names('/dev/vfio')).toEqual([name, 'vfio']);
          const { group } = await lab.openGroup(`/dev/vfio/${name}`);
          await lab.process.close(await lab.getDeviceFd(group, 'right'));
          await lab.process.close(group);
          await lab.remove(second);
          expect(lab.names('/dev/vfio')).toEqual(['vfio']);
          iommuGroup.put();
          await lab[Symbol.asyncDispose]();
        },
      };
    };
  }

  it('H23 that ends takes its node away before one of that name is added, in every order', async () => {
    const outcomes = new Set<string>();
    const report = await explore({ maxRuns: 20_000 }, race(outcomes));
    expect(report.complete).toBe(true);
    expect([...outcomes].sort()).toEqual(['', 'remove,add']);
  });
});

describe('first open and last close', { timeout: 60_000 }, () => {
  it('H02 alternate, whoever opens and closes while others do, in every order', async () => {
    const report = await explore({ maxRuns: 20_000 }, async (seams) => {
      const lab = await HazardLab.create(seams);
      const device = await allocDevice(lab.vfio, SlowDevice, await lab.addParent('dev0'), undefined);
      await registerGroupDev(device);
      const { group } = await lab.openGroup('/dev/vfio/0');
      const user = async () => {
        const fd = await lab.getDeviceFd(group, 'dev0');
        expect(device.journal.at(-1)).toBe('open');
        await lab.process.close(fd);
      };
      return {
        tasks: { one: user, two: user },
        async check() {
          const { journal } = device;
          expect(journal).toEqual(journal.map((_, at) => (at % 2 === 0 ? 'open' : 'close')));
          expect([journal.at(-1), device.openCount]).toEqual(['close', 0]);
          await lab.process.exit(0);
          await lab.remove(device);
          await lab[Symbol.asyncDispose]();
        },
      };
    });
    expect(report.complete).toBe(true);
  });
});

describe('a probe', { timeout: 60_000 }, () => {
  /** A user opens what is being probed, as soon as the node of its group appears. */
  function race(order: 'registers last' | 'registers in the middle') {
    /** What a driver has to set up before anybody comes. */
    class Built extends VfioDevice {
      parts: readonly string[] | undefined;

      override openDevice(): void {
        if (!this.parts) throw new TypeError('opened before it was complete');
        expect([this.state, this.group?.devices]).toEqual(['registered', [this]]);
      }
    }
    return async (seams: ExplorerSeams) => {
      const lab = await HazardLab.create(seams);
      const device = await allocDevice(lab.vfio, Built, await lab.addParent('dev0'), undefined);
      const appeared = new Promise<string>((resolve) => {
        lab.host.uevents.subscribe(({ action, subsystem, env }) => {
          if (action === 'add' && subsystem === 'vfio') resolve(`/dev/${env.DEVNAME}`);
        });
      });
      const build = async () => {
        await seams.scheduler.switchPoint('build');
        device.parts = ['irqs', 'regions'];
      };
      let group = -1;
      let opened = false;
      return {
        tasks: {
          async probe() {
            if (order === 'registers last') await build();
            await registerGroupDev(device);
            if (order === 'registers in the middle') await build();
          },
          async user() {
            ({ group } = await lab.openGroup(await appeared));
            opened = await unless(['ENODEV'], () => lab.getDeviceFd(group, 'dev0'));
          },
        },
        async check() {
          if (!opened) await lab.process.close(await lab.getDeviceFd(group, 'dev0'));
          await lab.process.exit(0);
          await lab.remove(device);
          await lab[Symbol.asyncDispose]();
        },
      };
    };
  }

  it('H09 that registers last is complete for whoever opens the device at once, in every order', async () => {
    const report = await explore({ maxRuns: 20_000 }, race('registers last'));
    expect(report.complete).toBe(true);
  });

  it('H09 that registers in the middle is found out', async () => {
    await expect(explore({ maxRuns: 20_000 }, race('registers in the middle'))).rejects.toSatisfy(
      (error) => error instanceof ExplorationError && error.message.includes('opened before it was complete'),
    );
  });
});

describe('debugfs', { timeout: 60_000 }, () => {
  it('H43 takes its files away before the device, and waits for who reads them, in every order', async () => {
    const outcomes = new Set<string>();
    const report = await explore({ maxRuns: 20_000 }, async (seams) => {
      const lab = await HazardLab.create(seams);
      /** One that takes its time to tell its state, and has to be there until it did. */
      class Migrates extends VfioDevice {
        override migrationFlags = MigrationFlag.STOP_COPY;
        override migOps = {
          getState: async () => {
            await seams.scheduler.switchPoint('hardware');
            expect(lab.names('/sys/class/vfio-dev')).toEqual(['vfio0']);
            expect(this.state).toBe('registered');
            return MigState.RUNNING;
          },
          setState: () => undefined,
          getDataSize: () => 0n,
        };
      }
      const device = await allocDevice(lab.vfio, Migrates, await lab.addParent('dev0'), undefined);
      await registerGroupDev(device);
      let outcome = 'gone before it was opened';
      return {
        tasks: {
          async read() {
            const path = '/sys/kernel/debug/vfio/dev0/migration/state';
            await unless(['ENOENT'], async () => {
              const fd = await lab.process.open(path, O.RDONLY);
              await seams.scheduler.switchPoint('read');
              const bytes = new Uint8Array(16);
              const read = async () => expect(await lab.process.read(fd, bytes)).toBe('RUNNING\n'.length);
              outcome = (await unless(['ENODEV', 'EIO'], read)) ? 'read' : 'gone before it was read';
              await lab.process.close(fd);
            });
          },
          unregister: () => lab.remove(device),
        },
        async check() {
          outcomes.add(outcome);
          expect(lab.names('/sys/kernel/debug/vfio')).toEqual([]);
          await lab[Symbol.asyncDispose]();
        },
      };
    });
    expect(report.complete).toBe(true);
    expect([...outcomes].sort()).toEqual(['gone before it was opened', 'gone before it was read', 'read']);
  });
});

describe('an eventfd that a driver listens to', { timeout: 60_000 }, () => {
  it('H42 is let go of once, when it is closed while disable and its thread run, in every order', async () => {
    const report = await explore({ maxRuns: 20_000 }, (seams) => {
      const host = new Host({ checked: true, ...seams });
      const process = host.spawn({ comm: 'user' });
      const virqfds = new Virqfds(host);
      const slot: VirqfdSlot = {};
      const fd = process.eventfd();
      let disabled = false;
      virqfds.enable(process, fd, slot, {
        thread: async () => {
          expect(disabled, 'the thread runs after disable').toBe(false);
          await seams.scheduler.switchPoint('thread');
          expect(disabled, 'disable did not wait for the thread').toBe(false);
        },
      });
      return {
        tasks: {
          async user() {
            await process.write(fd, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
            await seams.scheduler.switchPoint('close');
            await process.close(fd);
          },
          async driver() {
            await virqfds.disable(slot);
            disabled = true;
          },
        },
        async check() {
          expect([slot.virqfd, host.tracker.count('eventfd'), host.log.oopses]).toEqual([undefined, 0, []]);
          await virqfds.destroy();
          await process.exit(0);
          await host[Symbol.asyncDispose]();
        },
      };
    });
    expect(report.complete).toBe(true);
  });
});
