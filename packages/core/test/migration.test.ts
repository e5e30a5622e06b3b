import { createSeams, SystemError, VirtualClock } from '@vfio/host';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkPrecopyIoctl, type MigStateName, migGetNextState, migStateName } from '../src/migration.js';
import { MigrationFlag, MigState, precopyInfo, Request } from '../src/uapi/vfio.js';

const EINVAL = expect.objectContaining({ code: 'EINVAL' });

function device(migrationFlags: number) {
  const { log } = createSeams({ clock: new VirtualClock(), checked: true });
  return { migrationFlags, vfio: { host: { log } }, log };
}

/** Next state by name, `!` for a refusal. */
function next(flags: number, current: number, target: number): MigStateName | '!' {
  try {
    return migStateName(migGetNextState(device(flags), current, target)) ?? '!';
  } catch (error) {
    expect(error).toEqual(EINVAL);
    return '!';
  }
}

/** The steps of a walk, without the start; undefined when it is refused. Ends after ten steps in any case. */
function walk(flags: number, from: number, to: number): number[] | undefined {
  const steps: number[] = [];
  for (let state = from; steps.length < 10; ) {
    const name = next(flags, state, to);
    if (name === '!') return undefined;
    state = MigState[name];
    steps.push(state);
    if (state === to) return steps;
  }
  return steps;
}

// A row for each current state, a column for each target, both in the order of `columns`.
const columns = [
  'STOP',
  'RUNNING',
  'STOP_COPY',
  'RESUMING',
  'RUNNING_P2P',
  'PRE_COPY',
  'PRE_COPY_P2P',
  'ERROR',
] as const;
const tables: Record<number, string> = {
  1: `
    STOP          STOP          RUNNING       STOP_COPY     RESUMING      !             !             !             !
    RUNNING       STOP          RUNNING       STOP          STOP          !             !             !             !
    STOP_COPY     STOP          STOP          STOP_COPY     STOP          !             !             !             !
    RESUMING      STOP          STOP          STOP          RESUMING      !             !             !             !
    RUNNING_P2P   !             !             !             !             !             !             !             !
    PRE_COPY      !             !             !             !             !             !             !             !
    PRE_COPY_P2P  !             !             !             !             !             !             !             !
    ERROR         !             !             !             !             !             !             !             !`,
  3: `
    STOP          STOP          RUNNING_P2P   STOP_COPY     RESUMING      RUNNING_P2P   !             !             !
    RUNNING       RUNNING_P2P   RUNNING       RUNNING_P2P   RUNNING_P2P   RUNNING_P2P   !             !             !
    STOP_COPY     STOP          STOP          STOP_COPY     STOP          STOP          !             !             !
    RESUMING      STOP          STOP          STOP          RESUMING      STOP          !             !             !
    RUNNING_P2P   STOP          RUNNING       STOP          STOP          RUNNING_P2P   !             !             !
    PRE_COPY      !             !             !             !             !             !             !             !
    PRE_COPY_P2P  !             !             !             !             !             !             !             !
    ERROR         !             !             !             !             !             !             !             !`,
  5: `
    STOP          STOP          RUNNING       STOP_COPY     RESUMING      !             RUNNING       !             !
    RUNNING       STOP          RUNNING       STOP          STOP          !             PRE_COPY      !             !
    STOP_COPY     STOP          STOP          STOP_COPY     STOP          !             !             !             !
    RESUMING      STOP          STOP          STOP          RESUMING      !             STOP          !             !
    RUNNING_P2P   !             !             !             !             !             !             !             !
    PRE_COPY      RUNNING       RUNNING       STOP_COPY     RUNNING       !             PRE_COPY      !             !
    PRE_COPY_P2P  !             !             !             !             !             !             !             !
    ERROR         !             !             !             !             !             !             !             !`,
  7: `
    STOP          STOP          RUNNING_P2P   STOP_COPY     RESUMING      RUNNING_P2P   RUNNING_P2P   RUNNING_P2P   !
    RUNNING       RUNNING_P2P   RUNNING       RUNNING_P2P   RUNNING_P2P   RUNNING_P2P   PRE_COPY      RUNNING_P2P   !
    STOP_COPY     STOP          STOP          STOP_COPY     STOP          STOP          !             !             !
    RESUMING      STOP          STOP          STOP          RESUMING      STOP          STOP          STOP          !
    RUNNING_P2P   STOP          RUNNING       STOP          STOP          RUNNING_P2P   RUNNING       PRE_COPY_P2P  !
    PRE_COPY      RUNNING       RUNNING       PRE_COPY_P2P  RUNNING       RUNNING       PRE_COPY      PRE_COPY_P2P  !
    PRE_COPY_P2P  RUNNING_P2P   RUNNING_P2P   STOP_COPY     RUNNING_P2P   RUNNING_P2P   PRE_COPY      PRE_COPY_P2P  !
    ERROR         !             !             !             !             !             !             !             !`,
};

const flagSets = [1, 3, 5, 7];
const states = Object.values(MigState);
const everyMove = flagSets.flatMap((flags) =>
  states.flatMap((from) => states.map((to) => ({ flags, from, to, steps: walk(flags, from, to) }))),
);

describe('migGetNextState', () => {
  it.each(flagSets)('CORE-150 gives every cell of the table for flags %i', (flags) => {
    const rows = tables[flags]!.trim().split('\n');
    expect(rows).toHaveLength(8);
    for (const row of rows) {
      const [current, ...cells] = row.trim().split(/\s+/);
      expect(cells).toHaveLength(8);
      const given = columns.map((target) => next(flags, MigState[current as MigStateName], MigState[target]));
      expect(given, `from ${current}`).toEqual(cells);
    }
  });

  it.each([
    [7, 'RUNNING', 'RUNNING_P2P STOP STOP_COPY'],
    [7, 'RUNNING', 'RUNNING_P2P STOP RESUMING'],
    [7, 'RUNNING', 'RUNNING_P2P PRE_COPY_P2P'],
    [7, 'STOP', 'RUNNING_P2P RUNNING PRE_COPY'],
    [7, 'PRE_COPY', 'PRE_COPY_P2P STOP_COPY'],
    [7, 'PRE_COPY', 'RUNNING RUNNING_P2P STOP RESUMING'],
    [7, 'PRE_COPY_P2P', 'RUNNING_P2P STOP'],
    [7, 'RESUMING', 'STOP RUNNING_P2P RUNNING PRE_COPY'],
    [7, 'STOP_COPY', 'STOP RUNNING_P2P RUNNING'],
    [5, 'PRE_COPY', 'STOP_COPY'],
    [5, 'PRE_COPY', 'RUNNING STOP'],
    [5, 'RUNNING', 'STOP STOP_COPY'],
    [3, 'RUNNING', 'RUNNING_P2P STOP STOP_COPY'],
    [1, 'RUNNING', 'STOP'],
    [1, 'STOP', 'RUNNING'],
  ] as const)('CORE-150 with flags %i, from %s: %s', (flags, from, path) => {
    const steps = path.split(' ') as MigStateName[];
    expect(walk(flags, MigState[from], MigState[steps.at(-1)!])?.map(migStateName)).toEqual(steps);
  });

  it('CORE-151 refuses a target that is ERROR, out of range or not supported, without a warning', () => {
    for (const [flags, target] of [
      [7, MigState.ERROR],
      [7, 8],
      [7, 0xffff_ffff],
      [3, MigState.PRE_COPY],
      [5, MigState.RUNNING_P2P],
    ] as const) {
      const own = device(flags);
      expect(() => migGetNextState(own, MigState.RUNNING, target)).toThrow(EINVAL);
      expect(own.log.warnings()).toEqual([]);
    }
  });

  it('CORE-151 warns about a current state that is ERROR, out of range or not supported, and refuses', () => {
    for (const [flags, current] of [
      [7, MigState.ERROR],
      [7, 8],
      [1, MigState.RUNNING_P2P],
      [0, MigState.RUNNING],
      [MigrationFlag.P2P, MigState.RUNNING],
    ] as const) {
      const own = device(flags);
      expect(() => migGetNextState(own, current, MigState.STOP)).toThrow(EINVAL);
      expect(own.log.warnings()).toHaveLength(1);
    }
  });

  it('CORE-152 (H36) refuses to go from STOP_COPY to a pre-copy state, and terminates', () => {
    for (const target of [MigState.PRE_COPY, MigState.PRE_COPY_P2P]) {
      const own = device(7);
      expect(() => migGetNextState(own, MigState.STOP_COPY, target)).toThrow(EINVAL);
      expect(own.log.warnings()).toEqual([]);
    }
    expect(() => migGetNextState(device(5), MigState.STOP_COPY, MigState.PRE_COPY)).toThrow(EINVAL);
  });

  it('CORE-153 every walk reaches its target in four steps at most, or is refused at its first step', () => {
    for (const { flags, from, to, steps } of everyMove) {
      const refusedAtOnce = next(flags, from, to) === '!';
      expect(steps === undefined, `flags ${flags}: ${from} to ${to}`).toBe(refusedAtOnce);
      if (!steps) continue;
      expect(steps.at(-1)).toBe(to);
      expect(steps.length).toBeLessThanOrEqual(4);
    }
    expect(everyMove.some(({ steps }) => steps?.length === 4)).toBe(true);
  });

  it('CORE-153 a walk whose target changes on the way ends at the last one or is refused', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...flagSets),
        fc.constantFrom(...states),
        fc.array(fc.tuple(fc.constantFrom(...states), fc.integer({ min: 1, max: 5 })), { minLength: 1, maxLength: 8 }),
        (flags, start, targets) => {
          let state: number = start;
          for (const [target, patience] of targets) {
            for (let step = 0; step < patience && state !== target; step++) {
              const name = next(flags, state, target);
              if (name === '!') return;
              state = MigState[name];
            }
            if (patience >= 4) expect(state).toBe(target);
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  it('CORE-154 a data file begins on the last step of a walk only', () => {
    const begins = new Set(['STOP>STOP_COPY', 'RUNNING>PRE_COPY', 'RUNNING_P2P>PRE_COPY_P2P', 'STOP>RESUMING']);
    let seen = 0;
    for (const { from, steps } of everyMove) {
      const path = [from, ...(steps ?? [])].map((state) => migStateName(state));
      const arcs = path.slice(1).map((name, i) => `${path[i]}>${name}`);
      seen += arcs.slice(-1).filter((arc) => begins.has(arc)).length;
      expect(arcs.slice(0, -1).filter((arc) => begins.has(arc))).toEqual([]);
    }
    expect(seen).toBeGreaterThan(0);
  });

  it('CORE-154 a saving state is an interior step only where the data file of the walk is kept', () => {
    const saving = new Set<number>([MigState.STOP_COPY, MigState.PRE_COPY, MigState.PRE_COPY_P2P]);
    for (const { from, to, steps } of everyMove) {
      if (steps?.slice(0, -1).some((state) => saving.has(state))) {
        expect(saving.has(from) && saving.has(to)).toBe(true);
      }
    }
  });
});

describe('migStateName', () => {
  it('names the states by their numbers', () => {
    for (const [name, state] of Object.entries(MigState)) expect(migStateName(state)).toBe(name);
    expect(migStateName(8)).toBeUndefined();
    expect(migStateName(-1)).toBeUndefined();
  });
});

describe('checkPrecopyIoctl', () => {
  function call(
    argsz: number,
    flags: number,
    request: number = Request.MIG_GET_PRECOPY_INFO,
    order: 'little' | 'big' = 'little',
  ) {
    const memory = precopyInfo.encode({ argsz, flags, initialBytes: 7n, dirtyBytes: 8n }, order);
    return { request, order, copyIn: (length: number) => memory.slice(0, length) };
  }

  it('takes the argument as it is for the first version of the information', () => {
    const given = { argsz: 24, flags: 0xff, initialBytes: 7n, dirtyBytes: 8n };
    expect(checkPrecopyIoctl({ precopyInfoV2: false }, call(24, 0xff))).toEqual(given);
    expect(checkPrecopyIoctl({ precopyInfoV2: false }, call(24, 0xff, undefined, 'big'))).toEqual(given);
  });

  it('clears the flags for the second version', () => {
    expect(checkPrecopyIoctl({ precopyInfoV2: true }, call(100, 0xff)).flags).toBe(0);
  });

  it('refuses another request, a short and an unreadable argument', () => {
    const device = { precopyInfoV2: false };
    expect(() => checkPrecopyIoctl(device, call(24, 0, Request.DEVICE_FEATURE))).toThrow(
      expect.objectContaining({ code: 'ENOTTY' }),
    );
    expect(() => checkPrecopyIoctl(device, call(23, 0))).toThrow(EINVAL);
    const unreadable = {
      ...call(24, 0),
      copyIn: () => {
        throw new SystemError('EFAULT', 'not mapped');
      },
    };
    expect(() => checkPrecopyIoctl(device, unreadable)).toThrow(expect.objectContaining({ code: 'EFAULT' }));
  });
});
