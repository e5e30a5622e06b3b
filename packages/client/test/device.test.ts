import { DeviceInfoFlag, deviceInfoCapPciAtomicComp, Feature, PciAtomicComp, pciHotReset, Request } from '@vfio/core';
import { describe, expect, it } from 'vitest';
import { createLab, failureOf } from './lab.js';
import { ModelRegion } from './model-device.js';

const orders = ['little', 'big'] as const;

describe('a device', () => {
  it.each(orders)('tells of itself, with capabilities, to a %s-endian program', async (byteOrder) => {
    await using lab = await createLab({ host: { byteOrder } });
    await using device = await lab.client.openDevice('model0');
    const { flags, numRegions, numIrqs, capabilities } = await device.info();
    expect(flags).toBe(DeviceInfoFlag.PCI | DeviceInfoFlag.RESET | DeviceInfoFlag.CAPS);
    expect([numRegions, numIrqs]).toEqual([4, 3]);
    expect(capabilities.map(({ id, version }) => [id, version])).toEqual([[5, 1]]);
    const [atomic] = capabilities;
    expect(deviceInfoCapPciAtomicComp.decode(atomic!.bytes, byteOrder).flags).toBe(PciAtomicComp.COMP64);
  });

  it('lists the regions and interrupts that it describes', async () => {
    await using lab = await createLab();
    await using device = await lab.client.openDevice('model0');
    expect((await device.regions()).map(({ index, size }) => [index, size])).toEqual([
      [0, 0x3000n],
      [1, 0n],
      [2, 100n],
    ]);
    expect((await device.irqs()).map(({ index, count }) => [index, count])).toEqual([
      [0, 1],
      [1, 4],
    ]);
    expect(await failureOf(device.region(ModelRegion.UNKNOWN))).toMatchObject({
      code: 'EINVAL',
      syscall: 'VFIO_DEVICE_GET_REGION_INFO',
      subject: 'model0',
    });
    expect(await failureOf(device.irq(2))).toMatchObject({ code: 'EINVAL', syscall: 'VFIO_DEVICE_GET_IRQ_INFO' });
  });

  it('does not take a failure for an index that is not there', async () => {
    await using lab = await createLab();
    await using device = await lab.client.openDevice('model0');
    using _arm = lab.host.faults.failOn('vfio_info_cap_add:memory', 2); // the first is GET_INFO's
    expect(await failureOf(device.regions())).toMatchObject({ code: 'ENOMEM' });
  });

  it('is reset', async () => {
    await using lab = await createLab();
    await using device = await lab.client.openDevice('model0');
    await device.writeRegion(0, 4, Uint8Array.of(1));
    await device.reset();
    expect(await device.readRegion(0, 4, 1)).toEqual(Uint8Array.of(0));
  });

  it('has features, which are probed without using them', async () => {
    await using lab = await createLab();
    await using device = await lab.client.openDevice('model0');
    expect(await device.hasFeature(Feature.PCI_VF_TOKEN, 'set')).toBe(true);
    expect(await device.hasFeature(Feature.PCI_VF_TOKEN, 'get')).toBe(false); // EINVAL
    expect(await device.hasFeature(Feature.LOW_POWER_EXIT, 'set')).toBe(false); // ENOTTY
    expect(lab.model().token).toBeUndefined();
    const token = Uint8Array.from({ length: 16 }, (_, i) => i);
    expect(await device.setFeature(Feature.PCI_VF_TOKEN, token)).toEqual(token);
    expect(lab.model().token).toEqual(token);
    expect(await failureOf(device.getFeature(Feature.LOW_POWER_EXIT, 0))).toMatchObject({
      code: 'ENOTTY',
      syscall: 'VFIO_DEVICE_FEATURE',
    });
  });

  it('says when probing itself failed', async () => {
    await using lab = await createLab();
    const device = await lab.client.openDevice('model0');
    await device.close();
    expect(await failureOf(device.hasFeature(Feature.MIGRATION, 'get'))).toMatchObject({ code: 'EBADF' });
  });
});

describe('PCI requests', () => {
  it.each(orders)(
    'list the functions of a hot reset, asked again for room, to a %s-endian program',
    async (byteOrder) => {
      await using lab = await createLab({ functions: 12, host: { byteOrder } });
      await using device = await lab.client.openDevice('model0');
      const functions = await device.hotResetInfo();
      expect(functions.length).toBe(12);
      expect([functions[0], functions[11]]).toEqual([
        { id: 30, byDeviceId: false, address: '0010:0a:04.0' },
        { id: 41, byDeviceId: false, address: '0010:0a:05.3' },
      ]);
    },
  );

  it.each(orders)('prove with groups that a slot may be reset, from a %s-endian program', async (byteOrder) => {
    await using lab = await createLab({ host: { byteOrder } });
    await using device = await lab.client.openDevice('model0');
    await device.hotReset([device.group]);
    const [reset] = lab.model().requests;
    expect(reset?.request).toBe(Request.DEVICE_PCI_HOT_RESET);
    const view = new DataView(reset!.bytes.buffer);
    expect(pciHotReset.decode(reset!.bytes, byteOrder)).toMatchObject({ argsz: 16, flags: 0, count: 1 });
    expect(view.getInt32(12, byteOrder === 'little')).toBe(device.group.fd);
  });

  it('connect an eventfd to a write, and disconnect it', async () => {
    await using lab = await createLab();
    await using device = await lab.client.openDevice('model0');
    const rom = await device.region(ModelRegion.ROM);
    await device.setIoeventfd(rom, 8, 2, 0xbeefn, 17);
    await device.setIoeventfd(rom, 8, 8, 1n, undefined);
    const views = lab.model().requests.map(({ bytes }) => new DataView(bytes.buffer));
    const told = views.map((view) => ({
      flags: view.getUint32(4, true),
      offset: view.getBigUint64(8, true),
      data: view.getBigUint64(16, true),
      fd: view.getInt32(24, true),
    }));
    expect(told).toEqual([
      { flags: 2, offset: (2n << 40n) + 8n, data: 0xbeefn, fd: 17 },
      { flags: 8, offset: (2n << 40n) + 8n, data: 1n, fd: -1 },
    ]);
  });

  it('ask for a plane of the display and its buffer', async () => {
    await using lab = await createLab();
    await using device = await lab.client.openDevice('model0');
    expect(await device.queryGfxPlane(6, 1)).toMatchObject({ drmFormat: 0x3432_5258, argsz: 64 });
    expect(await device.getGfxDmabuf(7)).toBe(107);
  });
});

describe('what an exercise uses', () => {
  it('reaches regions and interrupts by number', async () => {
    await using lab = await createLab();
    await using device = await lab.client.openDevice('model0');
    expect(await device.writeRegion(0, 0x10, Uint8Array.of(5, 6))).toBe(2);
    expect(await device.readRegion(0, 0x10, 2)).toEqual(Uint8Array.of(5, 6));
    const mapping = await device.mapRegion(0, 4096);
    expect([mapping.length, mapping.load(0x10, 2)]).toEqual([4096, 0x605n]);
    mapping.unmap();
    const eventfd = device.transport.eventfd();
    await device.setTriggers(0, [eventfd]);
    await device.mask(0);
    lab.model().irqs.raise(0);
    expect(device.transport.takeEvents(eventfd)).toBe(0n);
    await device.unmask(0);
    lab.model().irqs.raise(0);
    expect(device.transport.takeEvents(eventfd)).toBe(1n);
    await device.setTriggers(0, []);
    await device.transport.close(eventfd);
    expect(lab.host.tracker.count('eventfd')).toBe(0);
  });

  it.each([false, true])('finds a free place for memory (iommufd: %s)', async (iommufd) => {
    await using lab = await createLab({ iommufd });
    await using device = await (iommufd ? lab.client.openCdev('model0') : lab.client.openDevice('model0'));
    await using first = await device.mapMemory(8192);
    await using second = await device.mapMemory(4096);
    expect(second.iova >= first.iova + 8192n || second.iova + 4096n <= first.iova).toBe(true);
    second.write(8, Uint8Array.of(1, 2, 3));
    expect(second.read(9, 2)).toEqual(Uint8Array.of(2, 3));
    expect(await failureOf(device.mapMemory(4096, second.iova + 4096n))).toMatchObject({ code: 'ENOSPC' });
    await first[Symbol.asyncDispose]();
    await using again = await device.mapMemory(4096, second.iova);
    expect(again.iova).toBe(first.iova);
  });

  it('says ENOSPC when there are fewer vectors than eventfds', async () => {
    await using lab = await createLab({ vectors: 2 });
    await using device = await lab.client.openDevice('model0');
    const eventfds = [0, 1, 2].map(() => device.transport.eventfd());
    expect(await failureOf(device.setTriggers(1, eventfds))).toMatchObject({
      code: 'ENOSPC',
      message: "ENOSPC: fewer vectors than asked for, VFIO_DEVICE_SET_IRQS 'model0'",
    });
    await device.setTriggers(1, eventfds.slice(0, 2));
    for (const eventfd of eventfds) await device.transport.close(eventfd);
  });
});
