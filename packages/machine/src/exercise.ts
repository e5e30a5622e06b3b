// Drives any device the way a VMM would, through the client: what every device answers to, and then what its driver
// package has to add.

import { type Device, type Irq, ProcessTransport, VfioClient } from '@vfio/client';
import { DeviceInfoFlag, type ExerciseStep, exerciseStep, isVfioError, PciRegionIndex, VfioError } from '@vfio/core';
import type { Process } from '@vfio/host';
import type { InventoryEntry } from './inventory.js';
import type { Machine } from './machine.js';

/** Where test mappings go when the IOMMU does not say what it can map. */
const anyIova = 0x10_0000n;
const pageSize = 4096;
/** Interrupt vectors of one index that are tried. */
const maxVectors = 8;

/**
 * Opens a device in a process of its own, tries it and closes it again.
 *
 * @param address - address, UUID or vfioN
 */
export async function* exerciseDevice(
  machine: Machine,
  address: string,
): AsyncGenerator<ExerciseStep, void, undefined> {
  const process = machine.process({ comm: 'exercise' });
  try {
    yield* runSteps(machine, process, address);
  } finally {
    await process.exit(0);
  }
}

async function* runSteps(
  machine: Machine,
  process: Process,
  address: string,
): AsyncGenerator<ExerciseStep, void, undefined> {
  const entry = (await machine.devices()).find((one) => one.address === address || one.vfio === address);
  if (!entry) {
    yield { name: 'open', ok: false, detail: `no device '${address}': see vfio ls` };
    return;
  }
  const client = new VfioClient(new ProcessTransport(process));
  yield* throughDoor(machine, process, entry, async () => {
    const device = await client.openDevice(entry.address);
    return { device, door: `${entry.node ?? 'group'}, ${entry.vfio ?? 'no number'}` };
  });
  const node = entry.cdev;
  if (node === undefined) return;
  const again = throughDoor(machine, process, entry, async () => {
    const device = await client.openCdev(entry.address);
    return { device, door: `${node}, device ${device.binding.id} of an iommufd` };
  });
  for await (const one of again) yield { ...one, name: `iommufd ${one.name}` };
}

/** All steps on a device that `reach` opens. */
async function* throughDoor(
  machine: Machine,
  process: Process,
  entry: InventoryEntry,
  reach: () => Promise<{ device: Device; door: string }>,
): AsyncGenerator<ExerciseStep, void, undefined> {
  let device: Device | undefined;
  yield await exerciseStep('open', async () => {
    const reached = await reach();
    device = reached.device;
    return reached.door;
  });
  if (!device) return;
  const open = device;
  yield await exerciseStep('info', () => info(open));
  yield await exerciseStep('regions', () => regions(open));
  const irqs: Irq[] = [];
  const asked = await exerciseStep('irqs', async () => {
    irqs.push(...(await open.irqs()).filter((irq) => irq.eventfd && irq.count > 0));
    return `${irqs.length} indices`;
  });
  if (!asked.ok) yield asked;
  for (const irq of irqs) yield await exerciseStep(`irq ${irq.index}`, () => loopback(open, irq));
  const withIommu = entry.node?.includes('/noiommu-') !== true;
  yield await exerciseStep('dma', async () => (withIommu ? await dma(open) : 'not supported: there is no IOMMU'));
  yield await exerciseStep('migration', () => migration(open));
  yield await exerciseStep('reset', () => reset(open));
  for (const driver of machine.drivers) {
    const own = driver.exercise?.({ address: entry.address, process, device: open });
    if (own) yield* own;
  }
  yield await exerciseStep('close', async () => {
    await open.close();
    return `${(await machine.devices()).find((one) => one.address === entry.address)?.users ?? 0} users left`;
  });
}

async function info(device: Device): Promise<string> {
  const { flags, numRegions, numIrqs } = await device.info();
  const names = Object.entries(DeviceInfoFlag)
    .filter(([, bit]) => flags & bit)
    .map(([name]) => name.toLowerCase());
  return `${names.join(', ') || 'no flags'}; ${numRegions} regions, ${numIrqs} interrupt indices`;
}

async function regions(device: Device): Promise<string> {
  const present = (await device.regions()).filter((region) => region.size > 0n);
  const { flags } = await device.info();
  const config = present.find((region) => region.index === PciRegionIndex.CONFIG);
  const bytes = present.reduce((sum, region) => sum + region.size, 0n);
  const found = `${present.length} with ${bytes} bytes`;
  if (!(flags & DeviceInfoFlag.PCI) || !config) return found;
  const ids = Buffer.from(await config.read(0, 4));
  const id = (at: number) => ids.readUInt16LE(at).toString(16).padStart(4, '0');
  return `${found}, ${id(0)}:${id(2)}`;
}

/** Has the kernel signal the eventfd as the device would. */
async function loopback(device: Device, irq: Irq): Promise<string> {
  const { transport } = device;
  const vectors = Math.min(irq.count, maxVectors);
  const eventfds = Array.from({ length: vectors }, () => transport.eventfd());
  try {
    const fewer = await irq.setEventfds(eventfds);
    if (fewer > 0) throw new VfioError('ENOSPC', `${fewer} vectors of ${vectors}`, { syscall: 'VFIO_DEVICE_SET_IRQS' });
    await irq.trigger(0, vectors);
    const silent = eventfds.findIndex((eventfd) => transport.takeEvents(eventfd) === 0n);
    if (silent >= 0) throw new VfioError('EIO', `vector ${silent} did not signal`, { syscall: 'VFIO_DEVICE_SET_IRQS' });
    await irq.disable();
    return `${vectors} of ${irq.count} signalled${irq.automasked ? ', masked itself' : ''}`;
  } catch (error) {
    // indices may exclude each other: the next one is tried all the same
    await irq.disable().catch(() => {});
    throw error;
  } finally {
    for (const eventfd of eventfds) await transport.close(eventfd);
  }
}

async function dma(device: Device): Promise<string> {
  const { space } = device;
  const range = (await space.iovaRanges()).find(({ start, end }) => end - start >= 2n * anyIova);
  const iova = range && range.start > anyIova ? range.start : anyIova;
  const memory = device.transport.allocate(pageSize);
  try {
    memory.write(0, new TextEncoder().encode('exercise'));
    const size = BigInt(pageSize);
    await space.mapDma({ iova, vaddr: memory.address, size });
    const unmapped = await space.unmapDma({ iova, size });
    if (unmapped !== size) throw new VfioError('EIO', `${unmapped} bytes unmapped of ${size}`);
    return `mapped and unmapped ${size} bytes at 0x${iova.toString(16)}`;
  } finally {
    memory.free();
  }
}

async function migration(device: Device): Promise<string> {
  const can = await device.migration.capabilities();
  if (!can) return 'not supported';
  const image = await device.migration.save();
  await device.migration.load(image);
  await device.migration.setState('RUNNING');
  const modes = [can.stopCopy && 'stop-copy', can.p2p && 'p2p', can.preCopy && 'pre-copy'].filter(Boolean);
  return `${modes.join(', ')}; saved and loaded ${image.length} bytes, ${await device.migration.state()}`;
}

async function reset(device: Device): Promise<string> {
  try {
    await device.reset();
    return 'done';
  } catch (error) {
    const { flags } = await device.info();
    const refused = isVfioError(error, 'ENOTTY') || isVfioError(error, 'EINVAL');
    if (refused && !(flags & DeviceInfoFlag.RESET)) return 'not supported';
    throw error;
  }
}
