import { describe, expect, it } from 'vitest';
import {
  type DmaBufAttachment,
  DmaBufFile,
  type DmaBufImporter,
  type DmaBufOps,
  Host,
  O,
  Prot,
  Seek,
  VirtualClock,
} from '../src/index.js';

const SYNC = 0x4008_6200;
const SET_NAME = 0x4008_6201;
const size = 3 * 4096;

/** A buffer of registers at one place, which notes what it is asked. */
class Registers implements DmaBufOps {
  readonly calls: string[] = [];
  gone = false;

  attach({ importer }: DmaBufAttachment): void {
    this.calls.push(`attach ${importer.name}`);
  }

  detach({ importer }: DmaBufAttachment): void {
    this.calls.push(`detach ${importer.name}`);
  }

  map() {
    this.calls.push('map');
    return [{ phys: 0xfea0_0000, length: size }];
  }

  unmap(): void {
    this.calls.push('unmap');
  }

  release(): void {
    this.gone = true;
  }
}

async function open() {
  const host = new Host({ checked: true, clock: new VirtualClock() });
  const process = host.spawn();
  const ops = new Registers();
  const file = new DmaBufFile({ size, flags: O.RDWR | O.CLOEXEC, ops });
  const fd = process.files.add(file);
  return { host, process, ops, file, fd, [Symbol.asyncDispose]: () => host[Symbol.asyncDispose]() };
}

const importer = (more: Partial<DmaBufImporter> = {}): DmaBufImporter => ({ name: 'gpu', peer2peer: true, ...more });
const code = (errno: string) => expect.objectContaining({ code: errno });
const u64 = (value: bigint) => new Uint8Array(new BigUint64Array([value]).buffer);

describe('DmaBufFile', () => {
  it('tells its size at its end, and moves nowhere else', async () => {
    await using lab = await open();
    const { process, fd } = lab;
    expect(process.lseek(fd, 0, Seek.END)).toBe(size);
    expect(process.lseek(fd, 0, Seek.SET)).toBe(0);
    expect(() => process.lseek(fd, 1, Seek.SET)).toThrow(code('EINVAL'));
    expect(() => process.lseek(fd, 0, Seek.CUR)).toThrow(code('EINVAL'));
  });

  it('can be neither read nor mapped unless its exporter allows it', async () => {
    await using lab = await open();
    const { process, fd } = lab;
    expect(() => process.read(fd, new Uint8Array(4))).toThrow(code('EINVAL'));
    await expect((async () => process.mmap(fd, { length: 4096, prot: Prot.READ, shared: true }))()).rejects.toThrow(
      code('EINVAL'),
    );
  });

  it('takes synchronisation requests that say a direction', async () => {
    await using lab = await open();
    const { process, fd } = lab;
    expect(await process.ioctl(fd, SYNC, u64(3n))).toBe(0);
    expect(await process.ioctl(fd, SYNC, u64(5n))).toBe(0);
    for (const flags of [0n, 4n, 8n, 11n]) {
      await expect((async () => process.ioctl(fd, SYNC, u64(flags)))()).rejects.toThrow(code('EINVAL'));
    }
    await expect((async () => process.ioctl(fd, 0x6203, u64(3n)))()).rejects.toThrow(code('ENOTTY'));
  });

  it('shows the name that it was given', async () => {
    await using lab = await open();
    const name = new Uint8Array(32);
    name.set(Buffer.from('frame'));
    await lab.process.ioctl(lab.fd, SET_NAME, name);
    expect(lab.file.fdinfo()).toContain('name:\tframe');
    await expect((async () => lab.process.ioctl(lab.fd, SET_NAME, new Uint8Array(32).fill(65)))()).rejects.toThrow(
      code('EINVAL'),
    );
  });

  it('lives as long as somebody is attached', async () => {
    await using lab = await open();
    const { process, fd, ops, file } = lab;
    const attachment = file.attach(importer());
    await process.close(fd);
    expect(ops.gone).toBe(false);
    expect(attachment.map()).toEqual([{ phys: 0xfea0_0000, length: size }]);
    await attachment.detach();
    expect(ops.gone).toBe(true);
    expect(ops.calls).toEqual(['attach gpu', 'map', 'unmap', 'detach gpu']);
  });

  it('tells importers that it is taken back, and counts nobody as using it afterwards', async () => {
    await using lab = await open();
    const told: string[] = [];
    const revocable = lab.file.attach(
      importer({
        invalidateMappings: () => {
          told.push('gpu');
        },
      }),
    );
    const other = lab.file.attach(importer({ name: 'nic' }));
    expect([revocable.revocable, other.revocable]).toEqual([true, false]);
    revocable.map();
    await lab.file.invalidateMappings();
    expect(told).toEqual(['gpu']);
    expect(revocable.mapped).toBe(false);
    await revocable.detach();
    await other.detach();
  });

  it('leaves nothing attached when its exporter refuses', async () => {
    await using lab = await open();
    lab.ops.attach = () => {
      throw new Error('no');
    };
    expect(() => lab.file.attach(importer())).toThrow('no');
    expect(lab.file.attachments).toEqual([]);
    expect(lab.file.count).toBe(1);
  });
});
