/** How a serial card is tried. */
import {
  type ExerciseDevice,
  type ExerciseStep,
  type ExerciseTarget,
  exerciseStep,
  PciIrqIndex,
  PciRegionIndex,
} from '@vfio/core';
import { Fcr, Ier, Lsr, Mcr, UartRegister } from '../hardware/uart-16550.js';

const ports = [PciRegionIndex.BAR0, PciRegionIndex.BAR1];
/** Eight data bits, and the divisor latch closed. */
const EIGHT_BITS = 0x03;
const message = new TextEncoder().encode('Hello, mtty');

/** Lets each port hear itself, and interrupt. */
export async function* exerciseMtty({ address, process, device }: ExerciseTarget): AsyncGenerator<ExerciseStep, void> {
  const type = process.readlink(`/sys/bus/mdev/devices/${address}/mdev_type`);
  for (const bar of ports.slice(0, type.endsWith('-2') ? 2 : 1)) {
    yield await exerciseStep(`port ${bar} loop back`, () => loopBack(device, bar));
  }
  yield await exerciseStep('port 0 interrupt', async () => {
    const eventfd = process.eventfd(0, { nonblock: true });
    try {
      return await interrupt(device, eventfd, () => process.read(eventfd, new Uint8Array(8)));
    } finally {
      await process.close(eventfd);
    }
  });
}

/** Sends a text through a port, which hears itself. */
async function loopBack(device: ExerciseDevice, bar: number): Promise<string> {
  await device.writeRegion(bar, UartRegister.LCR, Uint8Array.of(EIGHT_BITS));
  await device.writeRegion(bar, UartRegister.FCR, Uint8Array.of(Fcr.ENABLE | Fcr.CLEAR_RECEIVER));
  for (const byte of message) await device.writeRegion(bar, UartRegister.DATA, Uint8Array.of(byte));
  const heard: number[] = [];
  while (((await register(device, bar, UartRegister.LSR)) & Lsr.DR) !== 0) {
    heard.push(await register(device, bar, UartRegister.DATA));
  }
  const text = new TextDecoder().decode(Uint8Array.from(heard));
  if (text !== new TextDecoder().decode(message)) throw new Error(`sent ${message.length} bytes, heard '${text}'`);
  return `${heard.length} bytes sent and heard`;
}

/** A modem line that rises interrupts by INTx, which masks itself: two causes, one signal. */
async function interrupt(
  device: ExerciseDevice,
  eventfd: number,
  take: () => number | Promise<number>,
): Promise<string> {
  const { BAR0 } = PciRegionIndex;
  await device.setTriggers(PciIrqIndex.INTX, [eventfd]);
  await device.writeRegion(BAR0, UartRegister.IER, Uint8Array.of(Ier.MSI));
  await device.writeRegion(BAR0, UartRegister.MCR, Uint8Array.of(Mcr.OUT2 | Mcr.DTR));
  await take();
  await device.writeRegion(BAR0, UartRegister.MCR, Uint8Array.of(0));
  await device.writeRegion(BAR0, UartRegister.IER, Uint8Array.of(0));
  await device.setTriggers(PciIrqIndex.INTX, []);
  return 'INTx signalled by a modem line';
}

async function register(device: ExerciseDevice, bar: number, offset: number): Promise<number> {
  const [value = 0] = await device.readRegion(bar, offset, 1);
  return value;
}
