import { defineConfig } from 'vitest/config';
import { builtTests } from '../../vitest.base.js';

// without the source condition: what is tested is what users get
export default defineConfig(builtTests);
