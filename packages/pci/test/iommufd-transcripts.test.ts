/* Replays what a real Linux 7.2.13 with iommufd and device nodes answered on the recorded machine. */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { formatReplay, replayFile } from '@vfio/testing';
import { describe, expect, it } from 'vitest';
import { recordedLab } from './recorded-lab.js';

const folder = fileURLToPath(new URL('../../../transcripts/scripts/iommufd/', import.meta.url));
const scripts = readdirSync(folder).filter((name) => name.endsWith('.vfs'));

describe('transcripts of Linux with iommufd', () => {
  it.each(scripts)('%s', async (script) => {
    const result = await replayFile(`${folder}${script}`, { createMachine: recordedLab });
    expect(result.ok, formatReplay(result)).toBe(true);
    expect(result.same).toBe(result.steps);
    expect(result.steps).toBeGreaterThan(10);
  });
});
