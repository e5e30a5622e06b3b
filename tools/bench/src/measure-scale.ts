// Runs what is asked of large numbers, each beside a small number in the same run.

import { type Costs, type ScaleFigure, scaleFigures } from './scale.js';
import { manyDevices } from './scale-devices.js';
import { ioasMappings, type1Mappings } from './scale-mappings.js';

interface ScaleSubject {
  readonly name: string;
  readonly small: number;
  readonly large: number;
  readonly mostRatio: number;
  /** Of heap, for each device. */
  readonly mostBytes?: number;
  readonly run: (count: number) => Promise<Costs>;
}

const manyBytes = 400e6;
const devices = 100_000;
const mappings = 1_000_000;

const subjects: readonly ScaleSubject[] = [
  {
    name: 'devices',
    small: 1000,
    large: devices,
    mostRatio: 2,
    mostBytes: manyBytes / devices,
    run: manyDevices,
  },
  { name: 'type1 mappings', small: 1000, large: mappings, mostRatio: 3, run: type1Mappings },
  { name: 'IOAS mappings', small: 1000, large: mappings, mostRatio: 3, run: ioasMappings },
];

/** Times that the small number is run before the one that counts, so that all code is warm. */
const warmUps = 3;

function counted(count: number): string {
  return count.toLocaleString('en');
}

/** Measures the subjects whose names have the word. */
export async function measureScale(only: string): Promise<ScaleFigure[]> {
  const figures: ScaleFigure[] = [];
  for (const { name, small, large, mostRatio, mostBytes, run } of subjects) {
    if (!name.includes(only)) continue;
    for (let i = 0; i < warmUps; i++) await run(small);
    const few = await run(small);
    const many = await run(large);
    figures.push(...scaleFigures(`${counted(small)} and ${counted(large)} ${name}`, few, many, mostRatio, mostBytes));
  }
  return figures;
}
