import { defineConfig } from 'vitest/config';
import { sourceTests } from '../../vitest.base.js';

export default defineConfig(sourceTests);
