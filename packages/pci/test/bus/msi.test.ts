import type { IrqLine } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { checkAndMaskIntx, checkAndUnmaskIntx, intx, intxMaskSupported } from '../../src/bus/intx.js';
import {
  allocIrqVectors,
  freeIrqVectors,
  irqVector,
  msixAllocIrqAt,
  msixCanAllocDyn,
  restoreMsiMessage,
  vectorCount,
} from '../../src/bus/msi.js';
import { PowerState } from '../../src/bus/power-state.js';
import { Command, Msi, Msix, Reg, Status } from '../../src/bus/regs.js';
import { tryResetFunction } from '../../src/bus/reset.js';
import { command, decode, expCap, labEndpoint, labHost, msiCap, msixCap } from './service-lab.js';

const code = (value: string) => expect.objectContaining({ code: value });

async function msiLab(log2: number, iommu = true) {
  const fn = labEndpoint({ caps: [expCap(0, true), msiCap(log2)] });
  const lab = await labHost([[0x10, fn]], { iommu });
  const pdev = lab.at(0, 0x10);
  const word = (register: number) => pdev.hw.readConfig(pdev.msiCap + register, 2);
  const dword = (register: number) => pdev.hw.readConfig(pdev.msiCap + register, 4);
  return { ...lab, fn, pdev, word, dword };
}

async function msixLab(entries: number) {
  const fn = labEndpoint({ caps: [expCap(0, true), msixCap(entries, 0)] });
  const lab = await labHost([[0x10, fn]], { iommu: true });
  const pdev = lab.at(0, 0x10);
  decode(pdev);
  const entry = (index: number, field: number) => pdev.hw.readBar(0, index * Msix.ENTRY_SIZE + field, 4);
  const flags = () => pdev.hw.readConfig(pdev.msixCap + Msix.FLAGS, 2);
  return { ...lab, fn, pdev, entry, flags };
}

const quiet = (line: IrqLine | undefined) => line?.request('test', () => 'handled');

describe('the pin', () => {
  it('is masked only while it is asserted, and unmasked only while it is not', async () => {
    const { host, fn, pdev } = await msiLab(0);
    await using _ = host;
    expect(intxMaskSupported(pdev)).toBe(true);
    expect(checkAndMaskIntx(pdev)).toBe(false);
    expect(command(pdev)).toBe(0);
    fn.set(Reg.STATUS, 2, Status.INTERRUPT | Status.CAP_LIST);
    expect(checkAndMaskIntx(pdev)).toBe(true);
    expect(command(pdev)).toBe(Command.INTX_DISABLE);
    expect(checkAndUnmaskIntx(pdev)).toBe(false);
    fn.set(Reg.STATUS, 2, Status.CAP_LIST);
    expect(checkAndUnmaskIntx(pdev)).toBe(true);
    expect(command(pdev)).toBe(0);
    intx(pdev, false);
    expect(command(pdev)).toBe(Command.INTX_DISABLE);
    intx(pdev, true);
    expect(command(pdev)).toBe(0);
  });
});

describe('MSI', () => {
  it('gets one message for a block of a power of two, and takes the pin out of use', async () => {
    const { host, pdev, word, dword } = await msiLab(3);
    await using _ = host;
    expect(vectorCount(pdev, 'msi')).toBe(8);
    const pin = pdev.irq;
    expect(allocIrqVectors(pdev, 1, 3, 'msi')).toBe(3);
    expect(word(Msi.FLAGS) & (Msi.FLAGS_ENABLE | Msi.FLAGS_QSIZE)).toBe(Msi.FLAGS_ENABLE | (2 << 4));
    expect(command(pdev) & Command.INTX_DISABLE).not.toBe(0);
    const address = BigInt(dword(Msi.ADDRESS_LO));
    const data = word(Msi.DATA_64);
    expect(data % 4).toBe(0);
    const irqs = [0, 1, 2].map((index) => irqVector(pdev, index)?.irq);
    expect(new Set(irqs).size).toBe(3);
    expect([irqVector(pdev, 3), pdev.irq]).toEqual([undefined, irqs[0]]);
    const line = irqVector(pdev, 2);
    const action = quiet(line);
    host.irq.deliver({ address, data: data + 2 });
    expect(line?.count).toBe(1);
    if (action) line?.free(action);
    freeIrqVectors(pdev);
    expect(word(Msi.FLAGS) & Msi.FLAGS_ENABLE).toBe(0);
    expect([command(pdev) & Command.INTX_DISABLE, pdev.irq, pdev.msi]).toEqual([0, pin, undefined]);
  });

  it('is masked, vector by vector, as long as nobody listens', async () => {
    const { host, pdev, dword } = await msiLab(2);
    await using _ = host;
    allocIrqVectors(pdev, 4, 4, 'msi');
    expect(dword(Msi.MASK_64)).toBe(0xf);
    const line = irqVector(pdev, 1);
    const action = quiet(line);
    expect(dword(Msi.MASK_64)).toBe(0xd);
    if (action) line?.free(action);
    expect(dword(Msi.MASK_64)).toBe(0xf);
    freeIrqVectors(pdev);
  });

  it('has one vector where messages are not remapped', async () => {
    const { host, pdev } = await msiLab(3, false);
    await using _ = host;
    expect(() => allocIrqVectors(pdev, 2, 4, 'msi')).toThrow(code('ENOSPC'));
    expect(pdev.msi).toBeUndefined();
    expect(allocIrqVectors(pdev, 1, 4, 'msi')).toBe(1);
    freeIrqVectors(pdev);
  });

  it('refuses what can not be', async () => {
    const { host, pdev } = await msiLab(1);
    await using _ = host;
    expect(() => allocIrqVectors(pdev, 1, 0, 'msi')).toThrow(code('ERANGE'));
    expect(() => allocIrqVectors(pdev, 3, 2, 'msi')).toThrow(code('ERANGE'));
    expect(() => allocIrqVectors(pdev, 3, 4, 'msi')).toThrow(code('ENOSPC'));
    expect(() => allocIrqVectors(pdev, 1, 1, 'msix')).toThrow(code('EINVAL'));
    pdev.noMsi = true;
    expect(() => allocIrqVectors(pdev, 1, 1, 'msi')).toThrow(code('EINVAL'));
    pdev.noMsi = false;
    pdev.currentState = PowerState.D3hot;
    expect(() => allocIrqVectors(pdev, 1, 1, 'msi')).toThrow(code('EINVAL'));
    pdev.currentState = PowerState.D0;
    allocIrqVectors(pdev, 1, 1, 'msi');
    expect(() => allocIrqVectors(pdev, 1, 1, 'msi')).toThrow(code('EINVAL'));
    freeIrqVectors(pdev);
    freeIrqVectors(pdev);
  });

  it('is as before when one of its steps fails', async () => {
    const { host, pdev, word } = await msiLab(2);
    await using _ = host;
    const free = host.irq.freeVectors;
    using recording = host.faults.record();
    allocIrqVectors(pdev, 4, 4, 'msi');
    recording.stop();
    freeIrqVectors(pdev);
    expect(recording.steps.length).toBeGreaterThan(4);
    for (let step = 0; step < recording.steps.length; step++) {
      using _arm = host.faults.failAt(step);
      expect(() => allocIrqVectors(pdev, 4, 4, 'msi')).toThrow(/fault injected/);
      expect([pdev.msi, word(Msi.FLAGS) & Msi.FLAGS_ENABLE, host.irq.freeVectors]).toEqual([undefined, 0, free]);
    }
  });

  it('survives a reset', async () => {
    const { host, pdev, word, dword } = await msiLab(2);
    await using _ = host;
    allocIrqVectors(pdev, 4, 4, 'msi');
    const line = irqVector(pdev, 3);
    const action = quiet(line);
    const before = [word(Msi.FLAGS), dword(Msi.ADDRESS_LO), word(Msi.DATA_64), dword(Msi.MASK_64), command(pdev)];
    await tryResetFunction(pdev);
    expect([word(Msi.FLAGS), dword(Msi.ADDRESS_LO), word(Msi.DATA_64), dword(Msi.MASK_64), command(pdev)]).toEqual(
      before,
    );
    if (action) line?.free(action);
    freeIrqVectors(pdev);
  });
});

describe('MSI-X', () => {
  it('fills the table, with entries masked that nobody listens to', async () => {
    const { host, pdev, entry, flags } = await msixLab(4);
    await using _ = host;
    expect([vectorCount(pdev, 'msix'), msixCanAllocDyn(pdev)]).toEqual([4, true]);
    expect(allocIrqVectors(pdev, 1, 2, 'msix')).toBe(2);
    expect(flags() & (Msix.FLAGS_ENABLE | Msix.FLAGS_MASKALL)).toBe(Msix.FLAGS_ENABLE);
    expect([0, 1, 2, 3].map((index) => entry(index, Msix.ENTRY_VECTOR_CTRL))).toEqual([1, 1, 1, 1]);
    const line = irqVector(pdev, 1);
    const action = quiet(line);
    expect([0, 1].map((index) => entry(index, Msix.ENTRY_VECTOR_CTRL))).toEqual([1, 0]);
    host.irq.deliver({ address: BigInt(entry(1, Msix.ENTRY_LOWER_ADDR)), data: entry(1, Msix.ENTRY_DATA) });
    expect(line?.count).toBe(1);
    if (action) line?.free(action);
    freeIrqVectors(pdev);
    expect([flags() & Msix.FLAGS_ENABLE, entry(1, Msix.ENTRY_VECTOR_CTRL)]).toEqual([0, 1]);
  });

  it('takes single vectors later, each once', async () => {
    const { host, pdev, entry } = await msixLab(4);
    await using _ = host;
    expect(() => msixAllocIrqAt(pdev, 3)).toThrow(code('EINVAL'));
    allocIrqVectors(pdev, 1, 1, 'msix');
    const line = msixAllocIrqAt(pdev, 3);
    expect([irqVector(pdev, 3), irqVector(pdev, 2)]).toEqual([line, undefined]);
    expect(entry(3, Msix.ENTRY_LOWER_ADDR)).not.toBe(0);
    expect(() => msixAllocIrqAt(pdev, 3)).toThrow(code('EBUSY'));
    expect(() => msixAllocIrqAt(pdev, 4)).toThrow(code('EINVAL'));
    freeIrqVectors(pdev);
  });

  it('writes a message again that somebody has overwritten', async () => {
    const { host, pdev, entry } = await msixLab(2);
    await using _ = host;
    allocIrqVectors(pdev, 2, 2, 'msix');
    const data = entry(1, Msix.ENTRY_DATA);
    pdev.hw.writeBar(0, Msix.ENTRY_SIZE + Msix.ENTRY_DATA, 4, 0xdead);
    restoreMsiMessage(pdev, 1);
    expect(entry(1, Msix.ENTRY_DATA)).toBe(data);
    expect(entry(1, Msix.ENTRY_VECTOR_CTRL)).toBe(1);
    restoreMsiMessage(pdev, 7);
    freeIrqVectors(pdev);
  });

  it('survives a reset, masks included', async () => {
    const { host, fn, pdev, entry, flags } = await msixLab(2);
    await using _ = host;
    allocIrqVectors(pdev, 2, 2, 'msix');
    const line = irqVector(pdev, 0);
    const action = quiet(line);
    const all = () => [0, 4, 8, 12, 16, 20, 24, 28].map((offset) => entry(0, offset));
    const before = [flags(), ...all()];
    pdev.specificReset = () => {
      fn.memory.get(0)?.fill(0);
      pdev.hw.writeConfig(pdev.msixCap + Msix.FLAGS, 2, 0);
    };
    pdev.resetMethods = ['device_specific'];
    await tryResetFunction(pdev);
    expect([flags(), ...all()]).toEqual(before);
    if (action) line?.free(action);
    freeIrqVectors(pdev);
  });

  it('is off again when one of its steps fails', async () => {
    const { host, pdev, flags } = await msixLab(3);
    await using _ = host;
    const free = host.irq.freeVectors;
    using recording = host.faults.record();
    allocIrqVectors(pdev, 3, 3, 'msix');
    recording.stop();
    freeIrqVectors(pdev);
    expect(recording.steps.length).toBeGreaterThan(3);
    for (let step = 0; step < recording.steps.length; step++) {
      using arm = host.faults.failAt(step);
      expect(() => allocIrqVectors(pdev, 3, 3, 'msix')).toThrow(/fault injected/);
      expect(arm.fired).toBe(true);
      expect([pdev.msi, flags() & (Msix.FLAGS_ENABLE | Msix.FLAGS_MASKALL), host.irq.freeVectors]).toEqual([
        undefined,
        0,
        free,
      ]);
    }
  });
});
