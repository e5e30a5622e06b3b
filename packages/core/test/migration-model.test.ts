// The walk between migration states, beside a model that has no table: the arcs that a driver implements, the shortest
// path along them, and two rules about data files.

import { createSeams, isSystemError, VirtualClock } from '@vfio/host';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type MigStateName, migGetNextState, migStateName } from '../src/migration.js';
import { MigrationFlag, MigState } from '../src/uapi/vfio.js';

const { STOP_COPY, P2P, PRE_COPY } = MigrationFlag;

/** What a driver can do in one step, and with which flags it has to. */
const arcs: readonly { from: MigStateName; to: MigStateName; with: number; without?: number }[] = [
  { from: 'STOP', to: 'STOP_COPY', with: STOP_COPY },
  { from: 'STOP_COPY', to: 'STOP', with: STOP_COPY },
  { from: 'STOP', to: 'RESUMING', with: STOP_COPY },
  { from: 'RESUMING', to: 'STOP', with: STOP_COPY },
  { from: 'STOP', to: 'RUNNING', with: STOP_COPY, without: P2P },
  { from: 'RUNNING', to: 'STOP', with: STOP_COPY, without: P2P },
  { from: 'STOP', to: 'RUNNING_P2P', with: STOP_COPY | P2P },
  { from: 'RUNNING_P2P', to: 'STOP', with: STOP_COPY | P2P },
  { from: 'RUNNING_P2P', to: 'RUNNING', with: STOP_COPY | P2P },
  { from: 'RUNNING', to: 'RUNNING_P2P', with: STOP_COPY | P2P },
  { from: 'RUNNING', to: 'PRE_COPY', with: STOP_COPY | PRE_COPY },
  { from: 'PRE_COPY', to: 'RUNNING', with: STOP_COPY | PRE_COPY },
  { from: 'PRE_COPY', to: 'STOP_COPY', with: STOP_COPY | PRE_COPY, without: P2P },
  { from: 'RUNNING_P2P', to: 'PRE_COPY_P2P', with: STOP_COPY | P2P | PRE_COPY },
  { from: 'PRE_COPY_P2P', to: 'RUNNING_P2P', with: STOP_COPY | P2P | PRE_COPY },
  { from: 'PRE_COPY', to: 'PRE_COPY_P2P', with: STOP_COPY | P2P | PRE_COPY },
  { from: 'PRE_COPY_P2P', to: 'PRE_COPY', with: STOP_COPY | P2P | PRE_COPY },
  { from: 'PRE_COPY_P2P', to: 'STOP_COPY', with: STOP_COPY | P2P | PRE_COPY },
];

/** States in which a data file is read from. */
const saving: ReadonlySet<MigStateName> = new Set(['PRE_COPY', 'PRE_COPY_P2P', 'STOP_COPY']);

/** The arcs of a device, by where they begin. A state that has none is none of the device's. */
function arcsOf(flags: number): Map<MigStateName, MigStateName[]> {
  const found = new Map<MigStateName, MigStateName[]>();
  for (const { from, to, with: wanted, without = 0 } of arcs) {
    if ((flags & wanted) !== wanted || (flags & without) !== 0) continue;
    found.set(from, [...(found.get(from) ?? []), to]);
  }
  return found;
}

/** All shortest paths that the rules allow, without their start; none when there is no way. */
function shortest(flags: number, from: MigStateName, to: MigStateName): MigStateName[][] {
  const next = arcsOf(flags);
  if (!next.has(from) || !next.has(to)) return [];
  if (from === to) return [[to]];
  // the data of a stopped device is complete: there is no way back into it
  if (from === 'STOP_COPY' && (to === 'PRE_COPY' || to === 'PRE_COPY_P2P')) return [];
  // one data file for a walk: in the middle a state that saves belongs to a file that began before and goes on after
  const through = (state: MigStateName) => !saving.has(state) || (saving.has(from) && saving.has(to));
  let paths: MigStateName[][] = [[]];
  for (let length = 0; length < 8; length++) {
    paths = paths.flatMap((path) => (next.get(path.at(-1) ?? from) ?? []).map((state) => [...path, state]));
    const there = paths.filter((path) => path.at(-1) === to);
    if (there.length > 0) return there;
    paths = paths.filter((path) => through(path.at(-1)!));
  }
  return [];
}

/** One step of the real walk; undefined for a refusal. */
function step(flags: number, current: number, target: number): { next?: MigState; warned: boolean } {
  const { log } = createSeams({ clock: new VirtualClock(), checked: true });
  try {
    const next = migGetNextState({ migrationFlags: flags, vfio: { host: { log } } }, current, target);
    return { next, warned: log.warnings().length > 0 };
  } catch (error) {
    if (!isSystemError(error, 'EINVAL')) throw error;
    return { warned: log.warnings().length > 0 };
  }
}

const allFlags = [0, 1, 2, 3, 4, 5, 6, 7];
const names = Object.keys(MigState) as MigStateName[];

it('CORE-150 goes the one shortest way that the rules leave, for every set of flags', () => {
  let walks = 0;
  for (const flags of allFlags) {
    for (const from of names) {
      for (const to of names) {
        const what = `flags ${flags}: ${from} to ${to}`;
        const ways = shortest(flags, from, to);
        expect(ways.length, what).toBeLessThanOrEqual(1);
        const { next } = step(flags, MigState[from], MigState[to]);
        expect(next === undefined ? undefined : migStateName(next), what).toBe(ways[0]?.[0]);
        walks += ways.length;
      }
    }
  }
  // with flags 1, 3, 5 and 7: every pair of states but the ways back from STOP_COPY
  expect(walks).toBe(4 * 4 + 5 * 5 + (5 * 5 - 1) + (7 * 7 - 2));
});

it('CORE-151 warns of the current state that a device can not be in, and of no target', () => {
  for (const flags of allFlags) {
    for (const from of names) {
      const possible = arcsOf(flags).has(from);
      for (const to of names) expect(step(flags, MigState[from], MigState[to]).warned).toBe(!possible);
    }
  }
});

it('CORE-153 any numbers at all: a walk ends at its target within four steps, on the way of the model, or is refused', () => {
  const state = fc.oneof({ weight: 6, arbitrary: fc.nat(7) }, { weight: 1, arbitrary: fc.nat(0xffff_ffff) });
  fc.assert(
    fc.property(fc.nat(0xff), state, state, (flags, from, to) => {
      const [start, end] = [migStateName(from), migStateName(to)];
      const [way] = start && end ? shortest(flags, start, end) : [];
      const walked: number[] = [];
      for (let current = from; walked.length < 5; ) {
        const { next } = step(flags, current, to);
        if (next === undefined) break;
        walked.push(next);
        if (next === to) break;
        current = next;
      }
      expect(walked.map((at) => migStateName(at))).toEqual(way ?? []);
      expect(walked.length).toBeLessThanOrEqual(4);
    }),
    { numRuns: 1000 },
  );
});
