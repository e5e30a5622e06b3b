// Devices by the thousand: each has a parent on a bus, an IOMMU group, a group of VFIO and their nodes.

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { allocDevice, putDevice, registerGroupDev, unregisterGroupDev, type VfioDevice } from '@vfio/core';
import { Device, O } from '@vfio/host';
import { createLab, IdleDevice, type Lab } from './lab.js';
import type { Costs } from './scale.js';

/** Opens that are timed in a round, and rounds of which the fastest counts. */
const opens = 1000;
const rounds = 9;
/** Devices go in another order than they came: a step that meets each once, a prime. */
const stride = 7919;

/** Node has its collector behind a flag, which may also be set late. */
function collector(): () => void {
  setFlagsFromString('--expose-gc');
  const gc: unknown = runInNewContext('gc');
  if (typeof gc !== 'function') throw new Error('this Node does not let go of its collector');
  return () => gc();
}

/** Bytes in use, after what is not in use is gone. */
function heapBytes(collect: () => void): number {
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

async function timed(count: number, work: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await work();
  return ((performance.now() - start) / count) * 1e6;
}

async function addParents({ host, bus }: Lab, count: number): Promise<Device[]> {
  const parents: Device[] = [];
  for (let i = 0; i < count; i++) {
    const parent = new Device({ name: `many${i}`, bus });
    await host.devices.register(parent);
    host.iommu.probeDevice(parent);
    parents.push(parent);
  }
  return parents;
}

/** `count` devices come, are opened, and go. */
export async function manyDevices(count: number): Promise<Costs> {
  await using lab = await createLab({ checked: false });
  const { host, vfio, process } = lab;
  const collect = collector();
  const before = heapBytes(collect);
  const parents = await addParents(lab, count);
  const withParents = heapBytes(collect);
  const devices: VfioDevice[] = [];
  const register = await timed(count, async () => {
    for (const parent of parents) {
      const device = await allocDevice(vfio, IdleDevice, parent, undefined);
      await registerGroupDev(device);
      devices.push(device);
    }
  });
  const heap = (heapBytes(collect) - withParents) / count;
  const parentHeap = (withParents - before) / count;
  let open = Number.POSITIVE_INFINITY;
  for (let round = 0; round < rounds; round++) {
    const time = await timed(opens, async () => {
      for (let i = 0; i < opens; i++) {
        const group = parents[(round * opens + i) % count]?.iommuGroup;
        await process.close(await process.open(`/dev/vfio/${group?.id}`, O.RDWR));
      }
    });
    open = Math.min(open, time);
  }
  const unregister = await timed(count, async () => {
    for (let i = 0; i < count; i++) {
      const device = devices[(i * stride) % count];
      if (!device) continue;
      await unregisterGroupDev(device);
      await putDevice(device);
    }
  });
  for (const parent of parents) {
    host.iommu.removeDevice(parent);
    await host.devices.unregister(parent);
  }
  return {
    'alloc, register': register,
    'open and close a node': open,
    'unregister, put': unregister,
    heap,
    'heap of a parent in a group of its own': parentHeap,
  };
}
