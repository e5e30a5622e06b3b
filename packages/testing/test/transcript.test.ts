import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatLine, parseTranscript, type TranscriptStep } from '../src/script/transcript.js';

const step: TranscriptStep = { n: 1, line: 2, op: 'cat', src: 'cat x' };

describe('formatLine', () => {
  it('writes keys in the order in which they were set', () => {
    expect(formatLine({ ...step, at: 'read', ret: -1, errno: 'EIO' })).toBe(
      '{"n":1,"line":2,"op":"cat","src":"cat x","at":"read","ret":-1,"errno":"EIO"}',
    );
  });

  it('escapes what is no printable ASCII: line end and tab by name, the rest by number', () => {
    expect(formatLine({ ...step, text: 'a"b\\c\nd\te\rf\x00\x1f\x7f\xe9~' })).toContain(
      '"text":"a\\"b\\\\c\\nd\\te\\u000df\\u0000\\u001f\\u007f\\u00e9~"',
    );
  });

  it('writes numbers of 64 bits in full', () => {
    expect(formatLine({ ...step, count: 2n ** 63n - 1n })).toContain('"count":9223372036854775807}');
  });

  it('is undone by parseTranscript', () => {
    const strings = fc.string({ unit: fc.nat(255).map((code) => String.fromCharCode(code)) });
    fc.assert(
      fc.property(
        strings,
        fc.array(strings),
        fc.dictionary(fc.stringMatching(/^[a-z]+$/), fc.nat()),
        (text, names, fields) => {
          const line = { ...step, text, names, fields, ok: true };
          expect(parseTranscript(`${formatLine(line)}\n`, 'x')).toEqual([line]);
        },
      ),
    );
  });
});
