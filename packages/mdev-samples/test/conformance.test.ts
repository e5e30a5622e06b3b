/* What every VFIO device answers to, asked of each type of card by the client. */
import type { ExerciseStep } from '@vfio/core';
import { Machine } from '@vfio/machine';
import { expect, it } from 'vitest';
import { driverPackage } from '../src/machine.js';
import { UUID } from './lab.js';

it.each([
  ['mtty-1', 2, 263, 60],
  ['mtty-2', 3, 271, 96],
])('%s', async (type, regions, bytes, image) => {
  const section = { mtty: { devices: [{ uuid: UUID, type }] } };
  await using machine = await Machine.load(
    { version: 1, modules: ['vfio_iommu_type1'], 'mdev-samples': section },
    { drivers: [driverPackage], checked: true },
  );
  const steps: ExerciseStep[] = [];
  for await (const step of machine.exercise(UUID)) steps.push(step);
  expect(steps.filter(({ ok }) => !ok)).toEqual([]);
  const detail = Object.fromEntries(steps.map((step) => [step.name, step.detail]));
  expect(detail).toMatchObject({
    info: 'pci; 9 regions, 5 interrupt indices',
    regions: `${regions} with ${bytes} bytes, 4348:3253`,
    'irq 0': '1 of 1 signalled, masked itself',
    'irq 1': '1 of 1 signalled',
    migration: `stop-copy, p2p, pre-copy; saved and loaded ${image} bytes, RUNNING`,
    reset: 'done',
    close: '0 users left',
  });
});
