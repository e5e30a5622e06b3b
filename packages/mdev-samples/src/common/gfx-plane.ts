/** VFIO_DEVICE_QUERY_GFX_PLANE, as the displays answer it. */
import { type DeviceGfxPlaneInfo, deviceGfxPlaneInfo, GfxPlaneType, VfioError } from '@vfio/core';
import type { IoctlCall } from '@vfio/host';

/** Bytes of the plane info that are read and written back: all but the reserved ones. */
const PLANE_INFO_SIZE = deviceGfxPlaneInfo.endOf('regionIndex');

/** `XR24`: 32 bits per pixel, blue lowest, the highest byte unused. Source: include/uapi/drm/drm_fourcc.h DRM_FORMAT_XRGB8888 */
export const DRM_FORMAT_XRGB8888 = 0x3432_5258;
/** Source: include/drm/drm_plane.h enum drm_plane_type */
export const DrmPlaneType = { OVERLAY: 0, PRIMARY: 1, CURSOR: 2 } as const;

/** Bytes of a pixel of the one format that there is. */
export const BYTES_PER_PIXEL = 4;

/**
 * Answers the question how the display can be seen, or what it shows now.
 *
 * @param way - the one that the device offers: GfxPlaneType.REGION or DMABUF
 * @param fill - sets everything but positions, hot spots and the modifier, which are 0
 * @throws EFAULT - the argument is not accessible
 * @throws EINVAL - `argsz` below 60, or another way than the device's
 * @throws what `fill` throws
 * @source samples/vfio-mdev/mdpy.c mdpy_query_gfx_plane(), mbochs.c mbochs_query_gfx_plane()
 */
export function ioctlQueryGfxPlane(call: IoctlCall, way: number, fill: (plane: DeviceGfxPlaneInfo) => void): number {
  const plane = deviceGfxPlaneInfo.decode(call.copyIn(PLANE_INFO_SIZE), call.order);
  if (plane.argsz < PLANE_INFO_SIZE) {
    throw new VfioError('EINVAL', `argsz is ${plane.argsz}, ${PLANE_INFO_SIZE} are needed`);
  }
  if ((plane.flags & GfxPlaneType.PROBE) !== 0) {
    requireWay(plane.flags, GfxPlaneType.PROBE | way);
  } else {
    requireWay(plane.flags, way);
    plane.drmFormatMod = 0n;
    plane.xPos = 0;
    plane.yPos = 0;
    plane.xHot = 0;
    plane.yHot = 0;
    fill(plane);
  }
  call.copyOut(deviceGfxPlaneInfo.encode(plane, call.order).subarray(0, PLANE_INFO_SIZE));
  return 0;
}

function requireWay(flags: number, way: number): void {
  if (flags !== way) throw new VfioError('EINVAL', `flags 0x${flags.toString(16)}, only 0x${way.toString(16)} works`);
}
