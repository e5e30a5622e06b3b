import { describe, expect, it } from 'vitest';
import { Faults } from '../src/index.js';

describe('Faults', () => {
  function operation(faults: Faults): void {
    faults.check('open:file');
    faults.check('open:id', 'ENOSPC');
    faults.check('open:file');
  }

  it('lets steps pass while nothing is armed', () => {
    expect(() => operation(new Faults())).not.toThrow();
  });

  it('records the steps, until stopped', () => {
    const faults = new Faults();
    const recording = faults.record();
    operation(faults);
    recording.stop();
    operation(faults);
    expect(recording.steps).toEqual([
      { name: 'open:file', code: 'ENOMEM' },
      { name: 'open:id', code: 'ENOSPC' },
      { name: 'open:file', code: 'ENOMEM' },
    ]);
  });

  it('fails each step of a recording by its number, once', () => {
    const faults = new Faults();
    const recording = faults.record();
    operation(faults);
    recording.stop();
    recording.steps.forEach(({ name, code }, index) => {
      const arm = faults.failAt(index);
      expect(() => operation(faults)).toThrow(
        expect.objectContaining({ code, message: `${code}: fault injected at ${name}` }),
      );
      expect(arm).toMatchObject({ fired: true, step: name });
      expect(() => operation(faults)).not.toThrow();
    });
  });

  it('fails the nth step of a name', () => {
    const faults = new Faults();
    const arm = faults.failOn('open:file', 2);
    faults.check('open:file');
    faults.check('open:id');
    expect(arm.fired).toBe(false);
    expect(() => faults.check('open:file')).toThrow(expect.objectContaining({ code: 'ENOMEM' }));
  });

  it('fails a step that matches a pattern, also one with a state of its own', () => {
    const faults = new Faults();
    faults.failOn(/:id$/g, 2);
    faults.check('open:id');
    faults.check('open:idle');
    expect(() => faults.check('open:id', 'ENOSPC')).toThrow(expect.objectContaining({ code: 'ENOSPC' }));
  });

  it('does not take part of a name for the name', () => {
    const faults = new Faults();
    faults.failOn('open:id');
    expect(() => faults.check('open:idle')).not.toThrow();
  });

  it('forgets an arm that was taken back', () => {
    const faults = new Faults();
    faults.failAt(0).disarm();
    {
      using _arm = faults.failAt(0);
    }
    expect(() => operation(faults)).not.toThrow();
  });

  it('counts the steps of an arm from its own beginning, past one that another arm makes fail', () => {
    const faults = new Faults();
    const first = faults.failAt(0);
    const second = faults.failAt(1);
    expect(() => faults.check('a')).toThrow('fault injected at a');
    expect(() => faults.check('b')).toThrow('fault injected at b');
    expect([first.step, second.step]).toEqual(['a', 'b']);
  });

  it('refuses numbers that no step has', () => {
    expect(() => new Faults().failAt(-1)).toThrow(RangeError);
    expect(() => new Faults().failOn('x', 0)).toThrow(RangeError);
  });
});
