/* What tests of the command share: a machine with two serial cards, and a world that keeps what is written to it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { Machine, type MachineFile } from '@vfio/machine';
import { driverPackage } from '@vfio/mdev-samples/machine';
import { onTestFinished } from 'vitest';
import type { Io } from '../src/io.js';
import { main } from '../src/program.js';

export const uuids = ['83b8f4f2-509f-382f-3c1e-e6bfe0fa1001', '83b8f4f2-509f-382f-3c1e-e6bfe0fa1002'] as const;

export const labFile: MachineFile = {
  version: 1,
  name: 'lab',
  host: { devices: [{ path: 'pci0000:00/0000:00:1f.0', iommuGroup: 'chipset' }] },
  modules: ['vfio_iommu_type1'],
  'mdev-samples': {
    mtty: {
      devices: [
        { uuid: uuids[0], type: 'mtty-1' },
        { uuid: uuids[1], type: 'mtty-2' },
      ],
    },
  },
};

/** A machine with two serial cards, gone with the test. */
export async function createLab(): Promise<Machine> {
  const machine = await Machine.load(labFile, { drivers: [driverPackage] });
  onTestFinished(async () => {
    await machine.shutdown();
  });
  return machine;
}

/** A folder, gone with the test. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-cli-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** Writes a file and gives its path. */
export function writeIn(folder: string, name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

/** A stream that keeps what is written to it. */
export class Sink extends Writable {
  text = '';
  readonly isTTY: boolean;
  readonly columns = 80;

  constructor(isTTY = false) {
    super({ decodeStrings: false });
    this.isTTY = isTTY;
  }

  override _write(chunk: string | Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

/** A world whose drivers are the sources, not the built files. */
export function createIo(more: Partial<Io> = {}) {
  const stdout = new Sink();
  const stderr = new Sink();
  const folder = temporaryFolder();
  const io: Io = {
    stdout,
    stderr,
    env: { XDG_RUNTIME_DIR: folder },
    signal: new AbortController().signal,
    stdin: Readable.from([]),
    searchFrom: [],
    drivers: [driverPackage],
    ...more,
  };
  return { io, stdout, stderr, folder };
}

/** Runs a command line and gives what came of it. */
export async function run(words: readonly string[], more: Partial<Io> = {}) {
  const { io, stdout, stderr, folder } = createIo(more);
  const code = await main(words, io);
  return { code, out: stdout.text, err: stderr.text, folder };
}

/** The lab as a machine file. */
export function labYaml(): string {
  return writeIn(temporaryFolder(), 'lab.yaml', JSON.stringify(labFile));
}
