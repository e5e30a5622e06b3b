import { defineConfig } from 'vitest/config';

// without the source condition: what is tested is what users get
export default defineConfig({});
