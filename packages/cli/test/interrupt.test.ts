import { EventEmitter } from 'node:events';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { InterruptedError } from '../src/errors.js';
import { untilInterrupted } from '../src/interrupt.js';

describe('untilInterrupted', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it.each(['SIGINT', 'SIGTERM', 'SIGHUP'])('%s asks for an orderly end, and again for the end', (name) => {
    const source = new EventEmitter();
    const giveUp = vi.fn();
    const signal = untilInterrupted(giveUp, source);
    expect(signal.aborted).toBe(false);
    source.emit(name);
    expect(signal.reason).toBeInstanceOf(InterruptedError);
    // the same ^C, passed on by a parent
    vi.advanceTimersByTime(500);
    source.emit(name);
    expect(giveUp).not.toHaveBeenCalled();
    vi.advanceTimersByTime(1);
    source.emit(name);
    expect(giveUp).toHaveBeenCalledOnce();
  });
});
