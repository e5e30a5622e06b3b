// What a figure is to reach, and whether it does.

import { duration, rate, ratio } from './table.js';

/** What was measured of one subject. */
export interface Figure {
  readonly ns: number;
  readonly floorNs: number;
}

/** What is asked of a figure: how often in a second, how long at most, or how many times its floor at most. */
export type Target = { readonly perSecond: number } | { readonly withinNs: number } | { readonly withinFloor: number };

const secondNs = 1e9;

/** `>= 5.00 M/s` */
export function targetText(target: Target): string {
  if ('perSecond' in target) return `>= ${rate(secondNs / target.perSecond)}`;
  if ('withinNs' in target) return `<= ${duration(target.withinNs)}`;
  return `<= ${ratio(target.withinFloor)} floor`;
}

/** Whether a figure reaches its target. */
export function isMet({ ns, floorNs }: Figure, target: Target): boolean {
  if ('perSecond' in target) return secondNs / ns >= target.perSecond;
  if ('withinNs' in target) return ns <= target.withinNs;
  return ns / floorNs <= target.withinFloor;
}

/** What the last column says. */
export function verdict(met: boolean): string {
  return met ? 'met' : 'missed';
}
