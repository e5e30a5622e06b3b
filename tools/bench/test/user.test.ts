import { describe, expect, it } from 'vitest';
import { type Outcome, readFloor, readLine } from '../src/user/client.js';
import { report, summary } from '../src/user/report.js';

const round = (outcomes: Record<string, Outcome>) => new Map(Object.entries(outcomes));

describe('readLine', () => {
  it('reads a rate and the times of round trips, in nanoseconds', () => {
    const line = '{"test":"read4","ops":20000,"ops_per_s":77800,"p50_us":13.25,"p99_us":17.70}';
    expect(readLine(line)).toEqual({ test: 'read4', outcome: { perSecond: 77_800, p50: 13_250, p99: 17_700 } });
  });

  it('reads a rate alone', () => {
    expect(readLine('{"test":"posted4","ops":39936,"ops_per_s":310000}')).toEqual({
      test: 'posted4',
      outcome: { perSecond: 310_000 },
    });
  });

  it('tells what a server refuses from what it does not survive', () => {
    expect(readLine('{"test":"dmamap","error":22,"dropped":false}').outcome).toEqual({ failed: 'refused (22)' });
    expect(readLine('{"test":"write1m","error":104,"dropped":true}').outcome).toEqual({
      failed: 'connection lost (104)',
    });
  });

  it.each(['17', '{"ops_per_s":1}', '{"test":"read4"}'])('refuses %s', (line) => {
    expect(() => readLine(line)).toThrow(TypeError);
  });
});

describe('readFloor', () => {
  it('reads its lines', () => {
    const text = 'read4         20000 ops     104000 ops/s  p50      9.50 us  p99     12.00 us\n';
    expect(readFloor(text).get('read4')).toEqual({ perSecond: 104_000, p50: 9_500, p99: 12_000 });
    expect(() => readFloor('taskset: failed')).toThrow(TypeError);
  });
});

describe('summary', () => {
  it('is the median of the rounds', () => {
    const rounds = [3, 1, 2].map((perSecond) => round({ read4: { perSecond, p50: 10 * perSecond, p99: 20 } }));
    expect(summary(rounds, 'read4')).toEqual({ perSecond: 2, p50: 20, p99: 20 });
  });

  it('is a failure as soon as one round failed, and nothing where nothing was measured', () => {
    const rounds = [round({ read4: { perSecond: 1 } }), round({ read4: { failed: 'refused (22)' } })];
    expect(summary(rounds, 'read4')).toEqual({ failed: 'refused (22)' });
    expect(summary(undefined, 'read4')).toBeUndefined();
    expect(summary(rounds, 'pipe4')).toBeUndefined();
  });
});

describe('report', () => {
  const measured = {
    ours: [round({ read4: { perSecond: 90_000, p50: 11_000, p99: 15_000 }, dmamapfd: { failed: 'refused (22)' } })],
    peer: [round({ read4: { perSecond: 75_000 }, dmamapfd: { perSecond: 30_000 } })],
    probe: [round({ read4: { perSecond: 100_000 } })],
    floor: [round({ read4: { perSecond: 150_000 } })],
  };
  const cells = (two: boolean, { peer, ...others } = measured, withPeer = true) => {
    const { head, rows } = report(withPeer ? { ...others, peer } : others, two);
    const row = (what: string) => rows.find((each) => each[0] === what) ?? [];
    return (what: string, column: string, nth = 0) =>
      row(what)[head.flatMap((title, index) => (title === column ? [index] : []))[nth] ?? -1];
  };

  it('holds ours against the other server, the probe and the floor', () => {
    const cell = cells(false);
    expect(['ours', 'p50', 'libvfio-user', 'target', 'result', 'probe', 'floor'].map((name) => cell('READ 4 B', name)))
      // biome-ignore format: one line, as in the table
      .toEqual(['90.0 k/s', '11.0 us', '75.0 k/s', '>= 0.90 x', 'met', '100 k/s', '150 k/s']);
    expect([0, 1, 2].map((nth) => cell('READ 4 B', 'ours to it', nth))).toEqual(['1.20 x', '0.90 x', '0.60 x']);
  });

  it('asks for more where each side has a processor', () => {
    expect(['target', 'result'].map((name) => cells(true)('READ 4 B', name))).toEqual(['>= 3.00 x', 'missed']);
  });

  it('says what failed instead of a rate, and judges it not', () => {
    const cell = cells(false);
    expect(['ours', 'libvfio-user', 'result'].map((name) => cell('DMA map + unmap, descriptor', name))).toEqual([
      'refused (22)',
      '30.0 k/s',
      '',
    ]);
  });

  it('has the ratio that was once measured where the other server is not there', () => {
    expect(cells(false, measured, false)('READ 4 B', 'libvfio-user to it, once')).toBe('0.75 x');
  });
});
