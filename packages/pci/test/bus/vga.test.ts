import { describe, expect, it } from 'vitest';
import { BridgeControl, BridgeReg, Command, Reg } from '../../src/bus/regs.js';
import {
  VgaRsrc,
  vgaClientRegister,
  vgaClientUnregister,
  vgaDecodes,
  vgaGet,
  vgaSetLegacyDecoding,
} from '../../src/bus/vga.js';
import { command, LabFunction, labBridge, labEndpoint, labHost } from './service-lab.js';

const code = (value: string) => expect.objectContaining({ code: value });
const display = () => labEndpoint({ classCode: 0x03_0000 });
const legacy = VgaRsrc.LEGACY_IO | VgaRsrc.LEGACY_MEM;

/** As firmware leaves the display that it uses. */
function bootDisplay() {
  const fn = display();
  fn.set(Reg.COMMAND, 2, Command.IO | Command.MEMORY);
  return fn;
}

async function lab() {
  const all = await labHost([
    [0x08, labBridge([[0, display()]])],
    [0x10, labBridge([[0, display()]])],
    [0x18, bootDisplay()],
    [0x20, display()],
    [0x28, new LabFunction()],
  ]);
  const vga = (bridge: number) => all.at(0, bridge).hw.readConfig(BridgeReg.BRIDGE_CONTROL, 2) & BridgeControl.VGA;
  return { ...all, vga };
}

describe('the VGA arbiter', () => {
  it('routes legacy addresses through the bridges of whoever gets them', async () => {
    const { host, at, vga } = await lab();
    await using _ = host;
    const [first, second] = [at(1, 0), at(2, 0)];
    {
      using _lock = await vgaGet(first, legacy);
      expect([vga(0x08), vga(0x10), command(first)]).toEqual([BridgeControl.VGA, 0, Command.IO | Command.MEMORY]);
    }
    using _lock = await vgaGet(second, VgaRsrc.LEGACY_IO);
    expect([vga(0x08), vga(0x10)]).toEqual([0, BridgeControl.VGA]);
  });

  it('takes the command register of those on the same bus', async () => {
    const { host, at } = await lab();
    await using _ = host;
    const [first, second] = [at(0, 0x18), at(0, 0x20)];
    using _lock = await vgaGet(second, VgaRsrc.LEGACY_MEM);
    expect([command(first), command(second)]).toEqual([Command.IO, Command.MEMORY]);
  });

  it('lets others wait while somebody holds them', async () => {
    const { host, at } = await lab();
    await using _ = host;
    const held = await vgaGet(at(0, 0x18), legacy);
    const again = await vgaGet(at(0, 0x18), VgaRsrc.LEGACY_IO);
    let got = false;
    const waiting = vgaGet(at(1, 0), legacy).then((lock) => {
      got = true;
      return lock;
    });
    held[Symbol.dispose]();
    for (let turn = 0; turn < 10; turn++) await Promise.resolve();
    expect(got).toBe(false);
    again[Symbol.dispose]();
    again[Symbol.dispose]();
    (await waiting)[Symbol.dispose]();
  });

  it('leaves those alone who decode nothing that is legacy', async () => {
    const { host, at } = await lab();
    await using _ = host;
    const pdev = at(0, 0x18);
    vgaClientRegister(pdev, () => VgaRsrc.NORMAL_IO | VgaRsrc.NORMAL_MEM);
    expect(vgaDecodes(pdev)).toBe(0xf);
    vgaSetLegacyDecoding(pdev, VgaRsrc.NORMAL_IO | VgaRsrc.NORMAL_MEM);
    expect(vgaDecodes(pdev)).toBe(VgaRsrc.NORMAL_IO | VgaRsrc.NORMAL_MEM);
    using _lock = await vgaGet(at(0, 0x20), legacy);
    expect(command(pdev)).toBe(Command.IO | Command.MEMORY);
    vgaClientUnregister(pdev);
  });

  it('knows VGA functions only', async () => {
    const { host, at } = await lab();
    await using _ = host;
    expect(() => vgaClientRegister(at(0, 0x28), () => 0)).toThrow(code('ENODEV'));
    await expect(vgaGet(at(0, 0x28), legacy)).rejects.toEqual(code('ENODEV'));
    expect(vgaDecodes(at(0, 0x28))).toBeUndefined();
  });
});
