import { describe, expect, it } from 'vitest';
import {
  type Device,
  DmaEngine,
  formatReservedRegions,
  type IommuDomain,
  IommuProt,
  isKernelBug,
  mergeReservedRegions,
} from '../src/index.js';
import { IommuLab, vtd } from './iommu-lab.js';

const PAGE = 4096n;
const RW = IommuProt.READ | IommuProt.WRITE;
const code = (errno: string) => expect.objectContaining({ code: errno });

/** Two devices in one group, behind the unit. */
async function makePair() {
  const lab = await IommuLab.create();
  const first = await lab.addDevice('0000:00:02.0');
  const second = await lab.addDevice('0000:00:02.1');
  const group = lab.iommu.probeDevice(first);
  lab.iommu.probeDevice(second, { group });
  return { lab, first, second, group };
}

describe('group numbers', () => {
  it('are the lowest free ones, and free again with the last reference', async () => {
    const { iommu } = await IommuLab.create();
    const groups = [iommu.allocGroup(), iommu.allocGroup(), iommu.allocGroup()];
    expect(groups.map(({ id }) => id)).toEqual([0, 1, 2]);
    groups[1]?.get();
    groups[1]?.put();
    expect(iommu.allocGroup().id).toBe(3);
    groups[1]?.put();
    expect(iommu.groups.has(1)).toBe(false);
    expect(iommu.allocGroup().id).toBe(1);
  });
});

describe('the directory of a group', () => {
  it('shows a group of the hardware as Linux does', async () => {
    const lab = await IommuLab.create();
    const device = await lab.addDevice('0000:00:02.0');
    lab.iommu.allocGroup();
    lab.iommu.probeDevice(device);
    expect(lab.list('/kernel/iommu_groups/1')).toEqual(['devices', 'reserved_regions', 'type']);
    expect(await lab.root.readFile('/kernel/iommu_groups/1/type')).toBe('DMA-FQ\n');
    expect(await lab.root.readFile('/kernel/iommu_groups/1/reserved_regions')).toBe(
      '0x00000000fee00000 0x00000000feefffff msi\n',
    );
    expect(lab.list('/kernel/iommu_groups/1/devices')).toEqual(['0000:00:02.0']);
    expect(lab.root.readlink('/devices/0000:00:02.0/iommu_group')).toBe('../../kernel/iommu_groups/1');
    expect(lab.root.readlink('/kernel/iommu_groups/1/devices/0000:00:02.0')).toBe('../../../../devices/0000:00:02.0');
    expect(lab.log).toContain('pci 0000:00:02.0: Adding to iommu group 1');
  });

  it('shows a group without hardware as Linux does', async () => {
    const lab = await IommuLab.create();
    const device = await lab.addDevice('83b8f4f2-509f-382f-3c1e-e6bfe0fa1001');
    const group = lab.iommu.allocGroup('vfio-noiommu');
    lab.iommu.addDevice(group, device);
    expect(lab.list('/kernel/iommu_groups/0')).toEqual(['devices', 'name', 'reserved_regions', 'type']);
    expect(await lab.root.readFile('/kernel/iommu_groups/0/type')).toBe('unknown\n');
    expect(await lab.root.readFile('/kernel/iommu_groups/0/name')).toBe('vfio-noiommu\n');
    expect(await lab.root.readFile('/kernel/iommu_groups/0/reserved_regions')).toBe('');
    expect(lab.iommu.groupOf(device)).toBe(group);
  });

  it('goes with the last device once its maker has let go, and not before', async () => {
    const lab = await IommuLab.create();
    const device = await lab.addDevice('0000:00:02.0');
    const group = lab.iommu.allocGroup();
    lab.iommu.addDevice(group, device);
    group.put();
    expect(lab.list('/kernel/iommu_groups')).toEqual(['0']);
    lab.iommu.removeDevice(device);
    expect(lab.list('/kernel/iommu_groups')).toEqual([]);
    expect(lab.list('/devices/0000:00:02.0')).not.toContain('iommu_group');
    expect(lab.host.tracker.count('group')).toBe(0);
    expect(lab.log).toContain('pci 0000:00:02.0: Removing from iommu group 0');
  });

  it('numbers links of devices that have the same name', async () => {
    const lab = await IommuLab.create();
    const first = await lab.addDevice('dev');
    const second = await lab.devices.rootDeviceRegister('parent');
    const group = lab.iommu.allocGroup();
    lab.iommu.addDevice(group, first);
    second.name = 'dev';
    lab.iommu.addDevice(group, second);
    expect(lab.list('/kernel/iommu_groups/0/devices')).toEqual(['dev', 'dev.0']);
    lab.iommu.removeDevice(second);
    expect(lab.list('/kernel/iommu_groups/0/devices')).toEqual(['dev']);
  });

  it('takes a device into one group only', async () => {
    const { lab, first } = await makePair();
    const other = lab.iommu.allocGroup();
    const again = caught(() => lab.iommu.addDevice(other, first));
    expect(again).toSatisfy((error) => isKernelBug(error, 'driver'));
  });
});

describe('the type of a group', () => {
  const type = '/kernel/iommu_groups/0/type';

  it('can be changed while no driver is bound', async () => {
    const { lab, group } = await makePair();
    const old = group.defaultDomain;
    expect(await lab.root.writeFile(type, 'identity\n')).toBe(9);
    expect(await lab.root.readFile(type)).toBe('identity\n');
    expect(group.domain).toBe(group.defaultDomain);
    expect(group.domain).not.toBe(old);
    expect(lab.host.tracker.count('domain')).toBe(1);
    await lab.root.writeFile(type, 'auto');
    expect(await lab.root.readFile(type)).toBe('DMA-FQ\n');
    expect(lab.root.stat(type).mode & 0o777).toBe(0o644);
  });

  it('is refused with EINVAL, EPERM and EACCES', async () => {
    const { lab, group } = await makePair();
    await expect(lab.root.writeFile(type, 'blocked')).rejects.toEqual(code('EINVAL'));
    group.useDefaultDomain();
    await expect(lab.root.writeFile(type, 'identity')).rejects.toEqual(code('EPERM'));
    group.unuseDefaultDomain();
    lab.root.credentials.capabilities.delete('SYS_RAWIO');
    await expect(lab.root.writeFile(type, 'identity')).rejects.toEqual(code('EACCES'));
    const emulated = lab.iommu.allocGroup();
    lab.root.credentials.capabilities.add('SYS_RAWIO');
    await expect(lab.root.writeFile(`/kernel/iommu_groups/${emulated.id}/type`, 'DMA')).rejects.toEqual(code('EINVAL'));
  });
});

describe('reserved regions', () => {
  it('are sorted, and joined among those of one type', () => {
    const merged = mergeReservedRegions([
      { start: 0xfee0_0000n, end: 0xfeef_ffffn, type: 'msi' },
      { start: 0x2000n, end: 0x2fffn, type: 'direct' },
      { start: 0x1000n, end: 0x1fffn, type: 'direct' },
      { start: 0x1000n, end: 0x4fffn, type: 'reserved' },
      { start: 0x2800n, end: 0x28ffn, type: 'direct' },
      { start: 0x4000n, end: 0x4fffn, type: 'direct' },
      { start: 0x1000n, end: 0x1fffn, type: 'direct-relaxable' },
    ]);
    expect(formatReservedRegions(merged)).toBe(
      [
        '0x0000000000001000 0x0000000000002fff direct',
        '0x0000000000001000 0x0000000000001fff direct-relaxable',
        '0x0000000000001000 0x0000000000004fff reserved',
        '0x0000000000004000 0x0000000000004fff direct',
        '0x00000000fee00000 0x00000000feefffff msi',
        '',
      ].join('\n'),
    );
  });

  it('of all devices of a group count once, and a window picked by software reads as msi', async () => {
    const lab = await IommuLab.create({
      ...vtd,
      reserved: [{ start: 0x800_0000n, end: 0x80f_ffffn, type: 'sw-msi' }],
    });
    const [first, second] = [await lab.addDevice('a'), await lab.addDevice('b')];
    const own = { start: 0x10_0000n, end: 0x10_0fffn, type: 'direct' } as const;
    const group = lab.iommu.probeDevice(first, { reserved: [own] });
    lab.iommu.probeDevice(second, { group, reserved: [own] });
    expect(group.reservedRegions().map(({ type }) => type)).toEqual(['direct', 'sw-msi']);
    expect(await lab.root.readFile('/kernel/iommu_groups/0/reserved_regions')).toBe(
      '0x0000000000100000 0x0000000000100fff direct\n0x0000000008000000 0x00000000080fffff msi\n',
    );
    expect(group.defaultDomain?.iovaToPhys(0x10_0123n)).toBe(0x10_0123);
    expect(group.defaultDomain?.iovaToPhys(0x800_0000n)).toBeUndefined();
  });
});

describe('DMA ownership', () => {
  it('is refused with EPERM while a native driver uses a device', async () => {
    const { lab, first, group } = await makePair();
    lab.iommu.useDefaultDomain(first);
    expect(group.dmaOwnerClaimed()).toBe(true);
    expect(() => group.claimDmaOwner({})).toThrow(code('EPERM'));
    expect(() => lab.iommu.claimDeviceDmaOwner(first, {})).toThrow(code('EPERM'));
    lab.iommu.unuseDefaultDomain(first);
    expect(group.dmaOwnerClaimed()).toBe(false);
    group.claimDmaOwner({});
  });

  it('keeps further native drivers away with EBUSY while a foreign domain is attached under a native driver', async () => {
    const { lab, first, second, group } = await makePair();
    lab.iommu.useDefaultDomain(first);
    const domain = lab.iommu.allocDomain(first);
    group.attach(domain);
    expect(() => lab.iommu.useDefaultDomain(second)).toThrow(code('EBUSY'));
    group.detach(domain);
    lab.iommu.useDefaultDomain(second);
  });

  it('is one for a group, and keeps native drivers away with EBUSY', async () => {
    const { lab, second, group } = await makePair();
    const owner = {};
    group.claimDmaOwner(owner);
    expect(group.dmaOwnerClaimed()).toBe(true);
    expect(() => group.claimDmaOwner(owner)).toThrow(code('EPERM'));
    expect(() => lab.iommu.useDefaultDomain(second)).toThrow(code('EBUSY'));
    group.releaseDmaOwner();
    expect(group.dmaOwnerClaimed()).toBe(false);
    lab.iommu.useDefaultDomain(second);
  });

  it('is counted when it is claimed through devices', async () => {
    const { lab, first, second, group } = await makePair();
    const owner = {};
    lab.iommu.claimDeviceDmaOwner(first, owner);
    lab.iommu.claimDeviceDmaOwner(second, owner);
    expect(() => lab.iommu.claimDeviceDmaOwner(first, {})).toThrow(code('EPERM'));
    lab.iommu.releaseDeviceDmaOwner(first);
    expect(group.dmaOwnerClaimed()).toBe(true);
    expect(group.domain?.kind).toBe('blocked');
    lab.iommu.releaseDeviceDmaOwner(second);
    expect(group.dmaOwnerClaimed()).toBe(false);
    expect(group.domain).toBe(group.defaultDomain);
  });

  it('is refused with EBUSY while a foreign domain is attached', async () => {
    const { lab, first, group } = await makePair();
    const domain = lab.iommu.allocDomain(first);
    group.attach(domain);
    expect(() => group.claimDmaOwner({})).toThrow(code('EBUSY'));
    group.detach(domain);
    group.claimDmaOwner({});
  });

  it('needs a group, and devices in it', async () => {
    const lab = await IommuLab.create();
    const device = await lab.addDevice('a');
    expect(() => lab.iommu.claimDeviceDmaOwner(device, {})).toThrow(code('ENODEV'));
    expect(() => lab.iommu.allocGroup().claimDmaOwner({})).toThrow(code('ENODEV'));
    lab.iommu.useDefaultDomain(device);
    lab.iommu.unuseDefaultDomain(device);
  });

  it('that nobody has cannot be released without a warning', async () => {
    const { lab, group } = await makePair();
    group.releaseDmaOwner();
    group.unuseDefaultDomain();
    expect(lab.host.log.warnings()).toHaveLength(2);
    expect(group.dmaOwnerClaimed()).toBe(false);
  });

  it('leaves nothing behind when there is no memory for it', async () => {
    const { lab, group } = await makePair();
    const before = group.domain;
    using arm = lab.host.faults.failAt(0);
    expect(() => group.claimDmaOwner({})).toThrow(code('ENOMEM'));
    expect(arm.step).toBe('iommu_domain_alloc:domain');
    expect(group.dmaOwnerClaimed()).toBe(false);
    expect(group.domain).toBe(before);
  });
});

describe('attach and detach', () => {
  it('go from default to the domain, and back', async () => {
    const { lab, first, group } = await makePair();
    const domain = lab.iommu.allocDomain(first);
    group.attach(domain);
    expect(group.domain).toBe(domain);
    expect([...domain.groups]).toEqual([group]);
    group.detach(domain);
    expect(group.domain).toBe(group.defaultDomain);
    domain.free();
  });

  it('leave an owned group cut off in between', async () => {
    const { lab, first, group } = await makePair();
    const domain = lab.iommu.allocDomain(first);
    group.claimDmaOwner({});
    expect(group.domain?.kind).toBe('blocked');
    group.attach(domain);
    group.detach(domain);
    expect(group.domain?.kind).toBe('blocked');
    group.releaseDmaOwner();
    expect(group.domain).toBe(group.defaultDomain);
  });

  it('refuse a second domain with EBUSY, also the same one', async () => {
    const { lab, first, group } = await makePair();
    const [one, two] = [lab.iommu.allocDomain(first), lab.iommu.allocDomain(first)];
    group.attach(one);
    expect(() => group.attach(two)).toThrow(code('EBUSY'));
    expect(() => group.attach(one)).toThrow(code('EBUSY'));
    expect(group.domain).toBe(one);
    group.detach(two);
    expect(lab.host.log.warnings()).toHaveLength(1);
    expect(group.domain).toBe(one);
  });

  it('let two groups share a domain', async () => {
    const lab = await IommuLab.create();
    const [a, b] = [await lab.addDevice('a'), await lab.addDevice('b')];
    const groups = [lab.iommu.probeDevice(a), lab.iommu.probeDevice(b)];
    const domain = lab.iommu.allocDomain(a);
    for (const group of groups) group.attach(domain);
    expect(caught(() => domain.free())).toSatisfy((error) => isKernelBug(error, 'use-after-free'));
    for (const group of groups) group.detach(domain);
    domain.free();
  });

  it('refuse a group that has no hardware behind it', async () => {
    const { lab, first } = await makePair();
    const emulated = await lab.addDevice('mdev');
    const group = lab.iommu.allocGroup();
    const domain = lab.iommu.allocDomain(first);
    expect(() => group.attach(domain)).toThrow(code('EINVAL'));
    lab.iommu.addDevice(group, emulated);
    expect(() => group.attach(domain)).toThrow(code('EINVAL'));
    expect(() => lab.iommu.allocDomain(emulated)).toThrow(code('ENODEV'));
  });

  it('refuse a domain that the second unit cannot do', async () => {
    const lab = await IommuLab.create();
    const [a, b] = [await lab.addDevice('a'), await lab.addDevice('b')];
    const narrow = lab.iommu.addUnit({ ...vtd, aperture: [0n, 2n ** 39n - 1n] });
    lab.iommu.probeDevice(a);
    const group = lab.iommu.probeDevice(b, { unit: narrow });
    expect(() => group.attach(lab.iommu.allocDomain(a))).toThrow(code('EINVAL'));
    expect(group.domain).toBe(group.defaultDomain);
    lab.iommu.groupOf(a)?.attach(lab.iommu.allocDomain(b));
    expect(narrow.name).toBe('dmar1');
  });

  it('leave all as it was when a device cannot be attached', async () => {
    const { lab, first, group } = await makePair();
    const domain = lab.iommu.allocDomain(first);
    using arm = lab.host.faults.failOn(/^iommu_attach_group/, 2);
    expect(() => group.attach(domain)).toThrow(code('ENOMEM'));
    expect(arm.fired).toBe(true);
    expect(group.domain).toBe(group.defaultDomain);
    expect(domain.groups.size).toBe(0);
  });

  it('enforce coherency only where every unit behind the domain can', async () => {
    const lab = await IommuLab.create({ ...vtd, enforceCoherency: true });
    const weak = lab.iommu.addUnit({ ...vtd, enforceCoherency: false });
    const [a, b] = [await lab.addDevice('a'), await lab.addDevice('b')];
    const groups = [lab.iommu.probeDevice(a), lab.iommu.probeDevice(b, { unit: weak })];
    const domain = lab.iommu.allocDomain(a);
    for (const group of groups) group.attach(domain);
    expect(domain.enforceCoherency()).toBe(false);
    groups[1]?.detach(domain);
    expect(domain.enforceCoherency()).toBe(true);
    expect(() => groups[1]?.attach(domain)).toThrow(code('EINVAL'));
  });
});

describe('capabilities', () => {
  it('are those of the unit, and none without one', async () => {
    const lab = await IommuLab.create({ ...vtd, enforceCoherency: true, dirtyTracking: true });
    const [a, b] = [await lab.addDevice('a'), await lab.addDevice('b')];
    lab.iommu.probeDevice(a);
    lab.iommu.addDevice(lab.iommu.allocGroup(), b);
    const all = ['cache-coherency', 'enforce-cache-coherency', 'dirty-tracking'] as const;
    expect(all.map((capability) => lab.iommu.capable(a, capability))).toEqual([true, true, true]);
    expect(all.map((capability) => lab.iommu.capable(b, capability))).toEqual([false, false, false]);
    expect(lab.iommu.groupOf(a)?.hasIsolatedMsi()).toBe(true);
    expect(lab.iommu.groupOf(b)?.hasIsolatedMsi()).toBe(false);
  });

  it('of interrupts need every unit of the group', async () => {
    const lab = await IommuLab.create();
    const noremap = lab.iommu.addUnit({ ...vtd, msiIsolated: false });
    const [a, b] = [await lab.addDevice('a'), await lab.addDevice('b')];
    const group = lab.iommu.probeDevice(a);
    expect(group.hasIsolatedMsi()).toBe(true);
    lab.iommu.probeDevice(b, { group, unit: noremap });
    expect(group.hasIsolatedMsi()).toBe(false);
  });
});

describe('probe and remove', () => {
  it('need an IOMMU', async () => {
    const lab = await IommuLab.create('none');
    expect(lab.iommu.present).toBe(false);
    const device = await lab.addDevice('a');
    expect(() => lab.iommu.probeDevice(device)).toThrow(code('ENODEV'));
    lab.iommu.addDevice(lab.iommu.allocGroup('vfio-noiommu'), device);
    expect(lab.iommu.groupOf(device)?.type).toBe('unknown');
  });

  it('refuse a device whose unit cannot work in the domain of its group', async () => {
    const lab = await IommuLab.create();
    const narrow = lab.iommu.addUnit({ ...vtd, aperture: [0n, 2n ** 39n - 1n] });
    const [a, b] = [await lab.addDevice('a'), await lab.addDevice('b')];
    const group = lab.iommu.probeDevice(a);
    expect(() => lab.iommu.probeDevice(b, { unit: narrow, group })).toThrow(code('EINVAL'));
    expect(b.iommuGroup).toBeUndefined();
    expect(group.devices).toEqual([a]);
  });

  it('leave nothing behind, whichever step fails', async () => {
    const lab = await IommuLab.create();
    const unitDevice = await lab.devices.rootDeviceRegister('dmar0');
    unitDevice.sysfs.mkdir('devices');
    for (const unit of lab.iommu.units) unit.device = unitDevice;
    const device = await lab.addDevice('a');
    const options = { reserved: [{ start: 0x10_0000n, end: 0x10_1fffn, type: 'direct' as const }] };
    using recording = lab.host.faults.record();
    lab.iommu.probeDevice(device, options);
    recording.stop();
    expect(lab.root.readlink('/devices/a/iommu')).toBe('../dmar0');
    expect(lab.list('/devices/dmar0/devices')).toEqual(['a']);
    lab.iommu.removeDevice(device);
    expect(recording.steps.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['ida_alloc:iommu_group', 'sysfs_create_link:iommu_group', 'iommu_map:page-table']),
    );
    for (const [index, step] of recording.steps.entries()) {
      using arm = lab.host.faults.failAt(index);
      expect(() => lab.iommu.probeDevice(device, options), step.name).toThrow(code(step.code));
      expect(arm.step).toBe(step.name);
      expect(lab.list('/kernel/iommu_groups'), step.name).toEqual([]);
      expect(lab.list('/devices/a'), step.name).not.toContain('iommu_group');
      expect(lab.list('/devices/dmar0/devices'), step.name).toEqual([]);
      expect(device.iommuGroup).toBeUndefined();
      expect(lab.iommu.unitOf(device)).toBeUndefined();
      expect([lab.host.tracker.count('group'), lab.host.tracker.count('domain')], step.name).toEqual([0, 0]);
    }
  });

  it('warn of a group that loses its last device while somebody owns it', async () => {
    const lab = await IommuLab.create();
    const device = await lab.addDevice('a');
    const group = lab.iommu.probeDevice(device);
    group.claimDmaOwner({});
    lab.iommu.removeDevice(device);
    expect(lab.host.log.warnings()).toHaveLength(1);
    expect(lab.host.tracker.count('domain')).toBe(0);
  });

  it('follow the devices of a bus', async () => {
    const lab = await IommuLab.create();
    const groups = new Map<string, number | undefined>();
    using _watch = lab.iommu.watchBus(lab.bus, ({ name }) => (name === 'hidden' ? undefined : {}));
    const devices: Device[] = [];
    for (const name of ['a', 'hidden', 'b']) devices.push(await lab.addDevice(name));
    for (const device of devices) groups.set(device.name, device.iommuGroup?.id);
    expect([...groups]).toEqual([
      ['a', 0],
      ['hidden', undefined],
      ['b', 1],
    ]);
    for (const device of devices) await lab.devices.unregister(device);
    expect(lab.list('/kernel/iommu_groups')).toEqual([]);
    lab.host.faults.failOn('iommu_probe_device:dev_iommu');
    const unlucky = await lab.addDevice('c');
    expect(unlucky.iommuGroup).toBeUndefined();
  });
});

describe('DMA', () => {
  /** A device, and memory of four pages with a domain that maps it as pages 3, 2, 1 and 0 from 0x10000 on. */
  async function makeDma(prot = RW) {
    const lab = await IommuLab.create({ ...vtd, dirtyTracking: true });
    const device = await lab.addDevice('0000:00:02.0');
    const group = lab.iommu.probeDevice(device);
    const range = lab.memory.alloc(4, 'test');
    const phys = range.basePfn * 4096;
    const domain: IommuDomain = lab.iommu.allocDomain(device, { dirtyTracking: true });
    group.claimDmaOwner({});
    group.attach(domain);
    for (let page = 0; page < 4; page++)
      domain.map(0x10000n + BigInt(page) * PAGE, phys + (3 - page) * 4096, PAGE, prot);
    return { lab, device, group, domain, phys, dma: lab.iommu.dma(device) };
  }

  it('crosses mappings', async () => {
    const { dma, lab, phys } = await makeDma();
    const bytes = Uint8Array.from({ length: 8192 }, (_, index) => index >> 4);
    await dma.write(0x10800n, bytes);
    const back = new Uint8Array(8192);
    await dma.read(0x10800n, back);
    expect(back).toEqual(bytes);
    const page = new Uint8Array(4096);
    lab.memory.read(phys + 2 * 4096, page);
    expect(page).toEqual(bytes.subarray(2048, 2048 + 4096));
  });

  it('ends in a fault where nothing is mapped, with what came before done', async () => {
    const { dma, lab, phys } = await makeDma();
    const bytes = new Uint8Array(4096).fill(7);
    const fault = caught(() => dma.write(0x13800n, bytes));
    expect(fault).toMatchObject({
      code: 'EFAULT',
      name: 'DmaFault',
      iova: 0x14000n,
      write: true,
      subject: '0000:00:02.0',
    });
    const page = new Uint8Array(4096);
    lab.memory.read(phys, page);
    expect(page.indexOf(7)).toBe(2048);
    expect(lab.log.at(-1)).toBe(
      'DMAR: [DMA Write NO_PASID] Request device [00:02.0] fault addr 0x14000 [fault reason 0x05] PTE Write access is not set',
    );
  });

  it('respects permissions', async () => {
    const { dma, lab } = await makeDma(IommuProt.WRITE);
    await dma.write(0x10000n, new Uint8Array(4));
    expect(() => dma.read(0x10000n, new Uint8Array(4))).toThrow(code('EFAULT'));
    expect(lab.log.at(-1)).toContain('[DMA Read NO_PASID] Request device [00:02.0] fault addr 0x10000');
    const readOnly = await makeDma(IommuProt.READ);
    expect(() => readOnly.dma.write(0x10000n, new Uint8Array(4))).toThrow(code('EFAULT'));
    expect(() => readOnly.dma.view(0x10000n, 4, true)).toThrow(code('EFAULT'));
    expect(readOnly.dma.view(0x10000n, 4, false)).toHaveLength(4);
  });

  it('goes nowhere while the group is owned and attached to nothing, or beyond the aperture', async () => {
    const { dma, lab, group, domain } = await makeDma();
    expect(() => dma.read(2n ** 48n, new Uint8Array(1))).toThrow(code('EFAULT'));
    expect(lab.log.at(-1)).toContain('[fault reason 0x04] Access beyond MGAW');
    group.detach(domain);
    expect(() => dma.read(0x10000n, new Uint8Array(1))).toThrow(code('EFAULT'));
    expect(lab.log.at(-1)).toContain('[fault reason 0x02] Present bit in context entry is clear');
  });

  it('logs no more than ten faults in five seconds', async () => {
    const { dma, lab } = await makeDma();
    const faults = () => lab.log.filter((text) => text.startsWith('DMAR')).length;
    for (let i = 0; i < 15; i++) expect(() => dma.read(0n, new Uint8Array(1))).toThrow(code('EFAULT'));
    expect(faults()).toBe(10);
    await lab.clock.advance(5001);
    expect(() => dma.read(0n, new Uint8Array(1))).toThrow(code('EFAULT'));
    expect(faults()).toBe(11);
  });

  it('is the identity without hardware in front, and in an identity domain', async () => {
    const lab = await IommuLab.create({ ...vtd, defaultDomain: 'identity' });
    const range = lab.memory.alloc(1, 'test');
    const phys = BigInt(range.basePfn) * PAGE;
    const [behind, free] = [await lab.addDevice('a'), await lab.addDevice('b')];
    lab.iommu.probeDevice(behind);
    await lab.iommu.dma(behind).write(phys, Uint8Array.of(1, 2, 3));
    const back = new Uint8Array(3);
    await lab.iommu.dma(free).read(phys, back);
    expect([...back]).toEqual([1, 2, 3]);
    expect(() => lab.iommu.dma(free).read(2n ** 60n, back)).toThrow(code('EFAULT'));
  });

  it('gives memory without a copy where it is contiguous', async () => {
    const { dma, domain, lab, phys } = await makeDma();
    domain.map(0x20000n, phys, PAGE, RW);
    domain.map(0x21000n, phys + 4096, PAGE, RW);
    const view = dma.view(0x20ff0n, 32, true);
    view?.fill(9);
    const back = new Uint8Array(32);
    lab.memory.read(phys + 0xff0, back);
    expect(back.every((byte) => byte === 9)).toBe(true);
    expect(dma.view(0x11ff0n, 32, false)).toBeUndefined();
    expect(() => dma.view(0x21ff0n, 32, false)).toThrow(code('EFAULT'));
  });

  it('sets dirty bits where it writes, also through a view, and not where it reads', async () => {
    const { dma, domain } = await makeDma();
    const dirty = () => {
      const found: bigint[] = [];
      domain.readAndClearDirty(0x10000n, 4n * PAGE, (iova) => void found.push(iova));
      return found;
    };
    domain.setDirtyTracking(true);
    await dma.read(0x10000n, new Uint8Array(16384));
    expect(dirty()).toEqual([]);
    await dma.write(0x10ffcn, new Uint8Array(8));
    dma.view(0x13000n, 1, true);
    dma.view(0x12000n, 1, false);
    expect(dirty()).toEqual([0x10000n, 0x11000n, 0x13000n]);
    domain.setDirtyTracking(false);
    await dma.write(0x10000n, new Uint8Array(8));
    expect(dirty()).toEqual([]);
  });

  it('waits for memory that takes its time', async () => {
    const { lab, domain } = await makeDma();
    const calls: string[] = [];
    const slow = {
      read: async (phys: number, into: Uint8Array) => {
        await Promise.resolve();
        calls.push(`read ${into.length}`);
        into.fill(phys & 0xff);
      },
      write: async (_phys: number, from: Uint8Array) => {
        await Promise.resolve();
        calls.push(`write ${from.length}`);
      },
      view: () => undefined,
    };
    const dma = new DmaEngine('a', slow, undefined, { unit: () => lab.iommu.units[0], domain: () => domain });
    const pending = dma.read(0x10800n, new Uint8Array(4096));
    expect(pending).toBeInstanceOf(Promise);
    await pending;
    expect(calls).toEqual(['read 2048', 'read 2048']);
    await expect(dma.write(0x13ff0n, new Uint8Array(32))).rejects.toEqual(code('EFAULT'));
    expect(dma.view(0x10000n, 16, false)).toBeUndefined();
  });

  it('raises an interrupt by writing a message', async () => {
    const { dma, lab } = await makeDma();
    const [vector] = lab.irq.allocVectors({ min: 1, max: 1 });
    const message = new Uint8Array(4);
    new DataView(message.buffer).setUint32(0, vector!.message.data, true);
    await dma.write(vector!.message.address, message);
    expect([vector!.line.count, vector!.line.pending]).toEqual([0, false]); // nobody has requested it
    const action = vector!.line.request('test', () => 'handled');
    await dma.write(vector!.message.address, message);
    expect(vector!.line.count).toBe(1);
    vector!.line.free(action);
    expect(() => dma.write(vector!.message.address, new Uint8Array(8))).toThrow(code('EFAULT'));
  });
});

function caught(fn: () => unknown): unknown {
  try {
    fn();
  } catch (error) {
    return error;
  }
  return undefined;
}
