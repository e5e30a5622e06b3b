/*
 * How an I/OAT engine is tried: it copies memory, tells of the end in memory and by an interrupt, and stops at what it can not reach.
 */
import {
  type ExerciseDevice,
  type ExerciseMemory,
  type ExerciseStep,
  type ExerciseTarget,
  exerciseStep,
  PciIrqIndex,
  PciRegionIndex,
} from '@vfio/core';
import {
  ChannelCommand,
  ChannelControl,
  ChannelReg,
  ChannelState,
  Descriptor,
  IoatIrq,
  IoatReg,
  Operation,
} from '../hardware/ioat-registers.js';
import { dword } from '../hardware/raw-config.js';
import { bytesOf, expectSame, pattern, switchOn, until, withInterrupt } from './exercise-dma.js';

/** Engines that answer to these registers, as device and vendor. */
export const ioatIds: ReadonlySet<number> = new Set([0x2021_8086]);

const CHANNEL = IoatReg.CHANNEL_SIZE;
const STATE_MASK = 0x7;
/** Where things are in the memory that the engine is given. */
const At = { DESCRIPTOR: 0x0, COMPLETION: 0x40, SOURCE: 0x1000, DESTINATION: 0x2000, SIZE: 0x3000 } as const;
const BYTES = 0x1000;
/** No address space reaches so far. */
const NOWHERE = (1n << 57n) - 0x1000n;

/** Tries everything that it can. */
export async function* exerciseIoat({ process, device }: ExerciseTarget): AsyncGenerator<ExerciseStep, void> {
  yield await exerciseStep('ioat engine', async () => {
    await switchOn(device);
    const [channels = 0, capacity = 0] = await device.readRegion(PciRegionIndex.BAR0, IoatReg.CHANNEL_COUNT, 2);
    const [version = 0] = await device.readRegion(PciRegionIndex.BAR0, IoatReg.VERSION, 1);
    return `version ${version >> 4}.${version & 0xf}, ${channels} channel, ${2 ** capacity} bytes a descriptor`;
  });
  yield await exerciseStep('ioat copy', async () => {
    await using memory = await device.mapMemory(At.SIZE);
    const sent = pattern(BYTES, 2);
    memory.write(At.SOURCE, sent);
    await withInterrupt(process, device, PciIrqIndex.MSIX, async (arrived) => {
      await device.writeRegion(PciRegionIndex.BAR0, IoatReg.INTERRUPT_CONTROL, bytesOf(IoatIrq.MASTER_ENABLE, 1));
      await start(device, memory, memory.iova + BigInt(At.SOURCE));
      await until('the interrupt', arrived);
    });
    expectSame('what was copied', memory.read(At.DESTINATION, BYTES), sent);
    const done = dword(memory.read(At.COMPLETION, 8), 0) & STATE_MASK;
    if (done !== ChannelState.DONE) throw new Error(`the completion in memory says state ${done}`);
    return `${BYTES} bytes at 0x${memory.iova.toString(16)}, completion written, MSI-X signalled`;
  });
  yield await exerciseStep('ioat error', async () => {
    await using memory = await device.mapMemory(At.SIZE);
    await start(device, memory, NOWHERE);
    await until('the channel to halt', async () => (await state(device)) === ChannelState.HALTED);
    const errors = dword(await channel(device, ChannelReg.ERROR, 4), 0);
    if (errors === 0) throw new Error('it halted without an error');
    await command(device, ChannelCommand.RESET);
    return `a source that is not mapped halts it, error 0x${errors.toString(16)}`;
  });
}

/** Has the channel copy from somewhere to the memory's own destination. */
async function start(device: ExerciseDevice, memory: ExerciseMemory, source: bigint): Promise<void> {
  const { iova } = memory;
  const descriptor = new DataView(new ArrayBuffer(Descriptor.SIZE));
  descriptor.setUint32(Descriptor.LENGTH, BYTES, true);
  const control = Descriptor.INTERRUPT | Descriptor.COMPLETION | (Operation.COPY << Descriptor.OPERATION_SHIFT);
  descriptor.setUint32(Descriptor.CONTROL, control, true);
  descriptor.setBigUint64(Descriptor.SOURCE, source, true);
  descriptor.setBigUint64(Descriptor.DESTINATION, iova + BigInt(At.DESTINATION), true);
  descriptor.setBigUint64(Descriptor.NEXT, iova, true);
  memory.write(At.DESCRIPTOR, new Uint8Array(descriptor.buffer));
  await command(device, ChannelCommand.RESET);
  await writeChannel(device, ChannelReg.COMPLETION_ADDRESS, bytesOf(iova + BigInt(At.COMPLETION), 8));
  await writeChannel(device, ChannelReg.CHAIN_ADDRESS, bytesOf(iova, 8));
  await writeChannel(device, ChannelReg.CONTROL, bytesOf(ChannelControl.REARM | ChannelControl.ABORT_ON_ERROR, 2));
  await writeChannel(device, ChannelReg.DMA_COUNT, bytesOf(1, 2));
}

async function state(device: ExerciseDevice): Promise<number> {
  return dword(await channel(device, ChannelReg.STATUS, 4), 0) & STATE_MASK;
}

async function command(device: ExerciseDevice, value: number): Promise<void> {
  await writeChannel(device, ChannelReg.COMMAND, bytesOf(value, 1));
}

async function channel(device: ExerciseDevice, register: number, size: number): Promise<Uint8Array> {
  return await device.readRegion(PciRegionIndex.BAR0, CHANNEL + register, size);
}

async function writeChannel(device: ExerciseDevice, register: number, bytes: Uint8Array): Promise<void> {
  await device.writeRegion(PciRegionIndex.BAR0, CHANNEL + register, bytes);
}
