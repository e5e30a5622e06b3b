import { MigrationFlag, MigState } from '@vfio/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Migration, type MigStateName, migStateName, ProcessTransport, VfioClient } from '../src/index.js';
import { createLab, failureOf } from './lab.js';
import { imageSize } from './model-migration.js';

describe('names of states', () => {
  it('are those of the header, and no others', () => {
    for (const [name, state] of Object.entries(MigState)) expect(migStateName(state)).toBe(name);
    for (const state of [8, -1, 0.5]) expect(migStateName(state)).toBeUndefined();
  });
});

describe('migration', () => {
  it.each([
    [MigrationFlag.STOP_COPY, { stopCopy: true, p2p: false, preCopy: false }],
    [MigrationFlag.STOP_COPY | MigrationFlag.PRE_COPY, { stopCopy: true, p2p: false, preCopy: true }],
    [7, { stopCopy: true, p2p: true, preCopy: true }],
    [0, undefined],
  ])('with flags %i is told of', async (migration, expected) => {
    await using lab = await createLab({ migration });
    await using device = await lab.client.openDevice('model0');
    expect(await device.migration.capabilities()).toEqual(expected);
  });

  it.each(['little', 'big'] as const)('moves between states, for a %s-endian program', async (byteOrder) => {
    await using lab = await createLab({ host: { byteOrder } });
    await using device = await lab.client.openDevice('model0');
    const { migration } = device;
    expect(await migration.state()).toBe('RUNNING');
    expect(await migration.dataSize()).toBe(BigInt(imageSize));
    expect(await migration.setState('STOP')).toBeUndefined();
    expect(await migration.state()).toBe('STOP');
    await using stream = await migration.setState('STOP_COPY');
    expect(stream?.subject).toBe('model0 migration');
    expect(await failureOf(migration.setState('PRE_COPY'))).toMatchObject({
      code: 'EINVAL',
      syscall: 'VFIO_DEVICE_FEATURE',
      subject: 'model0',
    });
    expect(await migration.state()).toBe('STOP_COPY');
  });

  it('carries a state from one device to another', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 512 }), async (bytes) => {
        await using lab = await createLab({ devices: 2 });
        await using from = await lab.client.openDevice('model0');
        await using to = await lab.client.openDevice('model1');
        lab.model('model0').setRegisters(0, bytes);
        const image = await from.migration.save();
        expect([image.length, await from.migration.state()]).toEqual([imageSize, 'STOP']);
        await to.migration.load(image);
        expect(await to.migration.state()).toBe('STOP');
        await to.migration.setState('RUNNING');
        expect(lab.model('model1').registers(0, bytes.length)).toEqual(bytes);
      }),
      { numRuns: 10 },
    );
  });

  it('saves again after it saved: the stream is closed, its descriptor free', async () => {
    await using lab = await createLab();
    const process = lab.host.spawn();
    await using device = await new VfioClient(new ProcessTransport(process)).openDevice('model0');
    const open = process.files.descriptors();
    const first = await device.migration.save();
    expect(await device.migration.save()).toEqual(first);
    expect(process.files.descriptors()).toEqual(open);
  });

  it('says of an image that the device does not take what the device said', async () => {
    await using lab = await createLab();
    const process = lab.host.spawn();
    await using device = await new VfioClient(new ProcessTransport(process)).openDevice('model0');
    const open = process.files.descriptors();
    expect(await failureOf(device.migration.load(new Uint8Array(9)))).toMatchObject({
      code: 'EINVAL',
      syscall: 'VFIO_DEVICE_FEATURE',
    });
    expect(process.files.descriptors()).toEqual(open);
    expect(await device.migration.state()).toBe('RESUMING');
    await device.reset();
    expect(await device.migration.state()).toBe('RUNNING');
  });

  it.each<[string, MigStateName, (migration: Migration) => Promise<unknown>]>([
    ['save', 'STOP_COPY', (migration) => migration.save()],
    ['save', 'PRE_COPY', (migration) => migration.save()],
    ['load', 'RESUMING', (migration) => migration.load(new Uint8Array(0))],
  ])('is told to %s from %s, and says that there is no new stream', async (_, state, run) => {
    await using lab = await createLab();
    await using device = await lab.client.openDevice('model0');
    await using _stream = await device.migration.setState(state);
    await expect(run(device.migration)).rejects.toThrow(TypeError);
  });

  it('copies ahead on a stream that goes on in STOP_COPY', async () => {
    await using lab = await createLab();
    await using device = await lab.client.openDevice('model0');
    const { migration } = device;
    await using stream = await migration.setState('PRE_COPY');
    expect(await stream?.precopyInfo()).toEqual({ flags: 0, initialBytes: 8n, dirtyBytes: 3n });
    const ahead = await stream!.readAll();
    expect(ahead.length).toBe(8);
    expect(await migration.setState('STOP_COPY')).toBeUndefined();
    const rest: Uint8Array[] = [];
    for await (const chunk of stream!.chunks(100)) rest.push(chunk);
    expect(rest.map(({ length }) => length)).toEqual([100, 100, 100, 100, 100, 12]);
    await migration.setState('STOP');
    expect(await failureOf(stream!.read(1))).toMatchObject({
      code: 'ENODEV',
      syscall: 'read',
      subject: 'model0 migration',
    });
    await migration.load(Buffer.concat([ahead, ...rest]));
  });

  it('asks for the second form of the pre-copy information, once', async () => {
    await using lab = await createLab();
    const device = await lab.client.openDevice('model0');
    await device.migration.enablePrecopyInfoV2();
    expect(lab.model().precopyInfoV2).toBe(true);
    await device.close();
    expect(lab.model().precopyInfoV2).toBe(false);
  });

  it('says of a device without it what the kernel says', async () => {
    await using lab = await createLab({ migration: 0 });
    await using device = await lab.client.openDevice('model0');
    for (const asked of [device.migration.state(), device.migration.dataSize(), device.migration.setState('STOP')]) {
      expect(await failureOf(asked)).toMatchObject({ code: 'ENOTTY' });
    }
    expect(await failureOf(device.migration.enablePrecopyInfoV2())).toMatchObject({ code: 'EINVAL' });
  });

  it('does not go on for ever when a stream takes nothing', async () => {
    await using lab = await createLab();
    const transport = new ProcessTransport(lab.host.spawn());
    transport.write = () => 0;
    await using device = await new VfioClient(transport).openDevice('model0');
    await using stream = await device.migration.setState('RESUMING');
    await expect(stream!.write(new Uint8Array(0))).resolves.toBeUndefined();
    expect(await failureOf(stream!.write(new Uint8Array(5)))).toMatchObject({
      message: "EIO: 0 of 5 bytes, write 'model0 migration'",
    });
  });

  it('does not pass an unknown number off as a state', async () => {
    await using lab = await createLab();
    await using device = await lab.client.openDevice('model0');
    const { migOps } = lab.model();
    lab.model().migOps = { ...migOps!, getState: () => 12 as never };
    await expect(device.migration.state()).rejects.toThrow('the device reports migration state 12');
    lab.model().migOps = migOps!;
  });
});
