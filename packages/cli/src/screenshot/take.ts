// What a display shows, asked for as a VMM asks that wants to show it. A device that somebody uses can not be opened once
// more: it is asked through the descriptor that its user has, as a debugger would.

import { Device, ProcessTransport, VfioClient } from '@vfio/client';
import { DeviceFile, type DeviceGfxPlaneInfo, GfxPlaneType, isVfioError } from '@vfio/core';
import { type Host, PAGE_SIZE } from '@vfio/host';
import type { Machine } from '@vfio/machine';
import { CommandError } from '../errors.js';
import { inProcess } from '../files.js';
import { bytesOf, type Picture, pictureOf } from './picture.js';

/** The plane that holds the picture. Source: include/drm/drm_plane.h enum drm_plane_type */
const PRIMARY = 1;
const { PROBE, REGION, DMABUF } = GfxPlaneType;

/**
 * Takes a picture of what a device shows.
 *
 * @param address - of a device that is VFIO's
 * @throws CommandError - it has no display, or shows nothing
 */
export async function takePicture(machine: Machine, address: string, signal: AbortSignal): Promise<Picture> {
  const held = holderOf(machine.host, address);
  if (held) return await pictureFrom(held);
  return await inProcess({ machine, signal }, async (process) => {
    await using device = await openDevice(new VfioClient(new ProcessTransport(process)), address);
    return await pictureFrom(device);
  });
}

/** The device as a process has it that uses it. */
function holderOf({ processes }: Host, address: string): Device | undefined {
  for (const process of processes.all()) {
    for (const fd of process.files.descriptors()) {
      const file = process.files.getOrUndefined(fd);
      if (!(file instanceof DeviceFile) || !file.user.accessGranted) continue;
      if (file.user.device.dev.name === address) return new Device(new ProcessTransport(process), fd, address);
    }
  }
  return undefined;
}

/** A host may be without groups, or without nodes of devices. */
async function openDevice(client: VfioClient, address: string): Promise<Device> {
  try {
    return await client.openDevice(address);
  } catch (error) {
    if (!isVfioError(error, 'ENODEV')) throw error;
    return await client.openCdev(address);
  }
}

async function pictureFrom(device: Device): Promise<Picture> {
  if (await offers(device, REGION)) return await regionPicture(device);
  if (await offers(device, DMABUF)) return await dmabufPicture(device);
  throw new CommandError(`${device.name} has no display`);
}

async function offers(device: Device, way: number): Promise<boolean> {
  try {
    await device.queryGfxPlane(PROBE | way, PRIMARY);
    return true;
  } catch (error) {
    if (isVfioError(error, 'ENOTTY') || isVfioError(error, 'EINVAL')) return false;
    throw error;
  }
}

async function regionPicture(device: Device): Promise<Picture> {
  const plane = await device.queryGfxPlane(REGION, PRIMARY);
  requireShown(device, plane);
  const region = await device.region(plane.regionIndex);
  const length = mappedLength(device, plane, Number(region.size));
  const mapping = await region.mmap(0, length);
  try {
    return pictureOf(plane, (offset) => Number(mapping.load(offset, 4)));
  } finally {
    mapping.unmap();
  }
}

async function dmabufPicture(device: Device): Promise<Picture> {
  const plane = await queryDmabuf(device);
  requireShown(device, plane);
  const { transport } = device;
  const fd = await device.getGfxDmabuf(plane.dmabufId);
  try {
    const length = mappedLength(device, plane, Math.ceil(plane.size / PAGE_SIZE) * PAGE_SIZE);
    const mapping = await transport.mmap(fd, 0, length, { read: true, write: false });
    try {
      return pictureOf(plane, (offset) => Number(mapping.load(offset, 4)));
    } finally {
      mapping.unmap();
    }
  } finally {
    await transport.close(fd);
  }
}

/** A device may have to be asked twice about a picture that is new to it. */
async function queryDmabuf(device: Device): Promise<DeviceGfxPlaneInfo> {
  try {
    return await device.queryGfxPlane(DMABUF, PRIMARY);
  } catch (error) {
    if (!isVfioError(error, 'ENOMEM')) throw error;
    return await device.queryGfxPlane(DMABUF, PRIMARY);
  }
}

function requireShown({ name }: Device, { drmFormat, width, height }: DeviceGfxPlaneInfo): void {
  if (drmFormat === 0 || width === 0 || height === 0) {
    throw new CommandError(`${name} shows nothing: its display is off, as nobody has set a mode`);
  }
}

/** Whole pages that hold the picture. */
function mappedLength({ name }: Device, plane: DeviceGfxPlaneInfo, most: number): number {
  const length = Math.ceil(bytesOf(plane) / PAGE_SIZE) * PAGE_SIZE;
  if (length <= most) return length;
  throw new CommandError(`${name} says that ${most} bytes are a picture of ${plane.width} by ${plane.height} pixels`);
}
