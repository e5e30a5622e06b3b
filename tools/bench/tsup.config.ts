import { defineConfig } from 'tsup';

export default defineConfig({
  entry: { main: 'src/main.ts', user: 'src/user/main.ts', 'user-probe': 'src/user/probe.ts' },
  format: ['esm'],
  platform: 'node',
  target: 'node20',
  sourcemap: true,
  clean: true,
});
