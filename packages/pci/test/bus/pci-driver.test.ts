import { Host, type Process, VirtualClock } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { type PciBusType, pciInit } from '../../src/bus/bus-type.js';
import { PCI_ANY_ID, PciDriver, registerDriver, unregisterDriver } from '../../src/bus/pci-driver.js';
import { defineStubDrivers } from '../../src/stub-drivers.js';
import { rootOf } from './fake-function.js';
import { q35, vtd } from './machine.js';

const BDF = '0000:00:02.0';
const any = {
  vendor: PCI_ANY_ID,
  device: PCI_ANY_ID,
  subvendor: PCI_ANY_ID,
  subdevice: PCI_ANY_ID,
  class: 0,
  classMask: 0,
};

interface Bed extends AsyncDisposable {
  readonly host: Host;
  readonly bus: PciBusType;
  readonly process: Process;
  readonly driver: PciDriver;
  readonly probed: string[];
  echo(path: string, text: string): Promise<unknown>;
  driverOf(bdf: string): string | undefined;
}

/** The machine with a driver that is like vfio-pci in what it matches. */
async function bed(): Promise<Bed> {
  const host = new Host({ checked: true, clock: new VirtualClock(), iommu: vtd });
  const bus = await pciInit(host);
  const probed: string[] = [];
  await bus.addRoot(rootOf(q35()));
  const driver = new PciDriver({
    name: 'vfio-pci',
    bus,
    idTable: [{ ...any, overrideOnly: true }],
    managesDma: true,
    probe: (pdev) => void probed.push(pdev.name),
  });
  await registerDriver(driver);
  const process = host.spawn();
  return {
    host,
    bus,
    process,
    driver,
    probed,
    echo: async (path, text) => {
      const fd = await process.open(`/sys/bus/pci/${path}`, 1);
      try {
        return await process.write(fd, Buffer.from(text));
      } finally {
        await process.close(fd);
      }
    },
    driverOf: (bdf) => bus.findDevice(bdf)?.driver?.name,
    [Symbol.asyncDispose]: async () => {
      await unregisterDriver(driver);
      await host[Symbol.asyncDispose]();
    },
  };
}

const code = (value: string) => expect.objectContaining({ code: value });

describe('match', () => {
  it('PCI-001 needs driver_override or an id for an entry that is for overrides only', async () => {
    await using at = await bed();
    expect(at.probed).toEqual([]);
    await expect(at.echo('drivers/vfio-pci/bind', BDF)).rejects.toEqual(code('ENODEV'));
  });

  it('PCI-002 follows driver_override, to any id, and to no other driver', async () => {
    await using at = await bed();
    await at.echo(`devices/${BDF}/driver_override`, 'vfio-pci');
    await at.echo('drivers_probe', BDF);
    expect(at.driverOf(BDF)).toBe('vfio-pci');
    await expect(at.echo('drivers/vfio-pci/bind', BDF)).rejects.toEqual(code('EBUSY'));
    await at.echo('drivers/vfio-pci/unbind', BDF);
    await at.echo(`devices/${BDF}/driver_override`, 'other');
    await expect(at.echo('drivers/vfio-pci/bind', BDF)).rejects.toEqual(code('ENODEV'));
    await at.echo('drivers/vfio-pci/new_id', '1234 11e8');
    expect(at.driverOf(BDF)).toBeUndefined();
  });

  it('PCI-003 binds by new_id without an override, at once, all that are like it', async () => {
    await using at = await bed();
    expect(await at.echo('drivers/vfio-pci/new_id', '1234 11e8')).toBe(9);
    expect(at.probed).toEqual([BDF, '0000:04:00.0', '0000:04:00.1', '0000:06:01.0', '0000:06:02.0']);
    await expect(at.echo('drivers/vfio-pci/new_id', '1234 11e8')).rejects.toEqual(code('EEXIST'));
    await at.echo('drivers/vfio-pci/remove_id', '1234 11e8');
    await expect(at.echo('drivers/vfio-pci/remove_id', '1234 11e8')).rejects.toEqual(code('ENODEV'));
    expect(at.driverOf(BDF)).toBe('vfio-pci');
    await at.echo('drivers/vfio-pci/unbind', BDF);
    await expect(at.echo('drivers/vfio-pci/bind', BDF)).rejects.toEqual(code('ENODEV'));
  });

  it('reads ids as the kernel does', async () => {
    await using at = await bed();
    for (const bad of ['x', '1234', '1234 ']) {
      await expect(at.echo('drivers/vfio-pci/new_id', bad)).rejects.toEqual(code('EINVAL'));
    }
    await expect(at.echo('drivers/vfio-pci/new_id', '1234 11e8 ffffffff ffffffff 0 0 7')).rejects.toEqual(
      code('EINVAL'),
    );
    await at.echo('drivers/vfio-pci/new_id', '0x1b36 5 ffffffff ffffffff ff00 ffffff');
    expect(at.driver.dynids).toEqual([{ ...any, vendor: 0x1b36, device: 5, class: 0xff00, classMask: 0xff_ffff }]);
    expect(at.probed).toEqual(['0000:00:03.0']);
  });

  it('believes whoever writes all fields of an id, also if the driver has it', async () => {
    await using at = await bed();
    await at.echo('drivers/vfio-pci/new_id', '1b36 5');
    await expect(at.echo('drivers/vfio-pci/new_id', '1b36 5 ffffffff ffffffff 0 0')).rejects.toEqual(code('EEXIST'));
    await at.echo('drivers/vfio-pci/new_id', '1b36 5 ffffffff ffffffff 0 0 0');
    expect(at.driver.dynids).toHaveLength(2);
    await at.echo('drivers/vfio-pci/remove_id', '1b36 5');
    expect(at.driver.dynids).toHaveLength(1);
  });
});

describe('stub drivers', () => {
  it('pci-stub leaves the group to VFIO, uio_pci_generic does not', async () => {
    await using at = await bed();
    defineStubDrivers(at.host);
    await at.host.modules.modprobe('pci-stub');
    await at.host.modules.modprobe('uio_pci_generic');
    const group = at.bus.find(0, 4, 1)?.iommuGroup;
    const owner = {};
    const sibling = '0000:04:00.1';
    await at.echo(`devices/${sibling}/driver_override`, 'pci-stub');
    await at.echo('drivers/pci-stub/bind', sibling);
    group?.claimDmaOwner(owner);
    await at.echo('drivers/pci-stub/unbind', sibling);
    await at.echo(`devices/${sibling}/driver_override`, 'uio_pci_generic');
    await expect(at.echo('drivers/uio_pci_generic/bind', sibling)).rejects.toEqual(code('EBUSY'));
    group?.releaseDmaOwner();
    await at.echo('drivers/uio_pci_generic/bind', sibling);
    expect(() => group?.claimDmaOwner(owner)).toThrow(code('EPERM'));
    expect(at.bus.find(0, 4, 1)?.enableCnt).toBe(1);
  });

  it('PCI-004 takes ids from its parameter, and warns of what it can not read', async () => {
    await using at = await bed();
    defineStubDrivers(at.host);
    await at.host.modules.modprobe('pci-stub', { ids: '8086,,1b36:5' });
    expect(at.driverOf('0000:00:03.0')).toBe('pci-stub');
    expect(at.host.log.entries.some(({ text }) => text.includes('invalid id string "8086"'))).toBe(true);
    await at.host.modules.rmmod('pci-stub');
    // One that is there twice is added twice.
    await at.host.modules.modprobe('pci-stub', { ids: '1b36:5,1b36:5' });
    await at.echo('drivers/pci-stub/remove_id', '1b36 5');
    await at.echo('drivers/pci-stub/remove_id', '1b36 5');
    await expect(at.echo('drivers/pci-stub/remove_id', '1b36 5')).rejects.toEqual(code('ENODEV'));
  });
});
