/* Replays what a real Linux 7.2.13 answered on the recorded machine. */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { formatReplay, loadDeviations, replayFile } from '@vfio/testing';
import { describe, expect, it } from 'vitest';
import { recordedLab } from './recorded-lab.js';

const transcripts = fileURLToPath(new URL('../../../transcripts/', import.meta.url));
const scripts = readdirSync(`${transcripts}scripts`).filter((name) => /^pci-.*\.vfs$/.test(name));

describe('transcripts of Linux', () => {
  it.each(scripts)('%s', async (script) => {
    const deviations = await loadDeviations(`${transcripts}deviations.json`);
    const result = await replayFile(`${transcripts}scripts/${script}`, { createMachine: recordedLab, deviations });
    expect(result.ok, formatReplay(result)).toBe(true);
    expect(result.steps).toBeGreaterThan(10);
  });
});
