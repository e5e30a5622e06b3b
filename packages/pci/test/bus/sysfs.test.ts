import { Host, type Process, Prot, VirtualClock } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { type PciBusType, pciInit } from '../../src/bus/bus-type.js';
import { enableDevice } from '../../src/bus/enable.js';
import { stopAndRemoveBusDevice } from '../../src/bus/hotplug.js';
import type { PciDev } from '../../src/bus/pci-dev.js';
import { ExpType, Reg } from '../../src/bus/regs.js';
import { FakeFunction, pcieCap, rootOf } from './fake-function.js';
import { q35, vtd } from './machine.js';

const code = (value: string) => expect.objectContaining({ code: value });
const RDONLY = 0;
const WRONLY = 1;
const RDWR = 2;

async function cat(process: Process, path: string): Promise<string> {
  const fd = await process.open(path, RDONLY);
  try {
    const bytes = new Uint8Array(4096);
    const count = await process.read(fd, bytes);
    return Buffer.from(bytes.subarray(0, count)).toString('latin1');
  } finally {
    await process.close(fd);
  }
}

async function echo(process: Process, path: string, text: string): Promise<void> {
  const fd = await process.open(path, WRONLY);
  try {
    await process.write(fd, Buffer.from(text));
  } finally {
    await process.close(fd);
  }
}

interface Bed extends AsyncDisposable {
  readonly host: Host;
  readonly bus: PciBusType;
  readonly process: Process;
}

async function bed(functions = q35()): Promise<Bed> {
  const host = new Host({ checked: true, clock: new VirtualClock(), iommu: vtd, cpus: 2 });
  const bus = await pciInit(host);
  await bus.addRoot(rootOf(functions));
  return { host, bus, process: host.spawn(), [Symbol.asyncDispose]: () => host[Symbol.asyncDispose]() };
}

const at = (bdf: string) => `/sys/bus/pci/devices/${bdf}`;

describe('files of a function', () => {
  it('are there by what it has', async () => {
    await using b = await bed();
    const names = (bdf: string) => b.bus.findDevice(bdf)?.sysfs.list() ?? [];
    // From pci-bind.vfs and pci-sriov.vfs; what is of a platform with ACPI, or of another concern, is not looked at here.
    const common = [
      'aer',
      'ari_enabled',
      'broken_parity_status',
      'class',
      'config',
      'consistent_dma_mask_bits',
      'device',
      'dma_mask_bits',
      'driver_override',
      'enable',
      'iommu_group',
      'irq',
      'link',
      'local_cpulist',
      'local_cpus',
      'modalias',
      'msi_bus',
      'numa_node',
      'power',
      'remove',
      'rescan',
      'resource',
      'resource0',
      'revision',
      'subsystem',
      'subsystem_device',
      'subsystem_vendor',
      'uevent',
      'vendor',
    ];
    const links = ['current_link_speed', 'current_link_width', 'max_link_speed', 'max_link_width'];
    expect(names('0000:00:02.0')).toEqual(expect.arrayContaining(common));
    expect(names('0000:00:02.0')).not.toEqual(expect.arrayContaining(['current_link_speed']));
    expect(names('0000:01:00.0')).toEqual(expect.arrayContaining([...common, ...links]));
    expect(names('0000:00:08.0')).toEqual(expect.arrayContaining(['secondary_bus_number', 'subordinate_bus_number']));
    expect(names('0000:00:04.0')).toContain('boot_vga');
  });

  it('say what was read of it', async () => {
    await using b = await bed();
    const value = (name: string) => cat(b.process, `${at('0000:00:02.0')}/${name}`);
    expect(await value('vendor')).toBe('0x1234\n');
    expect(await value('device')).toBe('0x11e8\n');
    expect(await value('class')).toBe('0x00ff00\n');
    expect(await value('revision')).toBe('0x10\n');
    expect(await value('subsystem_vendor')).toBe('0x1af4\n');
    expect(await value('irq')).toBe('11\n');
    expect(await value('modalias')).toBe('pci:v00001234d000011E8sv00001AF4sd00001100bc00scFFi00\n');
    expect(await value('local_cpus')).toBe('3\n');
    expect(await value('local_cpulist')).toBe('0-1\n');
    expect(await value('msi_bus')).toBe('1\n');
    expect(await value('uevent')).toBe(
      [
        'PCI_CLASS=FF00',
        'PCI_ID=1234:11E8',
        'PCI_SUBSYS_ID=1AF4:1100',
        'PCI_SLOT_NAME=0000:00:02.0',
        'MODALIAS=pci:v00001234d000011E8sv00001AF4sd00001100bc00scFFi00\n',
      ].join('\n'),
    );
    const lines = (await value('resource')).trimEnd().split('\n');
    expect(lines).toHaveLength(13);
    expect(lines[0]).toMatch(/^0x00000000\w{3}00000 0x00000000\w{3}fffff 0x0000000000040200$/);
    expect((await cat(b.process, `${at('0000:00:08.0')}/resource`)).trimEnd().split('\n')).toHaveLength(17);
    expect(await cat(b.process, `${at('0000:01:00.0')}/max_link_speed`)).toBe('2.5 GT/s PCIe\n');
    expect(await cat(b.process, `${at('0000:03:00.0')}/ari_enabled`)).toBe('1\n');
    expect(await cat(b.process, `${at('0000:01:00.0')}/ari_enabled`)).toBe('0\n');
  });

  it('show config space, to users without rights its header only', async () => {
    await using b = await bed();
    const path = `${at('0000:00:02.0')}/config`;
    expect((await cat(b.process, path)).length).toBe(256);
    const user = b.host.spawn({ uid: 1000 });
    const header = await cat(user, path);
    expect(header.length).toBe(64);
    expect(header.charCodeAt(0)).toBe(0x34);
    await expect(user.open(path, RDWR)).rejects.toEqual(code('EACCES'));
    const fd = await b.process.open(path, RDWR);
    await b.process.pwrite(fd, Uint8Array.of(6, 0), Reg.COMMAND);
    expect(b.bus.find(0, 0, 0x10)?.hw.readConfig(Reg.COMMAND, 2)).toBe(6);
    await b.process.close(fd);
  });

  it('enable and disable what no driver has', async () => {
    await using b = await bed();
    const path = `${at('0000:00:02.0')}/enable`;
    const pdev = b.bus.find(0, 0, 0x10);
    await echo(b.process, path, '1');
    expect(await cat(b.process, path)).toBe('1\n');
    expect(pdev?.hw.readConfig(Reg.COMMAND, 2)).toBe(2);
    expect(await cat(b.process, `${at('0000:00:02.0')}/irq`)).toBe('18\n');
    await echo(b.process, path, '0');
    await expect(echo(b.process, path, '0')).rejects.toEqual(code('EIO'));
    await expect(echo(b.process, `${at('0000:00:08.0')}/enable`, '0')).rejects.toEqual(code('EBUSY'));
  });

  it('map BARs, and read and write ports', async () => {
    const fn = new FakeFunction({
      bars: { 0: { size: 0x2000 }, 2: { size: 0x20, bits: 1 }, 4: { size: 0x1000, bits: 8 } },
    });
    await using b = await bed(new Map([[0x10, fn]]));
    const pdev = b.bus.find(0, 0, 0x10) as PciDev;
    await enableDevice(pdev);
    expect(pdev.sysfs.list()).toEqual(expect.arrayContaining(['resource0', 'resource2', 'resource4', 'resource4_wc']));
    const fd = await b.process.open(`${at('0000:00:02.0')}/resource0`, RDWR);
    const address = await b.process.mmap(fd, { length: 0x1000, offset: 0x1000, prot: Prot.READ | Prot.WRITE });
    b.process.mm.store(address + 8n, 4, 0x1122_3344n);
    expect(fn.readBar(0, 0x1008, 4)).toBe(0x1122_3344);
    expect(b.process.mm.load(address + 8n, 8)).toBe(0x1122_3344n);
    await expect(b.process.mmap(fd, { length: 0x2000, offset: 0x1000, prot: Prot.READ })).rejects.toEqual(
      code('EINVAL'),
    );
    const ports = await b.process.open(`${at('0000:00:02.0')}/resource2`, RDWR);
    await b.process.pwrite(ports, Uint8Array.of(0x34, 0x12), 4);
    expect(fn.readBar(2, 4, 2)).toBe(0x1234);
    await expect(b.process.pwrite(ports, new Uint8Array(3), 4)).rejects.toEqual(code('EINVAL'));
  });
});

describe('firmware with ACPI', () => {
  async function described(): Promise<Bed> {
    const host = new Host({ checked: true, clock: new VirtualClock(), iommu: vtd });
    const bus = await pciInit(host);
    await bus.addRoot(rootOf(q35(), { acpi: true }));
    return { host, bus, process: host.spawn(), [Symbol.asyncDispose]: () => host[Symbol.asyncDispose]() };
  }
  const firmware = '/sys/devices/LNXSYSTM:00/LNXSYBUS:00';

  it('describes functions, and lets them wait for whom they need until a driver has them', async () => {
    await using b = await described();
    const names = (bdf: string) => b.bus.findDevice(bdf)?.sysfs.list() ?? [];
    expect(names('0000:03:00.0')).toEqual(expect.arrayContaining(['firmware_node', 'wakeup', 'waiting_for_supplier']));
    expect(await cat(b.process, `${at('0000:03:00.0')}/waiting_for_supplier`)).toBe('0\n');
    expect(names('0000:00:08.0')).toEqual(expect.arrayContaining(['firmware_node', 'wakeup']));
    // The driver of ports has it.
    expect(names('0000:00:08.0')).not.toContain('waiting_for_supplier');
  });

  it('has its objects in the order of the buses, and events under their names', async () => {
    await using b = await described();
    const { process } = b;
    expect(process.readlink('/sys/devices/pci0000:00/firmware_node')).toBe('../LNXSYSTM:00/LNXSYBUS:00/PNP0A08:00');
    expect(process.readlink(`${firmware}/PNP0A08:00/physical_node`)).toBe('../../../pci0000:00');
    expect(process.readlink('/sys/class/wakeup/wakeup0')).toBe('../../devices/virtual/wakeup/wakeup0');
    expect(await cat(process, '/sys/class/wakeup/wakeup0/name')).toBe('PNP0A08:00\n');
    const port = process
      .readlink(`${at('0000:00:08.0')}/firmware_node`)
      .split('/')
      .at(-1);
    const card = process.readlink(`${at('0000:01:00.0')}/firmware_node`);
    expect(card).toMatch(new RegExp(`^(../)+LNXSYSTM:00/LNXSYBUS:00/PNP0A08:00/${port}/device:[0-9a-f]{2}$`));
    expect(await cat(process, `${at('0000:00:1f.2')}/firmware_node/adr`)).toBe('0x001f0002\n');
    const [source] = process.readdir(`${at('0000:01:00.0')}/wakeup`);
    expect(await cat(process, `${at('0000:01:00.0')}/wakeup/${source?.name}/name`)).toBe(`${card.split('/').at(-1)}\n`);
  });

  it('keeps the object of a function that is gone, for the next one in its place', async () => {
    await using b = await described();
    const { process } = b;
    const node = process.readlink(`${at('0000:01:00.0')}/firmware_node`);
    const object = `${firmware}/${node.split('LNXSYBUS:00/')[1]}`;
    await stopAndRemoveBusDevice(b.bus.find(0, 1, 0) as PciDev);
    expect(process.readdir(object).map(({ name }) => name)).toEqual(['adr']);
    await echo(process, '/sys/bus/pci/rescan', '1');
    expect(process.readlink(`${at('0000:01:00.0')}/firmware_node`)).toBe(node);
    expect(process.readdir(object).map(({ name }) => name)).toEqual(['adr', 'physical_node']);
  });

  it('goes with its host bridge', async () => {
    await using b = await described();
    await b.bus.removeRoot(b.bus.domains[0]!);
    expect(b.process.readdir(firmware)).toEqual([]);
    expect(b.process.readdir('/sys/class/wakeup')).toEqual([]);
  });

  it('is left away where there is none', async () => {
    await using b = await bed();
    const missing = ['firmware_node', 'wakeup', 'waiting_for_supplier', 'iommu'];
    for (const dev of b.bus.devices) expect(dev.sysfs.list().filter((name) => missing.includes(name))).toEqual([]);
    expect(b.process.readdir('/sys/devices').map(({ name }) => name)).not.toContain('LNXSYSTM:00');
    expect(b.process.readdir('/sys/class').map(({ name }) => name)).not.toContain('iommu');
  });
});

describe('numbers that are written', () => {
  it('are refused alike, whatever is wrong with them', async () => {
    await using b = await bed();
    const files = ['numa_node', 'enable', 'broken_parity_status', 'msi_bus', 'd3cold_allowed', 'rescan', 'remove'];
    for (const name of files) {
      for (const text of ['x', 'y', 'on', '1 2', '99999999999999999999']) {
        const written = echo(b.process, `${at('0000:01:00.0')}/${name}`, text);
        await expect(written, `${text} > ${name}`).rejects.toEqual(expect.objectContaining({ code: 'EINVAL' }));
      }
    }
    await expect(echo(b.process, '/sys/bus/pci/rescan', 'y')).rejects.toEqual(
      expect.objectContaining({ code: 'EINVAL' }),
    );
    // Any number but 0 will do.
    await echo(b.process, `${at('0000:01:00.0')}/rescan`, '2');
    expect(await cat(b.process, `${at('0000:01:00.0')}/enable`)).toBe('0\n');
  });
});

describe('the IOMMU of functions', () => {
  it('is a device with links to and from those behind it', async () => {
    await using host = new Host({ checked: true, clock: new VirtualClock(), iommu: { ...vtd, name: 'dmar0' } });
    const bus = await pciInit(host);
    await bus.addRoot(rootOf(q35()));
    const process = host.spawn();
    const names = (path: string) => process.readdir(path).map(({ name }) => name);
    expect(process.readlink('/sys/class/iommu/dmar0')).toBe('../../devices/virtual/iommu/dmar0');
    expect(names('/sys/class/iommu/dmar0').sort()).toEqual(['devices', 'power', 'subsystem', 'uevent']);
    expect(names('/sys/class/iommu/dmar0/devices').sort()).toEqual(bus.devices.map(({ name }) => name).sort());
    expect(process.readlink(`${at('0000:00:02.0')}/iommu`)).toBe('../../virtual/iommu/dmar0');
    const back = process.readlink('/sys/class/iommu/dmar0/devices/0000:01:00.0');
    expect(back).toBe('../../../../pci0000:00/0000:00:08.0/0000:01:00.0');
    await stopAndRemoveBusDevice(bus.find(0, 1, 0) as PciDev);
    expect(names('/sys/class/iommu/dmar0/devices')).not.toContain('0000:01:00.0');
  });

  it('shows what its driver knows of it', async () => {
    const groups = [{ name: 'intel-iommu', attributes: [{ name: 'version', mode: 0o444, show: () => '1:0\n' }] }];
    await using host = new Host({ checked: true, clock: new VirtualClock(), iommu: { ...vtd, name: 'dmar0', groups } });
    await pciInit(host);
    expect(await cat(host.spawn(), '/sys/class/iommu/dmar0/intel-iommu/version')).toBe('1:0\n');
  });
});

describe('/sys/bus/pci', () => {
  it('has what the bus has', async () => {
    await using b = await bed();
    const dir = b.host.sysfs.bus.lookup('pci');
    const names = dir?.kind === 'dir' ? dir.list().sort() : [];
    expect(names).toEqual([
      'devices',
      'drivers',
      'drivers_autoprobe',
      'drivers_probe',
      'rescan',
      'resource_alignment',
      'slots',
      'uevent',
    ]);
    expect(b.bus.slotsDir.list()).toHaveLength(5);
  });

  it('PCI Express links are not those of the root complex', async () => {
    const fn = new FakeFunction({ pcie: true, caps: [pcieCap(ExpType.RC_END)] });
    await using b = await bed(new Map([[0x10, fn]]));
    expect(b.bus.find(0, 0, 0x10)?.sysfs.list()).not.toContain('max_link_speed');
  });
});
