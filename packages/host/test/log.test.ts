import { describe, expect, it } from 'vitest';
import { KernelLog, type LogEntry, VirtualClock } from '../src/index.js';

describe('KernelLog', () => {
  it('keeps level, text, device and time', async () => {
    const clock = new VirtualClock();
    const log = new KernelLog(clock);
    log.info('VFIO - User Level meta-driver version: 0.3');
    await clock.advance(1500);
    log.warn('resetting', 'vfio-pci 0000:01:00.0');
    expect(log.entries).toEqual([
      { time: 0, level: 'info', text: 'VFIO - User Level meta-driver version: 0.3' },
      { time: 1500, level: 'warn', text: 'resetting', dev: 'vfio-pci 0000:01:00.0' },
    ]);
    expect(log.entries.map((entry) => log.format(entry))).toEqual([
      '[    0.000000] VFIO - User Level meta-driver version: 0.3',
      '[    1.500000] vfio-pci 0000:01:00.0: resetting',
    ]);
  });

  it('has all eight levels', () => {
    const log = new KernelLog(new VirtualClock());
    const levels = ['emerg', 'alert', 'crit', 'err', 'warn', 'notice', 'info', 'debug'] as const;
    for (const level of levels) log[level]('x');
    expect(log.entries.map(({ level }) => level)).toEqual(levels);
  });

  it('drops the oldest beyond its size', () => {
    const log = new KernelLog(new VirtualClock(), { capacity: 3 });
    for (let i = 0; i < 20; i++) {
      log.info(`${i}`);
      expect(log.entries.map(({ text }) => text)).toEqual([i - 2, i - 1, i].filter((n) => n >= 0).map(String));
    }
  });

  it('warns with the stack, taints, and changes nothing', () => {
    const log = new KernelLog(new VirtualClock());
    expect(log.warnOn(false, 'no')).toBe(false);
    expect(log.warnOn(true, 'open count is 1')).toBe(true);
    expect(log.warnings()).toMatchObject([{ level: 'warn', text: 'open count is 1', warn: true }]);
    expect(log.warnings()[0]?.stack).toMatch(/log\.test/);
    expect([...log.taints]).toEqual(['W']);
  });

  it('warns once for a key, on each log', () => {
    const log = new KernelLog(new VirtualClock());
    for (let i = 0; i < 3; i++) {
      expect(log.warnOnOnce('key', true, 'a')).toBe(true);
      log.warnOnce('other', 'b', 'dev');
      expect(log.warnOnOnce('never', false, 'c')).toBe(false);
    }
    expect(log.entries.filter(({ level }) => level === 'warn').map(({ text }) => text)).toEqual(['a', 'b']);
    expect(log.warnings()).toHaveLength(1);
    expect(new KernelLog(new VirtualClock()).once('key')).toBe(true);
  });

  it('limits a rate per key and interval', async () => {
    const clock = new VirtualClock();
    const log = new KernelLog(clock);
    const passed = (key: string) => Array.from({ length: 12 }, () => log.rateLimit(key)).filter((pass) => pass).length;
    expect([passed('a'), passed('a'), passed('b')]).toEqual([10, 0, 10]);
    await clock.advance(5001);
    expect(passed('a')).toBe(10);
  });

  it('tells subscribers, until they leave', () => {
    const log = new KernelLog(new VirtualClock());
    const heard: LogEntry[] = [];
    {
      using _subscription = log.subscribe((entry) => heard.push(entry));
      log.err('a');
    }
    log.err('b');
    expect(heard.map(({ text }) => text)).toEqual(['a']);
  });

  it('knows taints by letter and as the number that proc shows', () => {
    const log = new KernelLog(new VirtualClock());
    log.taint('U', 'no-IOMMU');
    log.taint('U', 'again');
    expect([...log.taints]).toEqual(['U']);
    expect(log.taintMask).toBe(1 << 6);
    log.warnOn(true, 'x');
    expect(log.taintMask).toBe((1 << 6) | (1 << 9));
    expect(() => log.taint('u', 'x')).toThrow(RangeError);
  });

  it('keeps what brought a task down', () => {
    const log = new KernelLog(new VirtualClock());
    const error = new Error('NULL pointer');
    log.oops(error, "work 'reset'");
    expect(log.oopses).toEqual([error]);
    expect(log.entries[0]).toMatchObject({ level: 'alert', text: "work 'reset' died: Error: NULL pointer", error });
    expect([...log.taints]).toEqual(['D']);
  });
});
