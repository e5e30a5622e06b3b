import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compareTranscripts } from '../src/replay/compare.js';
import type { TranscriptLine, TranscriptStep } from '../src/script/transcript.js';

const step = (n: number, more: Partial<TranscriptStep> = {}): TranscriptStep => ({
  n,
  line: 10 + n,
  op: 'ioctl',
  src: `ioctl d ${n} none`,
  ret: 0,
  ...more,
});
const end = (steps: number): TranscriptLine => ({ end: true, steps });

describe('compareTranscripts', () => {
  it('finds nothing where nothing differs', () => {
    const lines = [step(1), step(2, { fields: { a: 1, b: '0x2' } }), end(2)];
    expect(compareTranscripts(lines, structuredClone(lines))).toEqual({
      steps: 2,
      same: 2,
      ignored: 0,
      differences: [],
    });
  });

  it('finds the one key that was changed, wherever it is', () => {
    const keys = ['ret', 'errno', 'out', 'value', 'text', 'line', 'op', 'src'] as const;
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 8 }), fc.nat(7), fc.constantFrom(...keys), (count, at, key) => {
        const lines = Array.from({ length: count }, (_, i) =>
          step(i + 1, { errno: 'EIO', out: '00', value: '0x1', text: 'a' }),
        );
        const changed = structuredClone(lines);
        const victim = changed[at % count]!;
        Object.assign(victim, { [key]: typeof victim[key] === 'number' ? 99 : 'changed' });
        const { steps, same, differences } = compareTranscripts([...lines, end(count)], [...changed, end(count)]);
        expect({ steps, same }).toEqual({ steps: count, same: count - 1 });
        expect(differences).toMatchObject([{ n: victim.n, keys: [key] }]);
      }),
    );
  });

  it('does not take a missing key for an equal one', () => {
    const { differences } = compareTranscripts([step(1, { errno: 'EIO' })], [step(1)]);
    expect(differences).toMatchObject([{ keys: ['errno'] }]);
    expect(compareTranscripts([step(1)], [step(1, { errno: 'EIO' })]).differences).toMatchObject([{ keys: ['errno'] }]);
  });

  it('compares nested values', () => {
    const got = [step(1, { fields: { a: 1, b: 3 }, bind: { I: '0x1' } })];
    expect(
      compareTranscripts([step(1, { fields: { a: 1, b: 2 }, bind: { I: '0x1' } })], got).differences,
    ).toMatchObject([{ keys: ['fields'] }]);
  });

  it('takes a number of 64 bits as a reader of the recording would', () => {
    const recorded = JSON.parse('{"n":1,"line":11,"op":"evread","src":"e","count":9223372036854775806}');
    const got = { n: 1, line: 11, op: 'evread', src: 'e', count: 9223372036854775806n };
    expect(compareTranscripts([recorded], [got]).differences).toEqual([]);
  });

  it('counts a missing step, and one too many, as different', () => {
    const { steps, same, differences } = compareTranscripts([step(1), step(2), end(2)], [step(1), end(1)]);
    expect({ steps, same }).toEqual({ steps: 2, same: 1 });
    expect(differences).toEqual([
      { n: 2, line: 12, src: 'ioctl d 2 none', expected: step(2), keys: ['n', 'line', 'op', 'src', 'ret'] },
    ]);
    const more = compareTranscripts([step(1), end(1)], [step(1), step(2), end(2)]);
    expect(more.steps).toBe(2);
    expect(more.differences).toEqual([
      { n: 2, line: 12, src: 'ioctl d 2 none', got: step(2), keys: ['n', 'line', 'op', 'src', 'ret'] },
    ]);
  });

  it('puts a fatal line where it came, and notices a run without an end', () => {
    const { steps, differences } = compareTranscripts(
      [step(1), step(2), end(2)],
      [step(1), { line: 12, fatal: 'timeout' }],
    );
    expect(steps).toBe(2);
    expect(differences).toMatchObject([
      { line: 12, src: 'fatal: timeout', got: { fatal: 'timeout' } },
      { n: 2 },
      { src: 'end of the script', expected: end(2) },
    ]);
  });

  it('tells processes apart, also several of the same name', () => {
    const child = (n: number, ret: number) => step(n, { proc: 'p', ret });
    const lines = [step(1), child(1, 0), child(2, 0), step(2), child(1, 5), child(2, 5), step(3), end(3)];
    const got = structuredClone(lines);
    Object.assign(got[4]!, { ret: 6 });
    const { steps, same, differences } = compareTranscripts(lines, got);
    expect({ steps, same }).toEqual({ steps: 7, same: 6 });
    expect(differences).toMatchObject([{ n: 1, proc: 'p', keys: ['ret'], expected: { ret: 5 }, got: { ret: 6 } }]);
  });

  it('finds steps of a process that came after another wait than recorded', () => {
    const lines = [step(1, { exited: true }), step(1, { proc: 'p' }), step(2), end(2)];
    const got = [step(1, { exited: false }), step(2), step(1, { proc: 'p' }), end(2)];
    expect(compareTranscripts(lines, got).differences).toMatchObject([{ n: 1, keys: ['exited'] }]);
  });
});

describe('device numbers', () => {
  const stat = (major: number, minor: number, mode = '0600') =>
    step(1, { op: 'stat', src: 'stat /dev/vfio/2', type: 'char', mode, major, minor });
  const uevent = (major: number, driver = 'x') =>
    step(2, { op: 'cat', src: 'cat /sys/a/uevent', text: `MAJOR=${major}\nMINOR=1\nDRIVER=${driver}\n` });
  const dev = (text: string, src = 'cat /sys/class/vfio/2/dev') => step(3, { op: 'cat', src, text });

  it('count, unless told otherwise', () => {
    const { differences } = compareTranscripts([stat(244, 0)], [stat(511, 1)]);
    expect(differences).toMatchObject([{ keys: ['major', 'minor'] }]);
  });

  it('do not count with ignoreDeviceNumbers, and are counted', () => {
    const recorded = [stat(244, 0), uevent(244), dev('244:0\n')];
    const got = [stat(511, 1), uevent(511), dev('511:1\n')];
    expect(compareTranscripts(recorded, got, { ignoreDeviceNumbers: true })).toEqual({
      steps: 3,
      same: 3,
      ignored: 3,
      differences: [],
    });
    expect(compareTranscripts(recorded, recorded, { ignoreDeviceNumbers: true }).ignored).toBe(0);
  });

  it('do not hide what else differs', () => {
    const options = { ignoreDeviceNumbers: true };
    expect(compareTranscripts([stat(244, 0)], [stat(511, 1, '0666')], options).differences).toMatchObject([
      { keys: ['mode'] },
    ]);
    expect(compareTranscripts([uevent(1)], [uevent(2, 'y')], options).differences).toMatchObject([{ keys: ['text'] }]);
    const other = 'cat /sys/class/vfio/2/device';
    expect(compareTranscripts([dev('1:2\n', other)], [dev('3:4\n', other)], options).differences).toHaveLength(1);
    expect(
      compareTranscripts([step(4, { text: 'MAJOR=1 x' })], [step(4, { text: 'MAJOR=2 x' })], options).differences,
    ).toHaveLength(1);
  });
});
