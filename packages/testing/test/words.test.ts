import { describe, expect, it } from 'vitest';
import { ScriptError, ScriptMistake } from '../src/script/errors.js';
import { expandWord, literalWord, logicalLines, splitWords } from '../src/script/words.js';

const values: Record<string, string> = { G: '26', NAME: 'a b', EMPTY: '', BANG: '!quiet' };
const expand = (text: string) => splitWords(text).map((word) => expandWord(word, (name) => values[name]));

describe('logicalLines', () => {
  it('drops empty lines and comments, and counts physical lines', () => {
    expect(logicalLines('# first\n\n  open c /dev/null \t\n\t# not this\nclose c\r\n', 'x.vfs')).toEqual([
      { line: 3, text: 'open c /dev/null' },
      { line: 5, text: 'close c' },
    ]);
  });

  it('joins continued lines by one blank and gives them the number of the first', () => {
    expect(logicalLines('note a \\\n   b\\\n\n c\nnote d', 'x.vfs')).toEqual([
      { line: 1, text: 'note a b ' },
      { line: 4, text: 'c' },
      { line: 5, text: 'note d' },
    ]);
  });

  it('takes a comment in a continued line for text: only the tokenizer ends a line there', () => {
    expect(logicalLines('note a \\\n# b', 'x.vfs')).toEqual([{ line: 1, text: 'note a # b' }]);
  });

  it('refuses a last line that is continued into nothing', () => {
    expect(() => logicalLines('note a\nnote b \\\n', 'x.vfs')).not.toThrow();
    expect(() => logicalLines('note a\nnote b \\', 'x.vfs')).toThrow(ScriptError);
    expect(() => logicalLines('note a\nnote b \\', 'x.vfs')).toThrow(/^x\.vfs:2: /);
  });
});

describe('splitWords', () => {
  it('separates words at blanks and tabs', () => {
    expect(expand('read  d\tR(7) 4')).toEqual(['read', 'd', 'R(7)', '4']);
  });

  it('keeps blanks in quotes, also in the middle of a word', () => {
    expect(expand('a="b c"d "" "#x"')).toEqual(['a=b cd', '', '#x']);
  });

  it('knows \\n, \\t and escaped quotes inside of quotes, and leaves backslashes alone outside', () => {
    expect(expand('"a\\nb\\tc\\"d\\\\e\\q" f\\n')).toEqual(['a\nb\tc"d\\eq', 'f\\n']);
  });

  it('ends the line at a # that begins a word, and only there', () => {
    expect(expand('note a#b # c')).toEqual(['note', 'a#b']);
  });

  it('fills variables in without splitting what they hold', () => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the language has this form too
    expect(expand('open g /dev/vfio/$G ${G}x "$NAME" $NAME$EMPTY $$G')).toEqual([
      'open',
      'g',
      '/dev/vfio/26',
      '26x',
      'a b',
      'a b',
      '$G',
    ]);
  });

  it('fills variables in inside of quotes', () => {
    expect(expand('"<$G>"')).toEqual(['<26>']);
  });

  it.each([
    ['note "a', 'unbalanced quote'],
    ['note ${G', 'missing } in ${G'],
    ['note $', 'a $ without the name of a variable'],
    ['note a$-b', 'a $ without the name of a variable'],
  ])('refuses %s', (text, message) => {
    expect(() => splitWords(text)).toThrow(new ScriptMistake(message));
  });

  it('says which variable is unknown when the word is used, not before', () => {
    const words = splitWords('note $NOPE');
    expect(() => expandWord(words[1]!, () => undefined)).toThrow(new ScriptMistake('unknown variable NOPE'));
  });
});

describe('literalWord', () => {
  it('is the text of a word without variables', () => {
    const words = splitWords('a"b" $G ""');
    expect(words.map(literalWord)).toEqual(['ab', undefined, '']);
    expect(literalWord(undefined)).toBeUndefined();
  });
});
