import type { ViteUserConfig } from 'vitest/config';

/** Unit tests read the neighbours from their sources: no build in the edit loop. */
export const sourceTests: ViteUserConfig = {
  ssr: { resolve: { conditions: ['@vfio/source', 'module', 'node', 'development|production'] } },
};
