import { describe, expect, it } from 'vitest';
import { glob } from '../src/script/glob.js';

const tree: Record<string, readonly string[]> = {
  '/': ['dev', 'sys', '.hidden'],
  '/sys': ['bus', 'block', 'b*s', 'a]b', 'a-b', '.dot'],
  '/sys/bus': ['pci'],
  '/sys/block': ['pci', 'sda'],
  '.': ['here', 'there'],
};

const find = (pattern: string) =>
  glob(pattern, {
    list: async (path) => tree[path] ?? [],
    exists: async (path) => {
      const slash = path.lastIndexOf('/');
      const folder = slash < 0 ? '.' : path.slice(0, slash) || '/';
      return (tree[folder] ?? []).includes(path.slice(slash + 1));
    },
  });

describe('glob', () => {
  it.each<[string, string[]]>([
    ['/sys/bus', ['/sys/bus']],
    ['/sys/none', []],
    ['/sys/b*', ['/sys/b*s', '/sys/block', '/sys/bus']],
    ['/sys/b\\*s', ['/sys/b*s']],
    ['/sys/b?s', ['/sys/b*s', '/sys/bus']],
    ['/sys/*/pci', ['/sys/block/pci', '/sys/bus/pci']],
    ['/s?s/bl*/s[a-d]a', ['/sys/block/sda']],
    ['/sys/[!b]*', ['/sys/a-b', '/sys/a]b']],
    ['/sys/a[]]b', ['/sys/a]b']],
    ['/sys/a[+--]b', ['/sys/a-b']],
    ['/sys/[b', []],
    ['/*', ['/dev', '/sys']],
    ['/.*', ['/.hidden']],
    ['/sys/?dot', []],
    ['*here', ['here', 'there']],
    ['/sys//bus/', ['/sys/bus']],
  ])('%s', async (pattern, paths) => {
    expect(await find(pattern)).toEqual(paths);
  });
});
