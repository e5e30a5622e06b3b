import { describe, expect, it } from 'vitest';
import { Pasid } from '../../src/bus/ext-cap-regs.js';
import { stopAndRemoveBusDevice } from '../../src/bus/hotplug.js';
import { enablePasid } from '../../src/bus/pasid.js';
import { ExpType, ExtCapId } from '../../src/bus/regs.js';
import { enableSriov } from '../../src/bus/sriov.js';
import { restoreState, saveState } from '../../src/bus/state.js';
import { acsCap, type FakeCap, type FakeOptions } from './fake-function.js';
import { expCap, LabFunction, labEndpoint, labHost, pasidCap, prefixCap, sriovCap } from './service-lab.js';

const code = (value: string) => expect.objectContaining({ code: value });
const none = { max: 0, exec: false, priv: false };

/** A function with 16 PASIDs. */
function tagger(options: FakeOptions = {}): LabFunction {
  return labEndpoint({ caps: [prefixCap(ExpType.ENDPOINT, true)], extCaps: [pasidCap(4, Pasid.PRIV)], ...options });
}

function port(
  behind: LabFunction,
  caps: FakeCap[] = [prefixCap(ExpType.ROOT_PORT)],
  extCaps: FakeCap[] = [acsCap],
): LabFunction {
  const fn = new LabFunction({ classCode: 0x06_0400, pcie: true, caps, extCaps, behind: new Map([[0, behind]]) });
  // Firmware has left room for buses behind it.
  fn.set(0x18, 4, 0x02_0100, 0xff_ffff);
  return fn;
}

const control = (fn: LabFunction) => fn.readConfig(fn.extCap(ExtCapId.PASID) + Pasid.CTRL, 2);

async function pasidsOf(fn: LabFunction, above = port(fn), maxPasids: number | undefined = 64) {
  const { host, at } = await labHost([[0x08, above]], { iommu: true, ...(maxPasids ? { maxPasids } : {}) });
  await using _ = host;
  return [host.iommu.pasidsOf(at(1, 0)), control(fn)];
}

describe('PASIDs of a function', () => {
  it('are the fewer of its own and those of the IOMMU, and switched on with all that it can ask for', async () => {
    const on = Pasid.CTRL_ENABLE | Pasid.PRIV;
    expect(await pasidsOf(tagger())).toEqual([{ max: 16, exec: false, priv: true }, on]);
    const fn = tagger();
    expect(await pasidsOf(fn, port(fn), 8)).toEqual([{ max: 8, exec: false, priv: true }, on]);
    const all = tagger({ extCaps: [pasidCap(20, Pasid.EXEC | Pasid.PRIV)] });
    expect(await pasidsOf(all, port(all), 1 << 20)).toEqual([
      { max: 1 << 20, exec: true, priv: true },
      on | Pasid.EXEC,
    ]);
  });

  it('are none where nobody would understand them', async () => {
    const behind = (...more: [FakeCap[], FakeCap[]?]) => {
      const fn = tagger();
      return pasidsOf(fn, port(fn, ...more));
    };
    const fn = tagger();
    expect(await pasidsOf(fn, port(fn), 0)).toEqual([none, 0]);
    // A port that does not pass prefixes on, one that does not isolate, a function that sends none.
    expect(await behind([expCap(ExpType.ROOT_PORT)])).toEqual([none, 0]);
    expect(await behind([prefixCap(ExpType.ROOT_PORT)], [])).toEqual([none, 0]);
    expect(await pasidsOf(tagger({ caps: [expCap()] }))).toEqual([none, 0]);
    const without = labEndpoint({ caps: [prefixCap()] });
    expect((await pasidsOf(without))[0]).toEqual(none);
  });

  it('are on again after a reset, and off when it is removed', async () => {
    const fn = tagger();
    const { host, at } = await labHost([[0x08, port(fn)]], { iommu: true, maxPasids: 64 });
    await using _ = host;
    const pdev = at(1, 0);
    expect(() => enablePasid(pdev, 0)).toThrow(code('EBUSY'));
    saveState(pdev);
    fn.busReset();
    expect(control(fn)).toBe(0);
    restoreState(pdev);
    expect(control(fn)).toBe(Pasid.CTRL_ENABLE | Pasid.PRIV);
    await stopAndRemoveBusDevice(pdev);
    expect(control(fn)).toBe(0);
  });

  it('are those of its physical function for a virtual one', async () => {
    const fn = tagger({ extCaps: [sriovCap(2, 0x80, 2), pasidCap(4), acsCap] });
    for (let vf = 0; vf < 2; vf++) {
      fn.vfs.push(labEndpoint({ vendor: 0xffff, device: 0xffff, bars: {}, caps: [expCap()], extCaps: [acsCap] }));
    }
    const { host, at, bus } = await labHost([[0x08, port(fn)]], { iommu: true, maxPasids: 64 });
    await using _ = host;
    await enableSriov(at(1, 0), 2);
    const vf = bus.find(0, 1, 0x80)!;
    expect(host.iommu.pasidsOf(vf)).toEqual({ max: 16, exec: false, priv: false });
  });
});
