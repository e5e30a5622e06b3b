import { defineConfig } from 'tsup';
import { packageBuild } from '../../tsup.base.js';

export default defineConfig(
  packageBuild({
    index: 'src/index.ts',
    core: 'src/core/index.ts',
    bus: 'src/bus/index.ts',
    machine: 'src/machine.ts',
    hardware: 'src/hardware/index.ts',
  }),
);
