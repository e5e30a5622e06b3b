import { describe, expect, it } from 'vitest';
import { CapId, Command, devfnOf, Reg } from '../../src/bus/regs.js';
import { bridgeSecondaryBusReset } from '../../src/bus/reset-methods.js';
import { MemoryBar } from '../../src/hardware/bar.js';
import { downstreamPort, pciBridge, rootPort, upstreamPort } from '../../src/hardware/bridge.js';
import { addExpress } from '../../src/hardware/capabilities/express.js';
import { addSriov } from '../../src/hardware/capabilities/sriov.js';
import { Edu, EduReg } from '../../src/hardware/edu.js';
import { EmulatedFunction } from '../../src/hardware/function.js';
import { VirtualFunction } from '../../src/hardware/virtual-function.js';
import { emulated } from './hardware-lab.js';

describe('firmware', () => {
  it('gives every function an address that its bridges pass on', async () => {
    const bridge = rootPort();
    const below = pciBridge();
    bridge.secondary.plug(0, below);
    below.secondary.plug(devfnOf(1, 0), new Edu());
    below.secondary.plug(devfnOf(2, 0), new Edu());
    const { host, at } = await emulated((root) => {
      root.segment.plug(devfnOf(2, 0), new Edu());
      root.segment.plug(devfnOf(8, 0), bridge);
    });
    await using _ = host;
    const found = [at(0, 0x10), at(2, 0x08), at(2, 0x10)];
    const starts = found.map(({ resource }) => resource[0]?.start ?? 0);
    expect(new Set(starts).size).toBe(3);
    for (const pdev of found) {
      expect(pdev.resource[0]?.parent).toBeDefined();
      expect(pdev.hw.readConfig(0x10, 4)).toBe(pdev.resource[0]?.start);
      expect(pdev.hw.readBar(0, EduReg.ID, 4)).toBe(0x0100_00ed);
      // By its address, as DMA of another function would.
      const bytes = new Uint8Array(4);
      await host.memory.read(pdev.resource[0]?.start ?? 0, bytes);
      expect([...bytes]).toEqual([0xed, 0, 0, 1]);
    }
    expect(host.log.entries.filter(({ level }) => level === 'err' || level === 'warn')).toEqual([]);
  });

  it('numbers switches, and leaves numbers for virtual functions', async () => {
    const port = rootPort();
    const upstream = upstreamPort();
    const downstream = [downstreamPort(), downstreamPort()];
    port.secondary.plug(0, upstream);
    for (const [index, each] of downstream.entries()) upstream.secondary.plug(devfnOf(index, 0), each);
    const pf = new EmulatedFunction({ vendor: 0x8086, device: 0x10c9, classCode: 0x02_0000, extended: true });
    addExpress(pf, { type: 0, flr: true });
    const makeVf = () => new VirtualFunction(pf, { classCode: 0x02_0000, extended: true });
    addSriov(pf, { totalVfs: 200, offset: 0x80, stride: 1, vfDevice: 0x10ca, bars: { 0: { size: 0x1000 } }, makeVf });
    downstream[0]?.secondary.plug(0, pf);
    downstream[1]?.secondary.plug(0, new Edu());
    const { host, at } = await emulated((root) => root.segment.plug(devfnOf(1, 0), port));
    await using _ = host;
    expect(at(3, 0).deviceId).toBe(0x10c9);
    expect(at(5, 0).deviceId).toBe(0x11e8);
    expect(at(2, 0).hw.readConfig(0x18, 4) & 0xff_ffff).toBe(0x04_0302);
    expect(at(3, 0).resource[7]?.size).toBe(200 * 0x1000);
    expect(at(3, 0).resource[7]?.parent).toBeDefined();
  });

  it('puts what is too large for 32 bits above, and leaves out what fits nowhere', async () => {
    const large = (wide: boolean, bytes: number) => {
      const fn = new EmulatedFunction({ vendor: 1, device: 2, classCode: 0xff_0000 });
      fn.addBar(0, { size: bytes, space: 'memory', wide, prefetch: wide }, new MemoryBar(64));
      return fn;
    };
    const fitting = large(true, 2 ** 33);
    const { host } = await emulated((root) => {
      root.segment.plug(devfnOf(1, 0), fitting);
      root.segment.plug(devfnOf(2, 0), large(true, 2 ** 50));
    });
    await using _ = host;
    expect(fitting.readConfig(0x14, 4)).toBeGreaterThanOrEqual(0x80);
    expect(fitting.readConfig(Reg.COMMAND, 2) & Command.MEMORY).toBe(Command.MEMORY);
  });

  it('resets what is behind a bridge when the bridge is told to', async () => {
    const bridge = rootPort();
    const edu = new Edu();
    bridge.secondary.plug(0, edu);
    const { host, at } = await emulated((root) => root.segment.plug(devfnOf(1, 0), bridge));
    await using _ = host;
    edu.writeBar(0, EduReg.LIVENESS, 4, 5);
    expect(edu.readConfig(0x10, 4)).not.toBe(0);
    await bridgeSecondaryBusReset(at(0, 0x08));
    expect([edu.readConfig(0x10, 4), edu.readConfig(Reg.COMMAND, 2)]).toEqual([0, 0]);
    expect(bridge.capabilities.find(CapId.EXP)).not.toBe(0);
    expect(at(1, 0).resource[0]?.size).toBe(0x10_0000);
  });
});
