import { O } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import {
  allocDevice,
  MigrationFlag,
  MigState,
  putDevice,
  registerGroupDev,
  unregisterGroupDev,
  VfioDevice,
  VfioError,
} from '../src/index.js';
import { bench, benchForEach, code, register, type TestBench } from './harness.js';

const root = '/sys/kernel/debug/vfio';

let on: TestBench;
benchForEach((made) => {
  on = made;
});

class Migrates extends VfioDevice {
  override migrationFlags = MigrationFlag.STOP_COPY | MigrationFlag.PRE_COPY;
  answer: () => MigState | Promise<MigState> = () => MigState.RUNNING;
  override migOps = {
    getState: () => this.answer(),
    setState: () => undefined,
    getDataSize: () => 0n,
  };
}

async function withDevice(run: (device: Migrates, directory: string) => Promise<void>): Promise<void> {
  const device = await allocDevice(on.vfio, Migrates, await on.addParent('dev0'), undefined);
  await registerGroupDev(device);
  await run(device, `${root}/dev0`);
  if (device.state === 'registered') await unregisterGroupDev(device);
  await putDevice(device);
}

describe('debugfs', () => {
  it('CORE-203 prints state and features of a device that migrates', async () => {
    await withDevice(async (device, directory) => {
      const read = (name: string) => on.process.readFile(`${directory}/migration/${name}`);
      expect(await read('features')).toBe('stop-copy\npre-copy\n');
      for (const [state, text] of Object.entries({
        ERROR: 0,
        STOP: 1,
        RUNNING: 2,
        STOP_COPY: 3,
        RESUMING: 4,
        RUNNING_P2P: 5,
        PRE_COPY: 6,
        PRE_COPY_P2P: 7,
      })) {
        device.answer = () => text as MigState;
        expect(await read('state')).toBe(`${state}\n`);
      }
      device.answer = () => 99 as MigState;
      expect(await read('state')).toBe('Invalid\n');
      device.answer = () => {
        throw new VfioError('EIO', 'no answer');
      };
      await expect(read('state')).rejects.toEqual(code('EINVAL'));
    });
  });

  it('CORE-203 has no migration directory for a device that does not', async () => {
    await using _one = await register(on, 'dev0');
    expect(on.process.readdir(`${root}/dev0`)).toEqual([]);
  });

  it('CORE-088 (H43) vanishes before the device directory, and waits for who is reading', async () => {
    await withDevice(async (device, directory) => {
      let answer: (state: MigState) => void = () => {};
      device.answer = () =>
        new Promise((resolve) => {
          answer = resolve;
        });
      const fd = await on.process.open(`${directory}/migration/state`, O.RDONLY);
      const bytes = new Uint8Array(16);
      const reading = on.process.read(fd, bytes);
      await new Promise((resolve) => setImmediate(resolve));
      const gone = unregisterGroupDev(device);
      await new Promise((resolve) => setImmediate(resolve));
      expect(on.process.readdir('/sys/class/vfio-dev')).toHaveLength(1);
      expect(() => on.process.readdir(directory)).toThrow(code('ENOENT'));
      answer(MigState.STOP);
      expect(new TextDecoder().decode(bytes.subarray(0, await reading))).toBe('STOP\n');
      await gone;
      expect(on.process.readdir('/sys/class/vfio-dev')).toHaveLength(0);
      await on.process.close(fd);
    });
  });

  it('only logs what it could not make', async () => {
    const device = await allocDevice(on.vfio, Migrates, await on.addParent('dev0'), undefined);
    on.host.debugfs.root.lookup('vfio');
    const other = on.vfio.debugRoot?.mkdir('dev0');
    await registerGroupDev(device);
    expect(on.host.log.entries.some(({ level, text }) => level === 'err' && text.startsWith('debugfs:'))).toBe(true);
    await unregisterGroupDev(device);
    await putDevice(device);
    other?.remove();
  });

  it('is not there on a kernel without', async () => {
    await using bare = await bench({ debugfs: false });
    await using _one = await register(bare, 'dev0');
    expect(bare.process.readdir('/sys/kernel/debug')).toEqual([]);
  });
});
