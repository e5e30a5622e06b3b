/** How a Bochs display is tried. */
import {
  type DeviceGfxPlaneInfo,
  type ExerciseDevice,
  type ExerciseStep,
  type ExerciseTarget,
  exerciseStep,
  GfxPlaneType,
  isVfioError,
  PciRegionIndex,
} from '@vfio/core';
import { Seek } from '@vfio/host';
import { DrmPlaneType } from '../common/gfx-plane.js';
import { compare, paint } from '../common/picture.js';
import { DispiEnable, DispiRegister } from './dispi.js';
import { DISPI_OFFSET } from './mmio.js';

const WIDTH = 640;
const HEIGHT = 480;
const BITS_PER_PIXEL = 32;

/** Sets a mode as the guest's driver does, draws a picture, and asks for it as a VMM does. */
export async function* exerciseMbochs({ device, process }: ExerciseTarget): AsyncGenerator<ExerciseStep, void> {
  yield await exerciseStep('mode', () => setMode(device));
  yield await exerciseStep('picture', () => draw(device));
  yield await exerciseStep('plane', async () => {
    const plane = await query(device);
    const buffer = await device.getGfxDmabuf(plane.dmabufId);
    try {
      const size = process.lseek(buffer, 0, Seek.END);
      if (size !== plane.size) throw new Error(`a buffer of ${size} bytes for a picture of ${plane.size}`);
    } finally {
      await process.close(buffer);
    }
    return `${plane.width}x${plane.height}, a buffer of ${plane.size} bytes`;
  });
  yield await exerciseStep('off', async () => {
    await write(device, DispiRegister.ENABLE, 0);
    const { dmabufId } = await device.queryGfxPlane(GfxPlaneType.DMABUF, DrmPlaneType.PRIMARY);
    if (dmabufId !== 0) throw new Error(`picture ${dmabufId} is shown by a display that is off`);
    return 'nothing is shown';
  });
}

async function setMode(device: ExerciseDevice): Promise<string> {
  const { XRES, YRES, BPP, ENABLE, VIRT_WIDTH, VIRT_HEIGHT, X_OFFSET, Y_OFFSET } = DispiRegister;
  await write(device, ENABLE, 0);
  await write(device, BPP, BITS_PER_PIXEL);
  for (const register of [XRES, VIRT_WIDTH]) await write(device, register, WIDTH);
  for (const register of [YRES, VIRT_HEIGHT]) await write(device, register, HEIGHT);
  for (const register of [X_OFFSET, Y_OFFSET]) await write(device, register, 0);
  await write(device, ENABLE, DispiEnable.ENABLED | DispiEnable.LFB_ENABLED);
  const bytes = await device.readRegion(PciRegionIndex.BAR2, DISPI_OFFSET + 2 * DispiRegister.XRES, 2);
  const width = new DataView(bytes.buffer, bytes.byteOffset).getUint16(0, true);
  if (width !== WIDTH) throw new Error(`a width of ${WIDTH} reads ${width}`);
  return `${WIDTH}x${HEIGHT}, ${BITS_PER_PIXEL} bits per pixel`;
}

async function draw(device: ExerciseDevice): Promise<string> {
  const frame = { offset: 0, width: WIDTH, height: HEIGHT, stride: (WIDTH * BITS_PER_PIXEL) / 8 };
  const mapping = await device.mapRegion(PciRegionIndex.BAR0, frame.stride * HEIGHT);
  try {
    paint(mapping, frame, 2);
    return `${compare(mapping, frame, 2)} pixels drawn and seen`;
  } finally {
    mapping.unmap();
  }
}

/** The first query of a picture only makes it known. */
async function query(device: ExerciseDevice): Promise<DeviceGfxPlaneInfo> {
  try {
    return await device.queryGfxPlane(GfxPlaneType.DMABUF, DrmPlaneType.PRIMARY);
  } catch (error) {
    if (!isVfioError(error, 'ENOMEM')) throw error;
    return await device.queryGfxPlane(GfxPlaneType.DMABUF, DrmPlaneType.PRIMARY);
  }
}

async function write(device: ExerciseDevice, register: number, value: number): Promise<void> {
  await device.writeRegion(PciRegionIndex.BAR2, DISPI_OFFSET + 2 * register, Uint8Array.of(value & 0xff, value >>> 8));
}
