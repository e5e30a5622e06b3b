import { defineConfig } from 'vitest/config';
import { builtTests } from '../../vitest.base.js';

export default defineConfig(builtTests);
