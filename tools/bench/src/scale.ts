// Whether costs stay what they are when there is much of everything: the same operations beside a small and a large number
// of devices or mappings, in the same run.

import { duration, ratio } from './table.js';
import { verdict } from './target.js';

/** One operation beside `small` and beside `large` others: nanoseconds, or bytes. */
export interface ScaleFigure {
  readonly name: string;
  readonly small: number;
  readonly large: number;
  /** How many times `small` `large` may be. */
  readonly mostRatio?: number;
  /** How much `large` may be, in the unit of both. */
  readonly most?: number;
  readonly unit: 'ns' | 'bytes';
}

/** What a scale subject found at one size, by the name of the operation. */
export type Costs = Readonly<Record<string, number>>;

const kibi = 1024;

function quantity(value: number, unit: ScaleFigure['unit']): string {
  return unit === 'ns' ? duration(value) : `${(value / kibi).toFixed(1)} KiB`;
}

/** Whether a figure stays within what it may be. */
export function scaleMet({ small, large, mostRatio, most }: ScaleFigure): boolean {
  return large <= small * (mostRatio ?? Number.POSITIVE_INFINITY) && large <= (most ?? Number.POSITIVE_INFINITY);
}

/** A row of the table. */
export function scaleRow(figure: ScaleFigure): string[] {
  const { name, small, large, mostRatio, most, unit } = figure;
  const limits = [
    ...(mostRatio === undefined ? [] : [`<= ${ratio(mostRatio)}`]),
    ...(most === undefined ? [] : [`<= ${quantity(most, unit)}`]),
  ];
  const columns = [quantity(small, unit), quantity(large, unit), ratio(large / small)];
  return [name, ...columns, limits.join(', '), verdict(scaleMet(figure))];
}

/** Joins what was found at two sizes. */
export function scaleFigures(
  subject: string,
  small: Costs,
  large: Costs,
  mostRatio: number,
  mostBytes?: number,
): ScaleFigure[] {
  return Object.entries(small).map(([operation, cost]) => {
    const unit = operation.startsWith('heap') ? 'bytes' : 'ns';
    return {
      name: `${subject}: ${operation}`,
      small: cost,
      large: large[operation] ?? Number.NaN,
      unit,
      mostRatio,
      ...(operation === 'heap' && mostBytes !== undefined ? { most: mostBytes } : {}),
    };
  });
}
