/** How a framebuffer is tried. */
import {
  type ExerciseDevice,
  type ExerciseStep,
  type ExerciseTarget,
  exerciseStep,
  GfxPlaneType,
  PciRegionIndex,
} from '@vfio/core';
import { DrmPlaneType } from '../common/gfx-plane.js';
import { compare, paint } from '../common/picture.js';

/** Draws a picture where the plane query says, and looks at it where the guest does; a reset puts the first one back. */
export async function* exerciseMdpy({ device }: ExerciseTarget): AsyncGenerator<ExerciseStep, void> {
  yield await exerciseStep('plane', () => showAndRead(device));
  yield await exerciseStep('reset picture', () => repaint(device));
}

async function showAndRead(device: ExerciseDevice): Promise<string> {
  const plane = await device.queryGfxPlane(GfxPlaneType.REGION, DrmPlaneType.PRIMARY);
  const frame = { offset: 0, width: plane.width, height: plane.height, stride: plane.stride };
  const shown = await device.mapRegion(plane.regionIndex, plane.size);
  try {
    const drawn = await device.mapRegion(PciRegionIndex.BAR0, plane.size);
    try {
      paint(drawn, frame, 1);
      return `${plane.width}x${plane.height} in region ${plane.regionIndex}, ${compare(shown, frame, 1)} pixels drawn and seen`;
    } finally {
      drawn.unmap();
    }
  } finally {
    shown.unmap();
  }
}

/** Row i of the first picture has the bytes floor(i * 255 / height). */
async function repaint(device: ExerciseDevice): Promise<string> {
  await device.reset();
  const { height, stride, size } = await device.queryGfxPlane(GfxPlaneType.REGION, DrmPlaneType.PRIMARY);
  const mapping = await device.mapRegion(PciRegionIndex.BAR0, size);
  try {
    for (let y = 0; y < height; y++) {
      const shade = Number(mapping.load(y * stride, 1));
      const expected = Math.floor((y * 255) / height);
      if (shade !== expected) throw new Error(`row ${y} has shade ${shade} instead of ${expected}`);
    }
  } finally {
    mapping.unmap();
  }
  return `${height} rows as after creation`;
}
