import type { Options } from 'tsup';

/** How every package is built: ES modules, CommonJS and declarations, one file for each entry. */
export function packageBuild(entry: Record<string, string> = { index: 'src/index.ts' }): Options {
  return {
    entry,
    format: ['esm', 'cjs'],
    platform: 'node',
    target: 'node20',
    sourcemap: true,
    clean: true,
    splitting: true,
    // through rollup, which makes clean CommonJS of shared chunks; tsup's own way rewrites `??` and loses class names
    treeshake: true,
    // tsup sets baseUrl, which TypeScript 6 calls deprecated and refuses
    dts: { compilerOptions: { ignoreDeprecations: '6.0' } },
  };
}
