import { describe, expect, it } from 'vitest';
import { CapId, Command, Msi, Reg } from '../../src/bus/regs.js';
import { EDU_BUFFER, Edu, EduReg } from '../../src/hardware/edu.js';
import { DOORBELL, decoding, plugged } from './hardware-lab.js';

function lab() {
  const edu = new Edu();
  const noted = plugged(edu);
  decoding(edu);
  const read = (offset: number) => edu.readBar(0, offset, 4);
  const write = (offset: number, value: number) => edu.writeBar(0, offset, 4, value);
  const transfer = async (source: number, destination: number, count: number, command: number) => {
    edu.writeBar64(0, EduReg.DMA_SRC, BigInt(source));
    edu.writeBar64(0, EduReg.DMA_DST, BigInt(destination));
    edu.writeBar64(0, EduReg.DMA_COUNT, BigInt(count));
    edu.writeBar64(0, EduReg.DMA_CMD, BigInt(command));
    expect(edu.readBar64(0, EduReg.DMA_CMD)).toBe(BigInt(command));
    await edu.device.settled();
    expect(edu.readBar64(0, EduReg.DMA_CMD) & 1n).toBe(0n);
  };
  return { edu, noted, read, write, transfer };
}

describe('edu', () => {
  it('says who it is, and is alive', () => {
    const { edu, read, write } = lab();
    expect(read(EduReg.ID)).toBe(0x0100_00ed);
    write(EduReg.LIVENESS, 0x0f0f_0f0f);
    expect(read(EduReg.LIVENESS)).toBe(0xf0f0_f0f0);
    expect([edu.readBar(0, 0, 1), edu.readBar64(0, 0), read(0x50)]).toEqual([0xffff_ffff, 2n ** 64n - 1n, 0xffff_ffff]);
    expect([edu.readConfig(0, 4), edu.readConfig(Reg.REVISION_ID, 4)]).toEqual([0x11e8_1234, 0x00ff_0010]);
  });

  it('computes a factorial after the write has returned', async () => {
    const { edu, noted, read, write } = lab();
    write(EduReg.STATUS, 0xff);
    write(EduReg.FACTORIAL, 10);
    expect(read(EduReg.STATUS)).toBe(0x81);
    await edu.device.settled();
    expect([read(EduReg.STATUS), read(EduReg.FACTORIAL), noted.pin]).toEqual([0x80, 3628800, true]);
    expect(read(EduReg.INT_STATUS)).toBe(1);
    write(EduReg.INT_ACK, 1);
    expect([read(EduReg.INT_STATUS), noted.pin]).toEqual([0, false]);
  });

  it('holds its pin until all is acknowledged', () => {
    const { noted, read, write } = lab();
    write(EduReg.INT_RAISE, 1);
    write(EduReg.INT_RAISE, 2);
    write(EduReg.INT_ACK, 1);
    expect([noted.pin, read(EduReg.INT_STATUS)]).toEqual([true, 2]);
    write(EduReg.INT_ACK, 2);
    expect(noted.pin).toBe(false);
  });

  it('interrupts by message when that is enabled', () => {
    const { edu, noted, write } = lab();
    const msi = edu.capabilities.find(CapId.MSI);
    edu.writeConfig(msi + Msi.ADDRESS_LO, 4, 0xfee0_0000);
    edu.writeConfig(msi + Msi.DATA_64, 2, 0x41);
    edu.writeConfig(msi + Msi.FLAGS, 2, Msi.FLAGS_ENABLE);
    write(EduReg.INT_RAISE, 4);
    expect([noted.messages, noted.pin]).toEqual([[{ address: DOORBELL, data: 0x41 }], false]);
    expect(msi).toBe(0x40);
  });

  it('copies both ways, and interrupts at the end if told to', async () => {
    const { noted, read, transfer } = lab();
    noted.memory.set([1, 2, 3, 4], 0x100);
    await transfer(0x100, EDU_BUFFER + 8, 4, 1);
    await transfer(EDU_BUFFER + 8, 0x200, 4, 7);
    expect([...noted.memory.subarray(0x200, 0x204)]).toEqual([1, 2, 3, 4]);
    expect([read(EduReg.INT_STATUS), noted.pin]).toEqual([0x100, true]);
  });

  it('keeps 28 bits of an address', async () => {
    const { noted, transfer } = lab();
    noted.memory.set([7], 0x100);
    await transfer(0x7000_0100, EDU_BUFFER, 1, 1);
    await transfer(EDU_BUFFER, 0x200, 1, 3);
    expect(noted.memory[0x200]).toBe(7);
  });

  it('moves nothing without being bus master, and zeros where it may not read', async () => {
    const { edu, noted, transfer } = lab();
    noted.memory.fill(9, 0, 0x400);
    await transfer(0x100, EDU_BUFFER, 4, 1);
    decoding(edu, Command.MEMORY);
    await transfer(EDU_BUFFER, 0x200, 4, 3);
    noted.memory.fill(5, 0x200, 0x204);
    await transfer(EDU_BUFFER, 0x200, 4, 3);
    expect(noted.memory[0x200]).toBe(5);
    await transfer(0x100, EDU_BUFFER, 4, 1);
    decoding(edu);
    await transfer(EDU_BUFFER, 0x200, 4, 3);
    expect([...noted.memory.subarray(0x200, 0x204)]).toEqual([0, 0, 0, 0]);
  });

  it('does nothing with what is not in its buffer', async () => {
    const { noted, transfer } = lab();
    await transfer(EDU_BUFFER - 4, 0x200, 8, 3);
    await transfer(EDU_BUFFER + 4092, 0x200, 8, 3);
    expect(noted.memory.every((byte) => byte === 0)).toBe(true);
  });

  it('keeps its registers over a reset', async () => {
    const { edu, read, write } = lab();
    write(EduReg.FACTORIAL, 5);
    write(EduReg.LIVENESS, 5);
    edu.busReset();
    await edu.device.settled();
    expect(read(EduReg.LIVENESS)).toBe(0xffff_ffff);
    decoding(edu);
    expect([read(EduReg.FACTORIAL), read(EduReg.LIVENESS)]).toEqual([120, 0xffff_fffa]);
  });

  it('ends what it does when it is taken out', async () => {
    const { edu, read, write } = lab();
    write(EduReg.FACTORIAL, 5);
    edu.unplug();
    await new Promise((resolve) => setImmediate(resolve));
    plugged(edu);
    expect([read(EduReg.FACTORIAL), read(EduReg.STATUS), read(EduReg.LIVENESS)]).toEqual([0, 0, 0]);
  });
});
