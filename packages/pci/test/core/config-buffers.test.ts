/*
 * Buffers of other devices over BARs, while the user writes to config space: they are taken back whenever the function stops
 * answering, and given again when it answers.
 */
import { deviceFeatureDmaBuf, Feature, FeatureFlag, regionDmaRange } from '@vfio/core';
import { type DmaBufAttachment, DmaBufFile, O } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { Af, CapId, Command, Exp, ExpType, Pm, Reg } from '../../src/bus/regs.js';
import { afCap, expCap, pmCap } from '../bus/service-lab.js';
import { ConfigLab } from './config-lab.js';
import { errno } from './core-lab.js';

/** A buffer over the first page of BAR 0, with somebody who uses it. */
class Buffer {
  readonly attachment: DmaBufAttachment;
  /** How often its user was told: when it is taken back, and when it is given again. */
  told = 0;

  constructor(file: DmaBufFile) {
    const invalidateMappings = () => {
      this.told++;
    };
    this.attachment = file.attach({ name: 'nic', peer2peer: true, invalidateMappings });
  }

  static async export({ user }: ConfigLab): Promise<Buffer> {
    const what = { regionIndex: 0, openFlags: O.RDWR, flags: 0, nrRanges: 1 };
    const fd = await user.feature(Feature.DMA_BUF | FeatureFlag.GET, [
      ...deviceFeatureDmaBuf.encode(what, 'little'),
      ...regionDmaRange.encode({ offset: 0n, length: 4096n }, 'little'),
    ]);
    const file = user.process.files.get(fd);
    if (!(file instanceof DmaBufFile)) throw new Error('not a buffer');
    return new Buffer(file);
  }

  /** Whether it can be used now. */
  get usable(): boolean {
    try {
      this.attachment.map();
      return true;
    } catch (error) {
      expect(error).toEqual(errno('ENODEV'));
      return false;
    }
  }
}

const caps = [expCap(ExpType.ENDPOINT, true), pmCap(), afCap];

async function withBuffer(): Promise<{ lab: ConfigLab; buffer: Buffer }> {
  const lab = await ConfigLab.open({ caps });
  await lab.user.enableMemory();
  const buffer = await Buffer.export(lab);
  expect(buffer.usable).toBe(true);
  return { lab, buffer };
}

describe('a buffer over a BAR', () => {
  it('is taken back while memory is switched off', async () => {
    const { lab, buffer } = await withBuffer();
    await using _ = lab;
    await lab.write(Reg.COMMAND, 2, Command.MASTER);
    expect([buffer.told, buffer.usable]).toEqual([1, false]);
    await lab.write(Reg.COMMAND, 1, Command.MEMORY);
    expect(buffer.usable).toBe(true);
    await buffer.attachment.detach();
  });

  it('stays with its user when other bits are written', async () => {
    const { lab, buffer } = await withBuffer();
    await using _ = lab;
    await lab.write(Reg.COMMAND, 2, Command.MEMORY | Command.MASTER | Command.INTX_DISABLE);
    expect([buffer.told, buffer.attachment.mapped]).toEqual([0, true]);
    await buffer.attachment.detach();
  });

  it.each([
    ['PCI Express', CapId.EXP, Exp.DEVCTL, 2, Exp.DEVCTL_BCR_FLR],
    ['advanced features', CapId.AF, Af.CTRL, 1, Af.CTRL_FLR],
  ])('is taken back for a reset that is asked for by %s', async (_name, id, register, width, value) => {
    const { lab, buffer } = await withBuffer();
    await using _ = lab;
    const usable: boolean[] = [];
    const write = lab.fn.writeConfig.bind(lab.fn);
    lab.fn.writeConfig = (offset, bytes, bits) => {
      const resets = offset === lab.fn.cap(CapId.EXP) + Exp.DEVCTL && (bits & Exp.DEVCTL_BCR_FLR) !== 0;
      if (resets) usable.push(buffer.usable);
      write(offset, bytes, bits);
    };
    await lab.write(lab.fn.cap(id) + register, width, value);
    expect([usable, buffer.told, buffer.usable]).toEqual([[false], 2, true]);
    // One that was off stays so.
    await lab.write(Reg.COMMAND, 2, 0);
    await lab.write(lab.fn.cap(id) + register, width, value);
    expect(buffer.usable).toBe(false);
    await buffer.attachment.detach();
  });

  it('is taken back in D3hot', async () => {
    const { lab, buffer } = await withBuffer();
    await using _ = lab;
    const register = lab.fn.cap(CapId.PM) + Pm.CTRL;
    await lab.write(register, 2, 3);
    expect([buffer.told, buffer.usable]).toEqual([1, false]);
    await lab.write(register, 2, 0);
    expect(buffer.usable).toBe(true);
    await buffer.attachment.detach();
  });
});
