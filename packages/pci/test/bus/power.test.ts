import { type Host, SystemError } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { enableDevice } from '../../src/bus/enable.js';
import { stopAndRemoveBusDevice } from '../../src/bus/hotplug.js';
import { setPowerState } from '../../src/bus/power.js';
import { PowerState } from '../../src/bus/power-state.js';
import { CapId, Command, Exp, ExpType, ExtCapId, Pm, Reg } from '../../src/bus/regs.js';
import { loadSavedState, restoreState, saveState, storeSavedState } from '../../src/bus/state.js';
import type { FakeCap } from './fake-function.js';
import { command, decode, expCap, LabFunction, labDriver, labEndpoint, labHost, pmCap } from './service-lab.js';

const code = (value: string) => expect.objectContaining({ code: value });

async function single(fn: LabFunction) {
  const lab = await labHost([[0x10, fn]]);
  return { ...lab, pdev: lab.at(0, 0x10) };
}

describe('setPowerState', () => {
  it('writes the state, down in any order, up to D0 only', async () => {
    const { host, pdev } = await single(labEndpoint({ caps: [pmCap({ d1: true })] }));
    await using _ = host;
    const control = () => pdev.hw.readConfig(pdev.pmCap + Pm.CTRL, 2) & Pm.CTRL_STATE_MASK;
    await setPowerState(pdev, PowerState.D1);
    expect([pdev.currentState, control()]).toEqual([PowerState.D1, 1]);
    await setPowerState(pdev, PowerState.D3hot);
    expect([pdev.currentState, control()]).toEqual([PowerState.D3hot, 3]);
    await expect(setPowerState(pdev, PowerState.D1)).rejects.toEqual(code('EINVAL'));
    await setPowerState(pdev, PowerState.D0);
    expect([pdev.currentState, control()]).toEqual([PowerState.D0, 0]);
  });

  it('refuses states that the function does not have', async () => {
    const { host, pdev } = await single(labEndpoint());
    await using _ = host;
    await expect(setPowerState(pdev, PowerState.D2)).rejects.toEqual(code('EIO'));
    await expect(setPowerState(pdev, PowerState.D3cold)).rejects.toEqual(code('EIO'));
    expect(pdev.currentState).toBe(PowerState.D3hot);
  });

  it('leaves a function without power management in D0', async () => {
    const { host, pdev } = await single(new LabFunction());
    await using _ = host;
    await expect(setPowerState(pdev, PowerState.D3hot)).rejects.toEqual(code('EIO'));
    pdev.currentState = 'unknown';
    await setPowerState(pdev, PowerState.D0);
    expect(pdev.currentState).toBe(PowerState.D0);
  });

  it('gives BARs their addresses again that D3hot has lost', async () => {
    const { host, pdev } = await single(labEndpoint());
    await using _ = host;
    const bar = pdev.hw.readConfig(Reg.BASE_ADDRESS_0, 4);
    await setPowerState(pdev, PowerState.D3hot);
    await setPowerState(pdev, PowerState.D0);
    expect((pdev.hw as LabFunction).kinds).toEqual(['pm']);
    expect(pdev.hw.readConfig(Reg.BASE_ADDRESS_0, 4)).toBe(bar);
  });
});

describe('saved state', () => {
  it('is the header and what software sets in capabilities, written once', async () => {
    const err = {
      id: ExtCapId.ERR,
      bytes: new Array<number>(0x40).fill(0),
      writable: new Array<number>(0x40).fill(0xff),
    };
    const fn = labEndpoint({ extCaps: [err] });
    const { host, pdev } = await single(fn);
    await using _ = host;
    decode(pdev, Command.MEMORY | Command.MASTER);
    pdev.hw.writeConfig(Reg.INTERRUPT_LINE, 1, 0x2a);
    pdev.hw.writeConfig(pdev.pcieCap + Exp.DEVCTL, 2, 0x2810);
    pdev.hw.writeConfig(0x108, 4, 0x1234);
    saveState(pdev);
    fn.busReset();
    expect(command(pdev)).toBe(0);
    restoreState(pdev);
    expect(command(pdev)).toBe(Command.MEMORY | Command.MASTER);
    expect(pdev.hw.readConfig(Reg.INTERRUPT_LINE, 1)).toBe(0x2a);
    expect(pdev.hw.readConfig(pdev.pcieCap + Exp.DEVCTL, 2)).toBe(0x2810);
    expect(pdev.hw.readConfig(0x108, 4)).toBe(0x1234);
    fn.busReset();
    restoreState(pdev);
    expect(command(pdev)).toBe(0);
  });

  it('can be kept beside, in several copies', async () => {
    const fn = labEndpoint();
    const { host, pdev } = await single(fn);
    await using _ = host;
    expect(storeSavedState(pdev)).toBeUndefined();
    saveState(pdev);
    const quiet = storeSavedState(pdev);
    decode(pdev);
    saveState(pdev);
    const decoding = storeSavedState(pdev);
    loadSavedState(pdev, quiet);
    restoreState(pdev);
    expect(command(pdev)).toBe(0);
    loadSavedState(pdev, decoding);
    restoreState(pdev);
    expect(command(pdev)).toBe(Command.MEMORY);
    loadSavedState(pdev, undefined);
    expect([pdev.stateSaved, storeSavedState(pdev)]).toEqual([false, undefined]);
  });

  it('of another kind of function is refused', async () => {
    const { host, at } = await labHost([
      [0x10, labEndpoint()],
      [0x18, labEndpoint({ caps: [pmCap(), expCap()] })],
    ]);
    await using _ = host;
    saveState(at(0, 0x10));
    const foreign = storeSavedState(at(0, 0x10));
    expect(() => loadSavedState(at(0, 0x18), foreign)).toThrow(code('EINVAL'));
    expect(at(0, 0x18).stateSaved).toBe(false);
  });
});

describe('runtime power management of a function', () => {
  it('is on until a driver and an administrator let go', async () => {
    const { host, bus, pdev } = await single(labEndpoint());
    await using _ = host;
    expect([pdev.pm.usageCount, pdev.pm.allowed]).toEqual([1, false]);
    const driver = await labDriver(bus);
    expect(pdev.pm.usageCount).toBe(2);
    await pdev.pm.allow();
    await pdev.pm.put();
    expect([pdev.pm.status, pdev.currentState]).toEqual(['suspended', PowerState.D3hot]);
    await pdev.pm.resumeAndGet();
    expect([pdev.pm.status, pdev.currentState]).toEqual(['active', PowerState.D0]);
    await pdev.pm.forbid();
    await host.devices.driverUnregister(driver);
    expect([pdev.pm.usageCount, pdev.pm.status]).toEqual([1, 'active']);
  });

  it('keeps the state of a function that forgets it on the way to D3hot and back', async () => {
    const { host, bus, pdev } = await single(labEndpoint());
    await using _ = host;
    await labDriver(bus);
    await enableDevice(pdev);
    await pdev.pm.allow();
    await pdev.pm.put();
    await pdev.pm.resumeAndGet();
    expect((pdev.hw as LabFunction).kinds).toEqual(['pm']);
    expect(command(pdev)).toBe(Command.MEMORY);
  });

  it('asks the driver, who may refuse', async () => {
    const { host, bus, pdev } = await single(labEndpoint());
    await using _ = host;
    await labDriver(bus);
    const calls: string[] = [];
    let busy = true;
    pdev.runtimeOps = {
      suspend: () => {
        calls.push('suspend');
        if (busy) throw new SystemError('EBUSY', 'in use');
      },
      resume: () => void calls.push(`resume in ${pdev.currentState}`),
    };
    await pdev.pm.allow();
    await pdev.pm.put();
    expect([pdev.pm.status, pdev.currentState]).toEqual(['active', PowerState.D0]);
    busy = false;
    await pdev.pm.suspend();
    await pdev.pm.resumeAndGet();
    expect(calls).toEqual(['suspend', 'suspend', 'resume in 0']);
  });

  it('is gone with the probe that failed', async () => {
    const { host, bus, pdev } = await single(labEndpoint());
    await using _ = host;
    await labDriver(bus, {
      probe: () => {
        throw new SystemError('EINVAL', 'no');
      },
    });
    expect([pdev.driver, pdev.pm.usageCount]).toEqual([undefined, 1]);
  });

  it('is what the files below power/ show and change', async () => {
    const { host, pdev } = await single(labEndpoint());
    await using _ = host;
    const path = (name: string) => `${pdev.sysfs.path()}/power/${name}`;
    expect(await host.init.readFile(path('control'))).toBe('on\n');
    expect(await host.init.readFile(path('runtime_status'))).toBe('active\n');
    await host.init.writeFile(path('control'), 'auto');
    // Without a driver it is not put to sleep; only its state is kept.
    expect(await host.init.readFile(path('runtime_status'))).toBe('suspended\n');
    expect(pdev.currentState).toBe(PowerState.D0);
    await host.init.writeFile(path('control'), 'on');
    expect(await host.init.readFile(path('runtime_status'))).toBe('active\n');
  });
});

describe('wakeup', () => {
  /** Power management that signals events in D3hot; what is pending is cleared by writing ones. */
  const pme: FakeCap = { id: CapId.PM, bytes: [0x02, 0x40, 0, 0x81, 0, 0], writable: [0, 0, 0x03, 0x81, 0, 0] };
  const names = (host: Host, path: string) => host.init.readdir(path).map(({ name }) => name);

  it('is possible for functions with PME, which begin without', async () => {
    const fn = labEndpoint({ caps: [expCap(ExpType.ENDPOINT), pme] });
    const { host, pdev } = await single(fn);
    await using _ = host;
    const path = pdev.sysfs.path();
    expect(fn.readConfig(fn.cap(CapId.PM) + Pm.CTRL, 2) & Pm.CTRL_PME_ENABLE).toBe(0);
    expect(names(host, path)).not.toContain('wakeup');
    expect(await host.init.readFile(`${path}/power/wakeup`)).toBe('disabled\n');
    await host.init.writeFile(`${path}/power/wakeup`, 'enabled');
    expect(names(host, `${path}/wakeup`)).toHaveLength(1);
    await stopAndRemoveBusDevice(pdev);
    expect(names(host, '/sys/class/wakeup')).toEqual([]);
  });

  it('is nothing that a function without PME knows of', async () => {
    const { host, pdev } = await single(labEndpoint());
    await using _ = host;
    expect(names(host, `${pdev.sysfs.path()}/power`).filter((name) => name.startsWith('wakeup'))).toEqual([]);
  });
});
