import { describe, expect, it } from 'vitest';
import { userReadConfig } from '../../src/bus/config.js';
import { enableDevice } from '../../src/bus/enable.js';
import { setPowerState } from '../../src/bus/power.js';
import { PowerState } from '../../src/bus/power-state.js';
import { Command, Exp, ExpType, Reg } from '../../src/bus/regs.js';
import {
  devTrylock,
  probeResetBus,
  probeResetSlot,
  resetBus,
  resetFunction,
  tryResetFunction,
} from '../../src/bus/reset.js';
import { resetFunctionLocked } from '../../src/bus/reset-methods.js';
import { createSlot, destroySlot, SLOT_ALL_DEVICES } from '../../src/bus/slots.js';
import {
  afCap,
  command,
  decode,
  expCap,
  LabFunction,
  labBridge,
  labDriver,
  labEndpoint,
  labHost,
  pmCap,
} from './service-lab.js';

const code = (value: string) => expect.objectContaining({ code: value });

describe('reset methods', () => {
  it('are found in their order, bus only for who comes first to a bus behind a bridge', async () => {
    const multi = () => labEndpoint({ multifunction: true, caps: [expCap()] });
    const { host, at } = await labHost([
      [0x08, labBridge([[0, labEndpoint()]])],
      [
        0x10,
        labBridge([
          [0, multi()],
          [1, multi()],
        ]),
      ],
      [0x18, labEndpoint()],
      [0x20, new LabFunction({ caps: [afCap, pmCap({ keeps: true })] })],
    ]);
    await using _ = host;
    expect(at(1, 0).resetMethods).toEqual(['flr', 'pm', 'bus']);
    expect(at(2, 0).resetMethods).toEqual(['bus']);
    expect(at(2, 1).resetMethods).toEqual([]);
    expect(at(0, 0x18).resetMethods).toEqual(['flr', 'pm']);
    expect(at(0, 0x20).resetMethods).toEqual(['af_flr']);
  });

  it('begin with what only the function knows', async () => {
    const { host, at } = await labHost([[0x08, labBridge([[0, labEndpoint()]])]]);
    await using _ = host;
    const pdev = at(1, 0);
    let done = 0;
    pdev.specificReset = (_pdev, probe) => {
      if (!probe) done++;
    };
    pdev.resetMethods = ['device_specific', 'flr'];
    await resetFunctionLocked(pdev);
    expect(done).toBe(1);
    expect((pdev.hw as LabFunction).kinds).toEqual([]);
  });
});

describe('tryResetFunction', () => {
  it('keeps the state, and is in between what the driver is told', async () => {
    const card = labEndpoint();
    const { host, bus, at } = await labHost([[0x08, labBridge([[0, card]])]]);
    await using _ = host;
    const told: string[] = [];
    await labDriver(bus, {
      errHandler: {
        resetPrepare: (pdev) => void told.push(`prepare ${command(pdev)}`),
        resetDone: (pdev) => void told.push(`done ${command(pdev)}`),
      },
    });
    const pdev = at(1, 0);
    await enableDevice(pdev);
    decode(pdev, Command.MASTER);
    const bar = pdev.hw.readConfig(Reg.BASE_ADDRESS_0, 4);
    expect(bar).not.toBe(0);
    await tryResetFunction(pdev);
    expect(card.kinds).toEqual(['flr']);
    expect(told).toEqual(['prepare 6', 'done 6']);
    expect(pdev.hw.readConfig(Reg.BASE_ADDRESS_0, 4)).toBe(bar);
    expect(pdev.stateSaved).toBe(false);
  });

  it('quiesces the function before: only the disable bit of the pin is set', async () => {
    const card = labEndpoint();
    const { host, at } = await labHost([[0x08, labBridge([[0, card]])]]);
    await using _ = host;
    const pdev = at(1, 0);
    decode(pdev, Command.MEMORY | Command.MASTER);
    let seen = -1;
    pdev.specificReset = () => {
      seen = command(pdev);
    };
    pdev.resetMethods = ['device_specific'];
    await tryResetFunction(pdev);
    expect(seen).toBe(Command.INTX_DISABLE);
    expect(command(pdev)).toBe(Command.MEMORY | Command.MASTER);
  });

  it('says ENOTTY where there is no method, before it takes a lock', async () => {
    const { host, at } = await labHost([[0x10, new LabFunction()]]);
    await using _ = host;
    using held = devTrylock(at(0, 0x10));
    expect(held).toBeDefined();
    await expect(tryResetFunction(at(0, 0x10))).rejects.toEqual(code('ENOTTY'));
    await expect(resetFunction(at(0, 0x10))).rejects.toEqual(code('ENOTTY'));
  });

  it('says EAGAIN while somebody holds the function or the bridge above, and leaves no lock behind', async () => {
    const { host, at } = await labHost([[0x08, labBridge([[0, labEndpoint()]])]]);
    await using _ = host;
    const [bridge, pdev] = [at(0, 0x08), at(1, 0)];
    for (const other of [bridge, pdev]) {
      const held = await other.lock.lock();
      await expect(tryResetFunction(pdev)).rejects.toEqual(code('EAGAIN'));
      held.release();
      expect([bridge.lock.locked, pdev.lock.locked, pdev.cfgBlocked]).toEqual([false, false, undefined]);
    }
    await tryResetFunction(pdev);
  });

  it('goes on with the next method when one says ENOTTY, and stops with any other failure', async () => {
    const card = labEndpoint();
    const { host, at } = await labHost([[0x10, card]]);
    await using _ = host;
    const pdev = at(0, 0x10);
    pdev.resetMethods = ['bus', 'pm'];
    await tryResetFunction(pdev);
    expect(card.kinds).toEqual(['pm']);
    await setPowerState(pdev, PowerState.D3hot);
    // Not in D0, the way to D3hot and back resets nothing.
    await expect(resetFunctionLocked(pdev)).rejects.toEqual(code('EINVAL'));
  });

  it('wakes a function that sleeps', async () => {
    const card = labEndpoint();
    const { host, at } = await labHost([[0x10, card]]);
    await using _ = host;
    const pdev = at(0, 0x10);
    await setPowerState(pdev, PowerState.D3hot);
    await tryResetFunction(pdev);
    expect(pdev.currentState).toBe(PowerState.D0);
    expect(card.kinds).toEqual(['pm', 'flr']);
  });

  it('keeps users out of config space until it is done', async () => {
    const { host, at } = await labHost([[0x10, labEndpoint()]]);
    await using _ = host;
    const pdev = at(0, 0x10);
    let finish = () => {};
    pdev.specificReset = async (_pdev, probe) => {
      if (!probe) {
        await new Promise<void>((resolve) => {
          finish = resolve;
        });
      }
    };
    pdev.resetMethods = ['device_specific'];
    decode(pdev);
    const reset = tryResetFunction(pdev);
    let value = -1;
    const reading = userReadConfig(pdev, Reg.COMMAND, 2).then((read) => {
      value = read;
    });
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    expect([value, command(pdev)]).toEqual([-1, Command.INTX_DISABLE]);
    finish();
    await Promise.all([reset, reading]);
    expect(value).toBe(Command.MEMORY);
  });
});

describe('resetBus', () => {
  it('resets everything behind the bridge, with all states kept and all drivers told', async () => {
    const cards = [labEndpoint({ multifunction: true }), labEndpoint({ multifunction: true })];
    const inner = labEndpoint();
    const lower = labBridge([[0, inner]], ExpType.PCI_BRIDGE);
    const behind: [number, LabFunction][] = [
      [0, cards[0] ?? labEndpoint()],
      [1, cards[1] ?? labEndpoint()],
      [2, lower],
    ];
    const { host, bus, at } = await labHost([[0x08, labBridge(behind)]]);
    await using _ = host;
    const told: string[] = [];
    await labDriver(bus, {
      errHandler: {
        resetPrepare: (pdev) => void told.push(`prepare ${pdev.name}`),
        resetDone: (pdev) => void told.push(`done ${pdev.name}`),
      },
    });
    const all = [at(1, 0), at(1, 1), at(2, 0)];
    for (const pdev of all) await enableDevice(pdev);
    const numbers = at(1, 2).hw.readConfig(0x18, 4);
    await resetBus(at(1, 1));
    expect([...cards, lower, inner].map((card) => card.kinds)).toEqual([['bus'], ['bus'], ['bus'], ['bus']]);
    expect(all.map(command)).toEqual([2, 2, 2]);
    expect(at(1, 2).hw.readConfig(0x18, 4)).toBe(numbers);
    const names = all.map(({ name }) => name);
    expect(told).toEqual([...names.map((name) => `prepare ${name}`), ...names.map((name) => `done ${name}`)]);
  });

  it('says EAGAIN while one lock is held, ENOTTY on the root bus', async () => {
    const cards: [number, LabFunction][] = [
      [0, labEndpoint({ multifunction: true })],
      [1, labEndpoint()],
    ];
    const { host, at } = await labHost([
      [0x08, labBridge(cards)],
      [0x18, labEndpoint()],
    ]);
    await using _ = host;
    for (const other of [at(0, 0x08), at(1, 0), at(1, 1)]) {
      const held = await other.lock.lock();
      await expect(resetBus(at(1, 0))).rejects.toEqual(code('EAGAIN'));
      held.release();
    }
    expect([at(0, 0x08), at(1, 0), at(1, 1)].map(({ lock }) => lock.locked)).toEqual([false, false, false]);
    expect(cards.flatMap(([, card]) => card.kinds)).toEqual([]);
    await expect(resetBus(at(0, 0x18))).rejects.toEqual(code('ENOTTY'));
    expect([probeResetBus(at(0, 0x18).pciBus), probeResetBus(at(1, 0).pciBus)]).toEqual([false, true]);
  });

  it('prefers the slot, if its hotplug driver can', async () => {
    const { host, at } = await labHost([[0x08, labBridge([[0, labEndpoint()]])]]);
    await using _ = host;
    const pdev = at(1, 0);
    let resets = 0;
    const slot = createSlot(pdev.pciBus, 0, '7', {
      resetSlot: (probe) => {
        if (!probe) resets++;
      },
    });
    expect(probeResetSlot(pdev.slot)).toBe(true);
    await resetBus(pdev);
    expect([resets, (pdev.hw as LabFunction).kinds]).toEqual([1, []]);
    destroySlot(slot);
    expect(probeResetSlot(pdev.slot)).toBe(false);
  });

  it('a slot may have all functions of its bus, whatever their numbers', async () => {
    const { host, at } = await labHost([
      [
        0x08,
        labBridge(
          [
            [0x00, new LabFunction()],
            [0x80, new LabFunction()],
          ],
          ExpType.PCI_BRIDGE,
        ),
      ],
    ]);
    await using _ = host;
    const { pciBus } = at(1, 0x80);
    const slot = createSlot(pciBus, SLOT_ALL_DEVICES, '8', { resetSlot: () => {} });
    expect(pciBus.devices.map((pdev) => pdev.slot === slot)).toEqual([true, true]);
    expect(await host.init.readFile('/sys/bus/pci/slots/8/address')).toBe('0000:01:00\n');
    destroySlot(slot);
  });

  it('tells when a fast link does not come up again', async () => {
    const linked = (active: boolean) => {
      const exp = expCap(ExpType.ROOT_PORT);
      const bytes = [...exp.bytes];
      bytes[Exp.LNKCAP] = 0x10; // in front of its registers a capability has two bytes
      bytes[Exp.LNKCAP2 - 2] = 0x1e;
      bytes[Exp.LNKSTA - 1] = active ? 0x20 : 0;
      return { ...exp, bytes };
    };
    const port = (active: boolean, card: LabFunction) => {
      const options = { classCode: 0x06_0400, pcie: true, caps: [linked(active)], behind: new Map([[0, card]]) };
      return new LabFunction(options);
    };
    const cards = [labEndpoint(), labEndpoint(), labEndpoint({ caps: [expCap(ExpType.ENDPOINT)] })];
    const { host, at } = await labHost([
      [0x08, port(true, cards[0]!)],
      [0x10, port(false, cards[1]!)],
      [0x18, port(false, cards[2]!)],
    ]);
    await using _ = host;
    await resetBus(at(1, 0));
    await expect(resetBus(at(2, 0))).rejects.toEqual(code('ENOTTY'));
    // Nobody waits for a function without power management.
    await resetBus(at(3, 0));
    expect(cards.map(({ kinds }) => kinds)).toEqual([['bus'], ['bus'], ['bus']]);
  });
});

describe('the files reset and reset_method', () => {
  it('reset with the methods that an administrator has chosen', async () => {
    const card = labEndpoint();
    const { host, at } = await labHost([
      [0x08, labBridge([[0, card]])],
      [0x10, new LabFunction()],
    ]);
    await using _ = host;
    const { sysfs } = at(1, 0);
    const read = async (name: string) => await host.init.readFile(`${sysfs.path()}/${name}`);
    const write = async (name: string, text: string) => await host.init.writeFile(`${sysfs.path()}/${name}`, text);
    expect(await read('reset_method')).toBe('flr pm bus\n');
    await write('reset_method', 'bus flr');
    await write('reset', '1');
    expect(card.kinds).toEqual(['bus']);
    await expect(write('reset_method', 'flr af_flr')).rejects.toEqual(code('EINVAL'));
    await expect(write('reset_method', 'nonsense')).rejects.toEqual(code('EINVAL'));
    await expect(write('reset', '2')).rejects.toEqual(code('EINVAL'));
    expect(await read('reset_method')).toBe('bus flr\n');
    await write('reset_method', 'pm '.repeat(7));
    await expect(write('reset_method', 'pm '.repeat(8))).rejects.toEqual(code('EINVAL'));
    await write('reset_method', '\n');
    expect(await read('reset_method')).toBe('');
    await expect(write('reset', '99999999999999999999')).rejects.toEqual(code('EINVAL'));
    await expect(write('reset', '1')).rejects.toEqual(code('ENOTTY'));
    await write('reset_method', 'default');
    expect(await read('reset_method')).toBe('flr pm bus\n');
    const names = at(0, 0x10).sysfs;
    expect([names.lookup('reset'), names.lookup('reset_method')]).toEqual([undefined, undefined]);
    expect(await read('power_state')).toBe('D0\n');
  });
});
