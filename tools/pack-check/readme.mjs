// What a README promises: a command that installs, an example, and what the example prints.

import ts from 'typescript';

/**
 * The first example in TypeScript, and the text that it prints if a block of text follows it.
 *
 * @param {string} readme
 * @returns {{ code: string, prints: string | undefined } | undefined}
 */
export function example(readme) {
  const found = /^```ts\n([\s\S]*?)^```\n(?:\s*```text\n([\s\S]*?)^```$)?/m.exec(readme);
  return found ? { code: found[1] ?? '', prints: found[2] } : undefined;
}

/** What `npm install` is told to install, by the first such line. */
export function installed(readme) {
  const [, words] = /^npm install (.+)$/m.exec(readme) ?? [];
  return words ? words.split(' ').filter((word) => !word.startsWith('-')) : [];
}

/**
 * The example as a CommonJS module may have it: imports stay where they are, and the rest, which may wait, goes into a
 * function.
 *
 * @param {string} code
 */
export function withoutTopLevelAwait(code) {
  const file = ts.createSourceFile('example.ts', code, ts.ScriptTarget.ES2022);
  const [imports, rest] = [true, false].map((wanted) =>
    file.statements
      .filter((statement) => ts.isImportDeclaration(statement) === wanted)
      .map((statement) => statement.getFullText(file))
      .join(''),
  );
  return `${imports}\n\nasync function main(): Promise<void> {${rest}\n}\n\nvoid main();\n`;
}

/**
 * JavaScript of the example, as a module of either kind.
 *
 * @param {string} code
 * @param {'esm' | 'cjs'} format
 */
export function transpile(code, format) {
  const source = format === 'cjs' ? withoutTopLevelAwait(code) : code;
  const { outputText } = ts.transpileModule(source, {
    compilerOptions: {
      target: ts.ScriptTarget.ES2022,
      module: format === 'cjs' ? ts.ModuleKind.CommonJS : ts.ModuleKind.ESNext,
      esModuleInterop: true,
    },
  });
  return outputText;
}
