import { createSeams, IdAllocator, KernelBug, type Seams, SystemError, Undo } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { FaultRunError, forEachFault } from '../src/faults.js';

interface Lab {
  readonly host: Seams;
  readonly ids: IdAllocator;
}

function prepare(): Lab {
  const host = createSeams({ checked: true });
  return { host, ids: new IdAllocator(host, 'minor', 7) };
}

/** Takes an id and two pieces of memory, and gives all back, also when it fails half-way. */
async function careful({ host, ids }: Lab): Promise<void> {
  await using undo = new Undo();
  const id = ids.alloc();
  undo.add(() => ids.free(id));
  for (const what of ['table', 'bitmap']) {
    host.faults.check(`alloc:${what}`);
    const tracked = host.tracker.track('memory', () => what);
    undo.add(() => tracked.release());
  }
}

/** As above, but forgets the table when there is no bitmap. */
function careless({ host }: Lab): void {
  host.faults.check('alloc:table');
  const table = host.tracker.track('memory', () => 'table');
  host.faults.check('alloc:bitmap');
  table.release();
}

async function failure(run: Promise<unknown>): Promise<unknown> {
  return run.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
}

describe('forEachFault', () => {
  it('lets each step fail once, and says which there were', async () => {
    const failed: (string | undefined)[] = [];
    const { steps } = await forEachFault({
      prepare,
      scenario: careful,
      check: ({ ids }, step) => {
        failed.push(step?.name);
        expect(ids.used).toBe(0);
      },
    });
    expect(steps.map(({ name }) => name)).toEqual(['ida_alloc:minor', 'alloc:table', 'alloc:bitmap']);
    expect(failed).toEqual([undefined, 'ida_alloc:minor', 'alloc:table', 'alloc:bitmap']);
  });

  it('does not mind a scenario that gets along without', async () => {
    const scenario = ({ host }: Lab) => {
      try {
        host.faults.check('alloc:cache');
      } catch {
        // slower, but it works
      }
    };
    expect((await forEachFault({ prepare, scenario })).steps).toHaveLength(1);
  });

  it('reports what is left behind, with the name of the step', async () => {
    const error = await failure(forEachFault({ prepare, scenario: careless }));
    expect(error).toBeInstanceOf(FaultRunError);
    expect(error).toMatchObject({
      index: 1,
      step: { name: 'alloc:bitmap', code: 'ENOMEM' },
      message: "with step 1 'alloc:bitmap' failing (ENOMEM): left behind: memory table",
    });
  });

  it('leaves out the steps it is told to', async () => {
    await forEachFault({ prepare, scenario: careless, skip: ({ name }) => name === 'alloc:bitmap' });
  });

  it('does not count what was there before', async () => {
    const withMemory = () => {
      const lab = prepare();
      lab.host.tracker.track('memory', () => 'of the host');
      return lab;
    };
    await forEachFault({ prepare: withMemory, scenario: careful });
    const error = await failure(forEachFault({ prepare: withMemory, scenario: careless }));
    expect(error).toMatchObject({ message: expect.stringMatching(/left behind: memory table$/) });
  });

  it('reports several steps together', async () => {
    const scenario = ({ host }: Lab) => {
      const tracked = host.tracker.track('reference', () => 'group 1');
      host.faults.check('one');
      host.faults.check('two');
      tracked.release();
    };
    const error = await failure(forEachFault({ prepare, scenario }));
    expect(error).toBeInstanceOf(AggregateError);
    expect(error).toMatchObject({
      message: expect.stringMatching(/^2 of 2 failing steps leave something behind:\n.*'one'.*\n.*'two'/),
    });
  });

  it('accepts nothing but system errors', async () => {
    const scenario = ({ host }: Lab) => {
      try {
        host.faults.check('alloc:table');
      } catch (cause) {
        throw new KernelBug('driver', 'null pointer', { cause });
      }
    };
    const error = await failure(forEachFault({ prepare, scenario }));
    expect(error).toMatchObject({ message: expect.stringContaining('throws KernelBug: driver: null pointer') });
  });

  it('reports tasks that die in the background', async () => {
    const scenario = ({ host }: Lab) => {
      try {
        host.faults.check('alloc:work');
      } catch {
        queueMicrotask(() => host.log.oops(new TypeError('oops'), 'work'));
      }
    };
    const error = await failure(forEachFault({ prepare, scenario }));
    expect(error).toMatchObject({ message: expect.stringContaining('in the background: TypeError: oops') });
  });

  it('reports a check that fails, and a context that cannot be disposed of', async () => {
    const broken = forEachFault({
      prepare,
      scenario: careful,
      check: (_, step) => expect(step?.name).not.toBe('alloc:table'),
    });
    expect(await failure(broken)).toMatchObject({ index: 1, message: expect.stringContaining('afterwards') });
    const undisposable = forEachFault({
      prepare: () => ({
        ...prepare(),
        [Symbol.asyncDispose]: () => Promise.reject(new KernelBug('leak', 'a module')),
      }),
      scenario: careful,
    });
    expect(await failure(undisposable)).toMatchObject({
      index: -1,
      message: expect.stringContaining('leak: a module'),
    });
  });

  it('reports a scenario that fails by itself', async () => {
    const scenario = () => {
      throw new SystemError('EBUSY', 'always');
    };
    expect(await failure(forEachFault({ prepare, scenario }))).toMatchObject({
      step: undefined,
      message: expect.stringContaining('undisturbed: the scenario throws SystemError: EBUSY: always'),
    });
  });

  it('reports a scenario that takes other steps the second time', async () => {
    let runs = 0;
    const scenario = ({ host }: Lab) => {
      if (runs++ === 0) host.faults.check('first time only');
    };
    expect(await failure(forEachFault({ prepare, scenario }))).toMatchObject({
      message: expect.stringContaining('does not repeat itself: no such step is reached'),
    });
  });

  it('reports a scenario that hangs', async () => {
    const scenario = async ({ host }: Lab) => {
      try {
        host.faults.check('alloc:table');
      } catch {
        await new Promise(() => {});
      }
    };
    expect(await failure(forEachFault({ prepare, scenario, timeoutMs: 10 }))).toMatchObject({
      message: expect.stringContaining('not finished after 10 ms'),
    });
  });
});
