import { Faults, type ReservedRegion, type ReservedType } from '@vfio/host';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { IovaWindow } from '../../src/iommu-type1/state.js';
import { aperResize, iovaDmaValid, iovaGetCopy, resvExclude } from '../../src/iommu-type1/windows.js';

const faults = new Faults();
const top = 64;

function region(start: number, end: number, type: ReservedType = 'reserved'): ReservedRegion {
  return { start: BigInt(start), end: BigInt(end), type };
}

/** All addresses in some windows; the address space of these tests is small. */
function addresses(windows: readonly IovaWindow[]): number[] {
  const found: number[] = [];
  for (const { start, end } of windows) for (let at = start; at <= end; at++) found.push(Number(at));
  return found;
}

const span = fc
  .tuple(fc.nat(top - 1), fc.nat(top - 1))
  .map(([a, b]) => ({ start: Math.min(a, b), end: Math.max(a, b) }));

describe('windows', () => {
  it('are the aperture less the reserved regions, sorted and disjoint', () => {
    fc.assert(
      fc.property(span, fc.array(span, { maxLength: 5 }), (aperture, reserved) => {
        const taken = (at: number) => reserved.some(({ start, end }) => at >= start && at <= end);
        const expected: number[] = [];
        for (let at = aperture.start; at <= aperture.end; at++) if (!taken(at)) expected.push(at);
        const whole = aperResize(faults, [], { start: BigInt(aperture.start), end: BigInt(aperture.end) });
        const regions = reserved.map(({ start, end }) => region(start, end));
        if (expected.length === 0) {
          expect(() => resvExclude(faults, whole, regions)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
        } else {
          // addresses() lists them in the order of the windows: equality means sorted and without overlap
          expect(addresses(resvExclude(faults, whole, regions))).toEqual(expected);
        }
      }),
    );
  });

  it('are narrowed by a second aperture', () => {
    const windows = [
      { start: 0n, end: 9n },
      { start: 20n, end: 29n },
      { start: 40n, end: 49n },
    ];
    expect(aperResize(faults, windows, { start: 25n, end: 44n })).toEqual([
      { start: 25n, end: 29n },
      { start: 40n, end: 44n },
    ]);
    expect(aperResize(faults, windows, { start: 0n, end: 100n })).toEqual(windows);
    expect(aperResize(faults, windows, { start: 12n, end: 35n })).toEqual([{ start: 20n, end: 29n }]);
  });

  it('leave relaxable regions in', () => {
    const whole = [{ start: 0n, end: 99n }];
    expect(resvExclude(faults, whole, [region(10, 19, 'direct-relaxable')])).toEqual(whole);
    expect(resvExclude(faults, whole, [region(10, 19, 'direct')])).toEqual([
      { start: 0n, end: 9n },
      { start: 20n, end: 99n },
    ]);
  });

  it('have the interrupt window of x86 cut out of 48 bits', () => {
    const aperture = aperResize(faults, [], { start: 0n, end: 2n ** 48n - 1n });
    expect(resvExclude(faults, aperture, [{ start: 0xfee0_0000n, end: 0xfeef_ffffn, type: 'msi' }])).toEqual([
      { start: 0n, end: 0xfedf_ffffn },
      { start: 0xfef0_0000n, end: 2n ** 48n - 1n },
    ]);
  });

  it('CORE-159 hold a range only inside one of them, and any range when there are none', () => {
    const windows = [
      { start: 0n, end: 9n },
      { start: 10n, end: 19n },
    ];
    expect(iovaDmaValid(windows, 5n, 9n)).toBe(true);
    expect(iovaDmaValid(windows, 5n, 10n)).toBe(false);
    expect(iovaDmaValid(windows, 20n, 21n)).toBe(false);
    expect(iovaDmaValid([], 0n, 2n ** 64n - 1n)).toBe(true);
  });

  it('are copied or not at all', () => {
    const windows = [
      { start: 0n, end: 9n },
      { start: 20n, end: 29n },
    ];
    expect(iovaGetCopy(faults, windows)).toEqual(windows);
    using arm = faults.failAt(1);
    expect(() => iovaGetCopy(faults, windows)).toThrow(expect.objectContaining({ code: 'ENOMEM' }));
    expect(arm.step).toBe('vfio_iommu_iova_insert:window');
  });
});
