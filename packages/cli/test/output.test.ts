import pc from 'picocolors';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { renderTable } from '../src/output/table.js';
import { Terminal } from '../src/output/terminal.js';
import { Sink } from './lab.js';

const plain = pc.createColors(false);

describe('renderTable', () => {
  it('aligns columns, shows what is missing, and leaves no blanks at the ends', () => {
    const columns = [{ title: 'NAME' }, { title: 'USERS', align: 'right' as const }, { title: 'NODE' }];
    const rows = [
      ['vfio0', '10', '/dev/vfio/2'],
      ['a longer name', '2', undefined],
    ];
    expect(renderTable(columns, rows, plain)).toBe(
      ['NAME           USERS  NODE', 'vfio0             10  /dev/vfio/2', 'a longer name      2  -', ''].join('\n'),
    );
  });

  it('is only a head without rows', () => {
    expect(renderTable([{ title: 'NAME' }], [], plain)).toBe('NAME\n');
  });
});

describe('Terminal', () => {
  const terminal = (env: Record<string, string> = {}, isTTY = false) => {
    const stdout = new Sink(isTTY);
    const stderr = new Sink(isTTY);
    return { stdout, stderr, terminal: new Terminal({ stdout, stderr, env }) };
  };

  it.each([
    [{}, false, false],
    [{}, true, true],
    [{ NO_COLOR: '1' }, true, false],
    [{ TERM: 'dumb' }, true, false],
    [{ FORCE_COLOR: '1' }, false, true],
    [{ FORCE_COLOR: '0' }, false, false],
  ])('with %j on a terminal: %s, colours: %s', (env, isTTY, coloured) => {
    expect(terminal(env, isTTY).terminal.colours.isColorSupported).toBe(coloured);
  });

  it('keeps results and remarks apart', () => {
    const { terminal: one, stdout, stderr } = terminal();
    one.print('result');
    one.jsonLine({ a: 1 });
    one.note('remark');
    one.onStandardError().print('aside');
    expect(stdout.text).toBe('result\n{"a":1}\n');
    expect(stderr.text).toBe('remark\naside\n');
  });

  describe('progress', () => {
    beforeEach(() => void vi.useFakeTimers());
    afterEach(() => void vi.useRealTimers());

    it('shows after a second what is done, and goes for a line of output', () => {
      const { terminal: one, stderr } = terminal({}, true);
      using progress = one.progress('replaying');
      vi.advanceTimersByTime(900);
      expect(stderr.text).toBe('');
      progress.update('replaying 2 of 3');
      vi.advanceTimersByTime(1200);
      expect(stderr.text).toContain('replaying 2 of 3, 2 s');
      stderr.text = '';
      one.print('result');
      expect(stderr.text).toBe('\u001b[1G\u001b[2K');
    });

    it('is silent where nobody looks', () => {
      const { terminal: one, stderr } = terminal();
      using _progress = one.progress('replaying');
      vi.advanceTimersByTime(60_000);
      expect(stderr.text).toBe('');
    });
  });
});
