import { defineConfig } from 'vitest/config';

// all processors: by default one is left free, which on a small machine is half of them
export default defineConfig({ test: { projects: ['packages/*', 'tools/*/vitest.config.*'], maxWorkers: '100%' } });
