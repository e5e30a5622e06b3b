// Path patterns, as glob(3) understands them: `*`, `?`, `[...]` and `\` within one part of a path; a dot at the beginning of a name
// has to be written out.

/** The file system that a pattern looks into. */
export interface GlobFiles {
  /** Names in a folder; nothing if it cannot be read. */
  list(path: string): Promise<readonly string[]>;
  /** Whether there is anything of that name, a link that leads nowhere included. */
  exists(path: string): Promise<boolean>;
}

/**
 * The paths that match a pattern, in the order of their bytes.
 *
 * @param pattern - a path; relative ones begin where the file system's paths begin
 */
export async function glob(pattern: string, files: GlobFiles): Promise<string[]> {
  const absolute = pattern.startsWith('/');
  const parts = pattern.split('/').filter((part) => part !== '');
  let found: string[] = [absolute ? '/' : ''];
  for (const [index, part] of parts.entries()) {
    const steps = found.map((base) => matchPart(base, part, index === parts.length - 1, files));
    found = (await Promise.all(steps)).flat();
  }
  return found.sort((a, b) => (a < b ? -1 : Number(a > b)));
}

async function matchPart(base: string, part: string, last: boolean, files: GlobFiles): Promise<string[]> {
  const prefix = base === '' || base === '/' ? base : `${base}/`;
  if (!/[*?[]/.test(part)) {
    const path = `${prefix}${part.replace(/\\(.)/gs, '$1')}`;
    // what lies between two patterns need not be looked at: the next folder says whether it is there
    return !last || (await files.exists(path)) ? [path] : [];
  }
  const matcher = compile(part);
  const names = await files.list(base === '' ? '.' : base);
  return names.filter((name) => matcher.test(name)).map((name) => `${prefix}${name}`);
}

function compile(part: string): RegExp {
  let source = /^[*?[]/.test(part) ? '(?!\\.)' : '';
  for (let at = 0; at < part.length; at++) {
    const char = part[at] ?? '';
    if (char === '*') source += '.*';
    else if (char === '?') source += '.';
    else if (char === '[') {
      const set = /^\[([!^]?)(\]?[^\]]*)\]/.exec(part.slice(at));
      if (!set) source += '\\[';
      else {
        source += `[${set[1] === '' ? '' : '^'}${(set[2] ?? '').replace(/[\\[\]^]/g, '\\$&')}]`;
        at += set[0].length - 1;
      }
    } else if (char === '\\' && at + 1 < part.length) source += escapeRegExp(part[++at] ?? '');
    else source += escapeRegExp(char);
  }
  return new RegExp(`^${source}$`, 's');
}

function escapeRegExp(char: string): string {
  return char.replace(/[\\^$.*+?()[\]{}|/-]/, '\\$&');
}
