import { readdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Host, VirtualClock } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { findGolden, loadScript, loadTranscript } from '../src/replay/files.js';
import { recordScript } from '../src/script/run.js';
import { formatLine } from '../src/script/transcript.js';

// Scripts about the language itself, and what the program that made the committed transcripts answered on a running Linux. They use
// nothing but /dev/null, /proc, event descriptors, memory and processes.

const folder = fileURLToPath(new URL('fixtures/scripts', import.meta.url));
const names = (await readdir(folder)).filter((name) => name.endsWith('.vfs'));

describe('recordScript', () => {
  it.each(names)('writes the transcript of %s as it was recorded, byte by byte', async (name) => {
    const path = `${folder}/${name}`;
    const script = await loadScript(path);
    const golden = await loadTranscript(await findGolden(path));
    const clock = new VirtualClock();
    await using host = new Host({ checked: true, clock });
    const transcript = await recordScript(script, host.spawn({ comm: 'script' }), { clock });
    expect(transcript.map(formatLine)).toEqual(golden.map(formatLine));
  });
});
