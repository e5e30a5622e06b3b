import { ProcessTransport, VfioClient } from '@vfio/client';
import { Request } from '@vfio/core';
import { O, PAGE_SIZE, Prot } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { peek, peekText } from '../src/trace/peek.js';
import { type TracedCall, type TraceOptions, Tracer, whose } from '../src/trace/tracer.js';
import { bitsText, bytesText } from '../src/trace/values.js';
import { createLab, uuids } from './lab.js';

/** A machine whose calls are written down, without who made them. */
async function createTraced(options: TraceOptions = {}) {
  const machine = await createLab();
  const calls: TracedCall[] = [];
  const process = machine.process({ comm: 'vmm' });
  const tracer = new Tracer(machine.host, (call) => calls.push(call), options);
  const lines = () => calls.splice(0).map(({ call, result }) => `${call} = ${result}`);
  return { machine, process, tracer, calls, lines };
}

async function openDevice() {
  const lab = await createTraced();
  const device = await new VfioClient(new ProcessTransport(lab.process)).openDevice(uuids[0]);
  return { ...lab, device };
}

describe('Tracer', () => {
  it('shows how a device is opened', async () => {
    const { lines } = await openDevice();
    expect(lines()).toEqual([
      'open("/dev/vfio/vfio", O_RDWR|O_CLOEXEC) = 0',
      'open("/dev/vfio/1", O_RDWR|O_CLOEXEC) = 1',
      'ioctl(1</dev/vfio/1>, VFIO_GROUP_SET_CONTAINER, [0]) = 0',
      'ioctl(0</dev/vfio/vfio>, VFIO_SET_IOMMU, TYPE1v2_IOMMU) = 0',
      `ioctl(1</dev/vfio/1>, VFIO_GROUP_GET_DEVICE_FD, "${uuids[0]}") = 2`,
    ]);
  });

  it('shows what goes in and what comes out', async () => {
    const { device, lines } = await openDevice();
    await device.info();
    lines();
    await device.irq(0);
    const region = await device.region(7);
    await region.read(0, 4);
    await device.migration.state();
    expect(lines()).toEqual([
      'ioctl(2<anon_inode:[vfio-device]>, VFIO_DEVICE_GET_IRQ_INFO, {argsz=16, index=0} => {flags=EVENTFD|MASKABLE|AUTOMASKED, count=1}) = 0',
      'ioctl(2<anon_inode:[vfio-device]>, VFIO_DEVICE_GET_REGION_INFO, {argsz=32, index=7} => {flags=READ|WRITE, cap_offset=0, size=0xff, offset=0x70000000000}) = 0',
      'pread(2<anon_inode:[vfio-device]>, "HCS2", 4, 0x70000000000 /* region 7 + 0x0 */) = 4',
      'ioctl(2<anon_inode:[vfio-device]>, VFIO_DEVICE_FEATURE, {argsz=16, flags=GET|MIG_DEVICE_STATE} => {{device_state=RUNNING, data_fd=-1}}) = 0',
    ]);
  });

  it('shows what follows a struct, and the names of capabilities', async () => {
    const { device, process, lines } = await openDevice();
    const event = process.eventfd();
    await device.info();
    const irq = await device.irq(0);
    lines();
    await irq.setEventfds([event]);
    await device.container.info();
    const [setIrqs, , info] = lines();
    expect(setIrqs).toContain('{argsz=24, flags=DATA_EVENTFD|ACTION_TRIGGER, index=0, start=0, count=1, [3]}) = 0');
    expect(info).toMatch(
      /{argsz=\d+} => {flags=PGSIZES\|CAPS, iova_pgsizes=0xf+000, .*caps=\[.*MIGRATION, DMA_AVAIL\]}/,
    );
  });

  it('shows errors by name and reason, and addresses that lead nowhere', async () => {
    const { process, lines } = await createTraced();
    const fd = await process.open('/dev/vfio/vfio', O.RDWR);
    await expect(process.ioctl(fd, Request.IOMMU_MAP_DMA, 0x1000n)).rejects.toThrow('EINVAL');
    await expect(process.ioctl(fd, 0x3bff, 7)).rejects.toThrow();
    await expect(process.open('/dev/vfio/99', O.RDONLY)).rejects.toThrow('ENOENT');
    const [, map, unknown, open] = lines();
    expect(map).toMatch(/^ioctl\(\d+<\/dev\/vfio\/vfio>, VFIO_IOMMU_MAP_DMA, 0x1000\) = -1 EINVAL \(.+\)$/);
    expect(unknown).toMatch(/^ioctl\(\d+<\/dev\/vfio\/vfio>, 0x3bff, 0x7\) = -1 E[A-Z]+ \(.+\)$/);
    expect(open).toMatch(/^open\("\/dev\/vfio\/99", O_RDONLY\) = -1 ENOENT \(.+\)$/);
  });

  it('reads structs in the byte order of the caller', async () => {
    const { machine, lines } = await createTraced();
    const process = machine.process({ byteOrder: 'big' });
    const fd = await process.open('/dev/vfio/1', O.RDWR);
    lines();
    const status = new Uint8Array(8);
    new DataView(status.buffer).setUint32(0, 8);
    await process.ioctl(fd, Request.GROUP_GET_STATUS, status);
    expect(lines()).toEqual(['ioctl(0</dev/vfio/1>, VFIO_GROUP_GET_STATUS, {argsz=8} => {flags=VIABLE}) = 0']);
  });

  it('leaves other files out unless asked', async () => {
    const { process, lines } = await createTraced();
    await process.open('/dev/null', O.RDWR);
    process.eventfd();
    await process.readFile('/sys/module/vfio/version');
    expect(lines()).toEqual([]);
    const all = await createTraced({ all: true });
    const fd = await all.process.open('/dev/null', O.RDWR);
    await all.process.close(fd);
    await expect(all.process.open('/nowhere', O.RDONLY)).rejects.toThrow('ENOENT');
    expect(all.lines()).toEqual([
      'open("/dev/null", O_RDWR) = 0',
      'close(0</dev/null>) = 0',
      expect.stringMatching(/^open\("\/nowhere", O_RDONLY\) = -1 ENOENT/),
    ]);
  });

  it('says who called and when, and ends with its scope', async () => {
    const { process, tracer, calls } = await createTraced();
    await process.open('/dev/vfio/vfio', O.RDWR);
    expect(calls).toEqual([expect.objectContaining({ pid: process.pid, comm: 'vmm', failed: false })]);
    expect(whose(process)).toBe(`[vmm/${process.pid}]`);
    tracer[Symbol.dispose]();
    await process.open('/dev/vfio/vfio', O.RDWR);
    expect(calls).toHaveLength(1);
  });

  it('tells of a call that has not come back when the trace ends', async () => {
    const { machine, process, tracer, lines } = await createTraced({ all: true });
    const event = process.eventfd();
    const waiting = process.read(event, new Uint8Array(8));
    lines();
    tracer[Symbol.dispose]();
    expect(lines()).toEqual([
      expect.stringMatching(/^read\(0<anon_inode:\[eventfd\]>, \.\.\., 8\) = \? <unfinished>$/),
    ]);
    machine.process();
    await process.write(event, new Uint8Array(new BigUint64Array([1n]).buffer));
    expect(await waiting).toBe(8);
    expect(lines()).toEqual([]);
  });
});

describe('peek', () => {
  it('reads up to the first byte that is not there', async () => {
    const machine = await createLab();
    const { mm } = machine.process();
    const start = mm.mmap({ length: PAGE_SIZE, prot: Prot.READ | Prot.WRITE });
    const end = start + BigInt(PAGE_SIZE);
    mm.copyTo(end - 5n, Uint8Array.of(1, 2, 3, 4, 5));
    expect([...peek(mm, end - 5n, 100)]).toEqual([1, 2, 3, 4, 5]);
    expect([...peek(mm, end - 5n, 3)]).toEqual([1, 2, 3]);
    expect([...peek(mm, end, 8)]).toEqual([]);
    expect([...peek(mm, 0n, 8)]).toEqual([]);
    expect([...peek(mm, end, 0)]).toEqual([]);
  });

  it('reads a text over a page boundary, and none without an end', async () => {
    const machine = await createLab();
    const { mm } = machine.process();
    const start = mm.mmap({ length: 2 * PAGE_SIZE, prot: Prot.READ | Prot.WRITE });
    const middle = start + BigInt(PAGE_SIZE);
    mm.copyTo(middle - 3n, new TextEncoder().encode('0000:01:00.0\0'));
    expect(peekText(mm, middle - 3n)).toBe('0000:01:00.0');
    mm.copyTo(middle + BigInt(PAGE_SIZE) - 2n, new TextEncoder().encode('ab'));
    expect(peekText(mm, middle + BigInt(PAGE_SIZE) - 2n)).toBeUndefined();
    expect(peekText(mm, 0n)).toBeUndefined();
  });
});

describe('texts', () => {
  it.each([
    [0n, '0'],
    [3n, 'READ|WRITE'],
    [0x11n, 'READ|0x10'],
  ])('of the bits %s: %s', (value, text) => {
    expect(bitsText(value, { READ: 1, WRITE: 2 })).toBe(text);
  });

  it('of bytes are escaped and cut', () => {
    expect(bytesText(Uint8Array.of(0x41, 0x22, 0x5c, 0x0a, 0xff))).toBe('"A\\x22\\x5c\\x0a\\xff"');
    expect(bytesText(new Uint8Array(17).fill(0x61))).toBe(`"${'a'.repeat(16)}"...`);
  });
});
