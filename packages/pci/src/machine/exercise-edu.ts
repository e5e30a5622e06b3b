/*
 * How QEMU's educational device is tried: it computes, copies to and fro, and interrupts.
 */
import {
  type ExerciseDevice,
  type ExerciseStep,
  type ExerciseTarget,
  exerciseStep,
  PciIrqIndex,
  PciRegionIndex,
} from '@vfio/core';
import { EDU_BUFFER, EduDma, EduReg, EduStatus } from '../hardware/edu.js';
import { dword } from '../hardware/raw-config.js';
import { bytesOf, expectSame, pattern, switchOn, until, withInterrupt } from './exercise-dma.js';

const LIVENESS = 0x1234_5678;
/** 10! */
const FACTORIAL = { OF: 10, IS: 3_628_800 } as const;
/** Its DMA reaches 28 bits. */
const DMA_LIMIT = 1n << 28n;
const HALF = 0x800;
const INTERRUPT = 0x10;

/** Tries everything that it can. */
export async function* exerciseEdu({ process, device }: ExerciseTarget): AsyncGenerator<ExerciseStep, void> {
  yield await exerciseStep('edu registers', async () => {
    await switchOn(device);
    await write(device, EduReg.LIVENESS, LIVENESS);
    const answer = await read(device, EduReg.LIVENESS);
    if (answer !== ~LIVENESS >>> 0) throw new Error(`liveness is 0x${answer.toString(16)}`);
    return `version 0x${(await read(device, EduReg.ID)).toString(16)}, alive`;
  });
  yield await exerciseStep('edu factorial', async () => {
    await write(device, EduReg.FACTORIAL, FACTORIAL.OF);
    await until('the factorial', async () => ((await read(device, EduReg.STATUS)) & EduStatus.COMPUTING) === 0);
    const result = await read(device, EduReg.FACTORIAL);
    if (result !== FACTORIAL.IS) throw new Error(`${FACTORIAL.OF}! is ${result}`);
    return `${FACTORIAL.OF}! is ${result}`;
  });
  yield await exerciseStep('edu dma', () => copy(device));
  for (const [name, index] of [
    ['intx', PciIrqIndex.INTX],
    ['msi', PciIrqIndex.MSI],
  ] as const) {
    yield await exerciseStep(`edu ${name}`, async () => {
      await withInterrupt(process, device, index, async (arrived) => {
        await write(device, EduReg.INT_RAISE, INTERRUPT);
        await until('the interrupt', arrived);
        const cause = await read(device, EduReg.INT_STATUS);
        await write(device, EduReg.INT_ACK, INTERRUPT);
        if ((cause & INTERRUPT) === 0) throw new Error(`the cause is 0x${cause.toString(16)}`);
      });
      return 'raised, signalled and acknowledged';
    });
  }
}

/** Half a page goes into its buffer and comes back elsewhere. */
async function copy(device: ExerciseDevice): Promise<string> {
  await using memory = await device.mapMemory(2 * HALF, DMA_LIMIT);
  const sent = pattern(HALF, 1);
  memory.write(0, sent);
  await transfer(device, { from: memory.iova, to: BigInt(EDU_BUFFER), command: EduDma.RUN });
  const back = { from: BigInt(EDU_BUFFER), to: memory.iova + BigInt(HALF) };
  await transfer(device, { ...back, command: EduDma.RUN | EduDma.FROM_DEVICE });
  expectSame('what came back', memory.read(HALF, HALF), sent);
  return `${HALF} bytes to the device and back, at 0x${memory.iova.toString(16)}`;
}

async function transfer(
  device: ExerciseDevice,
  { from, to, command }: { from: bigint; to: bigint; command: bigint },
): Promise<void> {
  await write(device, EduReg.DMA_SRC, from, 8);
  await write(device, EduReg.DMA_DST, to, 8);
  await write(device, EduReg.DMA_COUNT, HALF, 8);
  await write(device, EduReg.DMA_CMD, command, 8);
  await until('the end of DMA', async () => (BigInt(await read(device, EduReg.DMA_CMD)) & EduDma.RUN) === 0n);
}

async function read(device: ExerciseDevice, register: number): Promise<number> {
  return dword(await device.readRegion(PciRegionIndex.BAR0, register, 4), 0);
}

async function write(device: ExerciseDevice, register: number, value: number | bigint, size: 4 | 8 = 4): Promise<void> {
  await device.writeRegion(PciRegionIndex.BAR0, register, bytesOf(value, size));
}
