import { defineConfig } from 'tsup';
import { packageBuild } from '../../tsup.base.js';

// shims: the CommonJS copy asks where it is too, to look for driver packages beside itself
export default defineConfig({ ...packageBuild(), shims: true });
