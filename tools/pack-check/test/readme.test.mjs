import { describe, expect, it } from 'vitest';
import { example, installed, transpile } from '../readme.mjs';

const readme = `# @vfio/some

## Install

\`\`\`sh
npm install --save-dev @vfio/some @vfio/other
\`\`\`

## Example

\`\`\`ts
import { some } from '@vfio/some';

await using thing = some();
console.log(thing.name);
\`\`\`

\`\`\`text
some thing
\`\`\`

\`\`\`ts
another();
\`\`\`
`;

describe('example', () => {
  it('is the first block of TypeScript, with what it prints', () => {
    const found = example(readme);
    expect(found?.code.split('\n')[0]).toBe("import { some } from '@vfio/some';");
    expect(found?.code).not.toContain('another');
    expect(found?.prints).toBe('some thing\n');
  });

  it('prints whatever it likes if no text follows it directly', () => {
    expect(example('```ts\na();\n```\n\nThis prints:\n\n```text\na\n```\n')).toEqual({
      code: 'a();\n',
      prints: undefined,
    });
  });

  it('may be missing', () => {
    expect(example('```sh\nls\n```\n')).toBeUndefined();
  });
});

describe('installed', () => {
  it('is what the first npm install names, without its options', () => {
    expect(installed(readme)).toEqual(['@vfio/some', '@vfio/other']);
    expect(installed('nothing')).toEqual([]);
  });
});

describe('transpile', () => {
  const code = example(readme)?.code ?? '';

  it('keeps a module that waits', () => {
    expect(transpile(code, 'esm')).toMatch(/^import \{ some \} from '@vfio\/some';/m);
  });

  it('lets CommonJS wait in a function', () => {
    const output = transpile(code, 'cjs');
    expect(output).toContain('require("@vfio/some")');
    expect(output).toMatch(/async function main\(\) \{[\s\S]*\.name/);
    expect(() => new Function('require', 'exports', output)).not.toThrow();
  });
});
