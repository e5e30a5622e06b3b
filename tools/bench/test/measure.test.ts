import { describe, expect, it } from 'vitest';
import { measure, median } from '../src/measure.js';
import { duration, rate, ratio, table } from '../src/table.js';

describe('median', () => {
  it('is the middle one, whatever the order', () => {
    expect(median([5, 1, 100])).toBe(5);
    expect(median([2])).toBe(2);
  });

  it('refuses nothing', () => {
    expect(() => median([])).toThrow(RangeError);
  });
});

describe('measure', () => {
  it('has the works take turns, and counts what one repetition takes', async () => {
    const turns: string[] = [];
    const busy = (name: string) => (count: number) => {
      turns.push(name);
      const end = performance.now() + 0.01 * count;
      while (performance.now() < end);
    };
    const [a = 0, b = 0] = await measure([busy('a'), async (count) => busy('b')(count)], {
      rounds: 3,
      roundMs: 1,
      warmUpMs: 1,
    });
    expect(turns.slice(-6)).toEqual(['a', 'b', 'a', 'b', 'a', 'b']);
    expect(a).toBeGreaterThanOrEqual(10_000);
    expect(b).toBeGreaterThanOrEqual(10_000);
  });
});

describe('table', () => {
  it('writes three digits and a unit', () => {
    expect([1.234, 56_789, 1e9].map(duration)).toEqual(['1.23 ns', '56.8 us', '1.00 s']);
    expect([0.5, 12_500, 5e8].map(rate)).toEqual(['2000 M/s', '80.0 k/s', '2.00 /s']);
    expect(ratio(12.34)).toBe('12.3 x');
  });

  it('puts names to the left and figures to the right', () => {
    expect(
      table(
        ['path', 'time'],
        [
          ['a', '1'],
          ['longer', '1000'],
        ],
      ),
    ).toBe(['path    time', '------  ----', 'a          1', 'longer  1000'].join('\n'));
  });
});
