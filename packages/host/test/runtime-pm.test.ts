import { describe, expect, it } from 'vitest';
import { RuntimePm, type RuntimePmOps, SystemError, VirtualClock } from '../src/index.js';

function lab(ops: RuntimePmOps = {}) {
  const clock = new VirtualClock();
  const calls: string[] = [];
  const pm = new RuntimePm({
    name: 'dev0',
    clock,
    ops: {
      suspend: async () => {
        calls.push('suspend');
        await ops.suspend?.();
      },
      resume: async () => {
        calls.push('resume');
        await ops.resume?.();
      },
    },
  });
  return { clock, calls, pm };
}

const code = (value: string) => expect.objectContaining({ code: value });

describe('RuntimePm', () => {
  it('suspends with the last user, and resumes for the next', async () => {
    const { pm, calls } = lab();
    pm.enable();
    await pm.resumeAndGet();
    await pm.resumeAndGet();
    await pm.put();
    expect([pm.usageCount, pm.status]).toEqual([1, 'active']);
    await pm.put();
    expect([pm.usageCount, pm.status]).toEqual([0, 'suspended']);
    await pm.resumeAndGet();
    expect([pm.usageCount, pm.status]).toEqual([1, 'active']);
    expect(calls).toEqual(['suspend', 'resume']);
  });

  it('is on while an administrator says so, however often', async () => {
    const { pm } = lab();
    pm.forbidInitially();
    pm.enable();
    pm.getNoresume();
    await pm.put();
    expect(pm.status).toBe('active');
    await pm.forbid();
    expect(pm.usageCount).toBe(1);
    await pm.allow();
    await pm.allow();
    expect([pm.usageCount, pm.status]).toEqual([0, 'suspended']);
    await pm.forbid();
    expect([pm.usageCount, pm.status]).toEqual([1, 'active']);
  });

  it('stays active when its suspend says that it is busy', async () => {
    const { pm } = lab({
      suspend: () => {
        throw new SystemError('EBUSY', 'not now');
      },
    });
    pm.enable();
    await expect(pm.suspend()).rejects.toEqual(code('EBUSY'));
    expect(pm.statusText).toBe('active');
    await pm.resume();
  });

  it('gives up after any other failure', async () => {
    let broken = true;
    const { pm } = lab({
      resume: () => {
        if (broken) throw new SystemError('EIO', 'gone');
      },
    });
    pm.enable();
    await pm.suspend();
    await expect(pm.resumeAndGet()).rejects.toEqual(code('EIO'));
    expect([pm.usageCount, pm.statusText]).toEqual([0, 'error']);
    broken = false;
    await expect(pm.resumeAndGet()).rejects.toEqual(code('EINVAL'));
    expect(pm.usageCount).toBe(0);
  });

  it('neither suspends nor resumes while disabled', async () => {
    const { pm, calls } = lab();
    await expect(pm.suspend()).rejects.toEqual(code('EACCES'));
    expect(pm.statusText).toBe('unsupported');
    pm.enable();
    await pm.suspend();
    await pm.disable();
    await expect(pm.resume()).rejects.toEqual(code('EACCES'));
    expect(calls).toEqual(['suspend']);
  });

  it('refuses to suspend what is used', async () => {
    const { pm } = lab();
    pm.enable();
    pm.getNoresume();
    await expect(pm.suspend()).rejects.toEqual(code('EAGAIN'));
    pm.putNoidle();
    expect(() => pm.putNoidle()).toThrow(expect.objectContaining({ kind: 'refcount' }));
  });

  it('waits for a transition that is under way', async () => {
    let finish = () => {};
    const { pm, calls } = lab({
      suspend: () =>
        new Promise<void>((resolve) => {
          finish = resolve;
        }),
    });
    pm.enable();
    const suspending = pm.suspend();
    await Promise.resolve();
    const getting = pm.resumeAndGet();
    await Promise.resolve();
    expect(pm.status).toBe('suspending');
    finish();
    await Promise.all([suspending, getting]);
    expect([pm.status, calls]).toEqual(['active', ['suspend', 'resume']]);
  });

  it('is resumed once, and suspended once, by those who come together', async () => {
    const { pm, calls } = lab();
    pm.enable();
    await Promise.all([pm.suspend(), pm.suspend()]);
    await Promise.all([pm.resumeAndGet(), pm.resumeAndGet(), pm.resumeAndGet()]);
    await Promise.all([pm.put(), pm.put(), pm.put()]);
    expect([calls, pm.usageCount]).toEqual([['suspend', 'resume', 'suspend'], 0]);
  });

  it('measures how long it was in each state', async () => {
    const { pm, clock } = lab();
    await clock.advance(1000);
    pm.enable();
    await clock.advance(30);
    await pm.suspend();
    await clock.advance(12);
    await pm.resume();
    await clock.advance(5);
    expect([pm.activeMs, pm.suspendedMs]).toEqual([35, 12]);
  });
});
