// What the engine itself takes: the floors and peers that everything else is held against.

import type { Work } from './measure.js';

/** Results go here, so that no loop is found to be useless. */
const sink = { total: 0 };

/** Four different functions, called in turn: a call that the compiler can not see through. */
const callees: readonly ((n: number) => number)[] = [(n) => n, (n) => n + 1, (n) => n ^ 1, (n) => n | 1];

const entries = 1024;
const map = new Map(Array.from({ length: entries }, (_, key) => [key, key]));
const source = Buffer.alloc(entries);
const target = Buffer.alloc(entries);

const page = 4096;
const pageSource = Buffer.alloc(page);
const pageTarget = Buffer.alloc(page);
/** Of the bitmap of 64 GiB in pages of 4 KiB. */
const bitmapBytes = 2 << 20;
const bitmapSource = Buffer.alloc(bitmapBytes);
const bitmapTarget = Buffer.alloc(bitmapBytes);

async function nothing(): Promise<void> {}

/** Each with the name that the table shows. */
export const floors = {
  'empty call': (count) => {
    for (let i = 0; i < count; i++) sink.total += callees[i & 3]?.(i) ?? 0;
  },
  'Map.get': (count) => {
    for (let i = 0; i < count; i++) sink.total += map.get(i & (entries - 1)) ?? 0;
  },
  'Buffer.copy 4 B': (count) => {
    for (let i = 0; i < count; i++) sink.total += source.copy(target, 0, i & 0xfc, (i & 0xfc) + 4);
  },
  'Buffer.copy 4 KiB': (count) => {
    for (let i = 0; i < count; i++) sink.total += pageSource.copy(pageTarget);
  },
  'Buffer.copy 2 MiB': (count) => {
    for (let i = 0; i < count; i++) sink.total += bitmapSource.copy(bitmapTarget);
  },
  'empty async call': async (count) => {
    for (let i = 0; i < count; i++) await nothing();
  },
} as const satisfies Record<string, Work>;

/** Name of a floor. */
export type FloorName = keyof typeof floors;
