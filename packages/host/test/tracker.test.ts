import { describe, expect, it } from 'vitest';
import { Tracker } from '../src/index.js';

describe('Tracker, checked', () => {
  it('lists what is alive, with what it is now and where it came from', () => {
    const tracker = new Tracker(true);
    let name = 'eventfd';
    function makesOne() {
      return tracker.track('eventfd', () => name);
    }
    tracker.track('pin', () => 'pin of 4 pages').release();
    makesOne();
    name = 'eventfd 3';
    const leaks = tracker.leaks();
    expect(leaks).toMatchObject([{ kind: 'eventfd', what: 'eventfd 3' }]);
    expect(leaks[0]?.origin).toContain('makesOne');
    expect(leaks[0]?.origin).not.toContain('tracker.ts');
  });

  it('counts by kind', () => {
    const tracker = new Tracker(true);
    const pin = tracker.track('pin', () => '');
    tracker.track('pin', () => '');
    tracker.track('mapping', () => '');
    pin.release();
    expect([tracker.count('pin'), tracker.count('mapping'), tracker.count('device')]).toEqual([1, 1, 0]);
  });

  it('reports a second release, and where the thing came from', () => {
    const tracker = new Tracker(true);
    const pin = tracker.track('pin', () => 'pin of 4 pages');
    pin.release();
    expect(() => pin.release()).toThrow(
      expect.objectContaining({
        kind: 'double-free',
        message: expect.stringMatching(/pin of 4 pages was released before, at .*tracker\.test/),
        origin: expect.stringContaining('tracker.test'),
      }),
    );
    expect(tracker.count('pin')).toBe(0);
  });
});

describe('Tracker, unchecked', () => {
  it('has the numbers, and asks nobody what things are', () => {
    const tracker = new Tracker(false);
    const what = () => {
      throw new Error('asked');
    };
    const held = [tracker.track('pin', what), tracker.track('pin', what), tracker.track('file', what)];
    held[0]!.release();
    held[0]!.release();
    expect([tracker.count('pin'), tracker.count('file')]).toEqual([1, 1]);
    expect(tracker.leaks()).toEqual([
      { kind: 'pin', what: expect.stringMatching(/^1 /) },
      { kind: 'file', what: expect.stringMatching(/^1 /) },
    ]);
  });
});
