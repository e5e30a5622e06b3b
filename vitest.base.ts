import type { ViteUserConfig } from 'vitest/config';

/** For a machine that has other things to do; a test that hangs is still found. */
const testTimeout = 30_000;

/** Tests of built packages, and of tools. */
export const builtTests: ViteUserConfig = { test: { testTimeout } };

/** Unit tests read the neighbours from their sources: no build in the edit loop. */
export const sourceTests: ViteUserConfig = {
  test: { testTimeout },
  ssr: { resolve: { conditions: ['@vfio/source', 'module', 'node', 'development|production'] } },
};
