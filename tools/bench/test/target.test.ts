import { describe, expect, it } from 'vitest';
import { scaleFigures, scaleMet, scaleRow } from '../src/scale.js';
import { markdownTable } from '../src/table.js';
import { isMet, targetText, verdict } from '../src/target.js';

describe('a target', () => {
  it('of a rate is met from that rate on', () => {
    const target = { perSecond: 20_000 };
    expect(targetText(target)).toBe('>= 20.0 k/s');
    expect([50_000, 50_001].map((ns) => isMet({ ns, floorNs: 1 }, target))).toEqual([true, false]);
  });

  it('of a time is met up to that time', () => {
    const target = { withinNs: 50e6 };
    expect(targetText(target)).toBe('<= 50.0 ms');
    expect([50e6, 50e6 + 1].map((ns) => isMet({ ns, floorNs: 1 }, target))).toEqual([true, false]);
  });

  it('beside a floor is met up to so many times the floor', () => {
    const target = { withinFloor: 2 };
    expect(targetText(target)).toBe('<= 2.00 x floor');
    expect([200, 201].map((ns) => isMet({ ns, floorNs: 100 }, target))).toEqual([true, false]);
  });

  it('is missed by what was not measured', () => {
    const nothing = { ns: Number.NaN, floorNs: Number.NaN };
    const targets = [{ perSecond: 1 }, { withinNs: 1 }, { withinFloor: 1 }];
    expect(targets.map((target) => verdict(isMet(nothing, target)))).toEqual(['missed', 'missed', 'missed']);
  });
});

describe('scale', () => {
  it('joins what was found at two sizes, with the limit of heap on heap only', () => {
    const figures = scaleFigures('devices', { open: 10, heap: 2048 }, { open: 25, heap: 4096 }, 2, 4000);
    expect(figures.map(scaleRow)).toEqual([
      ['devices: open', '10.0 ns', '25.0 ns', '2.50 x', '<= 2.00 x', 'missed'],
      ['devices: heap', '2.0 KiB', '4.0 KiB', '2.00 x', '<= 2.00 x, <= 3.9 KiB', 'missed'],
    ]);
  });

  it('misses what one size lacks', () => {
    expect(scaleFigures('x', { map: 1 }, {}, 3).map(scaleMet)).toEqual([false]);
  });
});

describe('markdownTable', () => {
  it('puts names to the left, figures to the right, and keeps bars in their cell', () => {
    expect(markdownTable(['path', 'time'], [['a|b', '1 ns']])).toBe(
      ['| path | time |', '| --- | --: |', '| a\\|b | 1 ns |'].join('\n'),
    );
  });
});
