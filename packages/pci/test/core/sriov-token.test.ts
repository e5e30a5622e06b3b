import { Feature, FeatureFlag, Request } from '@vfio/core';
import { O } from '@vfio/host';
import { forEachFault } from '@vfio/testing';
import { describe, expect, it } from 'vitest';
import { PowerState } from '../../src/bus/power-state.js';
import { Pm } from '../../src/bus/regs.js';
import { setPowerState } from '../../src/core/power.js';
import { CONFIG, CoreLab, encode, errno, isolatingPort, NAME, numVfs, OpenFunction, physical } from './core-lab.js';

const VF = '0000:01:10.0';
const VF2 = '0000:01:10.2';
const TOKEN = '2ab74924-c335-45f4-9b16-8569e5b08258';
const OTHER_TOKEN = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
const bytesOf = (uuid: string) => [...Buffer.from(uuid.replaceAll('-', ''), 'hex')];

async function sriovLab(options: Parameters<typeof CoreLab.create>[0] = {}): Promise<CoreLab> {
  const { functions = [[8, isolatingPort([[0, physical()]])]], params = { enable_sriov: '1' }, ...rest } = options;
  return await CoreLab.create({ functions, params, bind: [NAME], ...rest });
}

const configure = (lab: CoreLab, count: number) =>
  lab.root.writeFile(`/sys/bus/pci/devices/${NAME}/sriov_numvfs`, String(count));

/** Opens a function by a name with a token, or tells why not. */
async function openBy(lab: CoreLab, name: string, token?: string): Promise<OpenFunction | unknown> {
  try {
    return await lab.open(name, { options: token === undefined ? '' : ` vf_token=${token}` });
  } catch (error) {
    return error;
  }
}

/** As `openBy`; what was opened is closed again. */
async function tried(lab: CoreLab, name: string, token?: string): Promise<unknown> {
  const process = lab.host.spawn();
  try {
    await lab.open(name, { process, options: token === undefined ? '' : ` vf_token=${token}` });
    return 'opened';
  } catch (error) {
    return error;
  } finally {
    await process.exit();
  }
}

describe('sriov_configure', () => {
  it('PCI-023 is ENOENT unless the parameter allows it, which is looked at each time', async () => {
    await using lab = await sriovLab({ params: {} });
    await expect(configure(lab, 1)).rejects.toEqual(errno('ENOENT'));
    await lab.root.writeFile('/sys/module/vfio_pci/parameters/enable_sriov', '1');
    await configure(lab, 1);
    await configure(lab, 0);
    await lab.unbind();
  });

  it('PCI-024 refuses a second number', async () => {
    const pf = physical();
    await using lab = await sriovLab({ functions: [[8, isolatingPort([[0, pf]])]] });
    await configure(lab, 1);
    const { driver } = lab.pdev();
    const device = lab.device();
    const { sriovConfigure } = await import('../../src/core/sriov.js');
    await expect(sriovConfigure(device, 2)).rejects.toEqual(errno('EINVAL'));
    expect(numVfs(pf)).toBe(1);
    expect(driver?.name).toBe('vfio-pci');
    await configure(lab, 0);
    // also while the first is still at it, and there are none yet
    device.sriovListed = true;
    await expect(sriovConfigure(device, 1)).rejects.toEqual(errno('EINVAL'));
    expect(numVfs(pf)).toBe(0);
    device.sriovListed = false;
    await lab.unbind();
  });

  it('PCI-025 captures new virtual functions for its own driver', async () => {
    await using lab = await sriovLab();
    await configure(lab, 2);
    for (const name of [VF, VF2]) {
      expect(lab.pdev(name).driverOverride).toBe('vfio-pci');
      expect(lab.pdev(name).driver?.name).toBe('vfio-pci');
      expect(lab.device(name).sriovPfCoreDev).toBe(lab.device(NAME));
    }
    await configure(lab, 0);
    await lab.unbind();
  });

  it('PCI-026 only warns of one that another driver gets', async () => {
    const { defineStubDrivers } = await import('../../src/stub-drivers.js');
    await using lab = await sriovLab();
    defineStubDrivers(lab.host);
    await lab.host.modules.modprobe('pci_stub');
    await configure(lab, 1);
    await lab.unbind(VF);
    await lab.root.writeFile(`/sys/bus/pci/devices/${VF}/driver_override`, 'pci-stub');
    await lab.root.writeFile('/sys/bus/pci/drivers/pci-stub/bind', VF);
    expect(lab.pdev(VF).driver?.name).toBe('pci-stub');
    expect(lab.host.log.entries.map(({ level, text }) => [level, text])).toContainEqual([
      'warn',
      `VF ${VF} bound to driver pci-stub while PF bound to driver vfio-pci`,
    ]);
    await configure(lab, 0);
    await lab.unbind();
  });

  it('PCI-027 keeps the physical function awake until there are none', async () => {
    await using lab = await sriovLab();
    const { pm } = lab.pdev();
    expect(pm.status).toBe('suspended');
    await configure(lab, 2);
    expect(pm.status).toBe('active');
    await configure(lab, 0);
    expect(pm.status).toBe('suspended');
    await lab.unbind();
  });

  it('PCI-028 keeps it in D0 whatever its user writes', async () => {
    await using lab = await sriovLab();
    await configure(lab, 1);
    const open = await lab.open(NAME, { options: ` vf_token=${TOKEN}` });
    const { pmCap } = lab.pdev();
    await open.write(CONFIG, pmCap + Pm.CTRL, [3, 0]);
    expect(lab.pdev().currentState).toBe(PowerState.D0);
    await expect(setPowerState(lab.device(), PowerState.D3hot)).rejects.toEqual(errno('EBUSY'));
    await open.process.exit();
    await configure(lab, 0);
    await expect(setPowerState(lab.device(), PowerState.D3hot)).resolves.toBeUndefined();
    await setPowerState(lab.device(), PowerState.D0);
    await lab.unbind();
  });

  it('PCI-011 CORE-031 a physical function that has virtual ones can not be bound', async () => {
    await using lab = await sriovLab({ bind: [] });
    const { enableSriov, disableSriov } = await import('../../src/bus/sriov.js');
    await enableSriov(lab.pdev(), 1);
    await expect(lab.bind()).rejects.toEqual(errno('EBUSY'));
    await disableSriov(lab.pdev());
    await lab.bind();
    await lab.unbind();
  });

  it('PCI-014 goes first when the driver goes', async () => {
    const pf = physical();
    await using lab = await sriovLab({ functions: [[8, isolatingPort([[0, pf]])]] });
    await configure(lab, 2);
    await lab.unbind();
    expect(numVfs(pf)).toBe(0);
    expect(lab.bus.findDevice(VF)).toBeUndefined();
  });

  it('PCI-029 a failing step leaves none, and the function asleep', { timeout: 120_000 }, async () => {
    const { steps } = await forEachFault({
      prepare: () => sriovLab(),
      scenario: async (lab) => {
        await configure(lab, 1);
        await configure(lab, 0);
      },
      check: async (lab) => {
        if ((lab.pdev().sriov?.numVfs ?? 0) > 0) await configure(lab, 0);
        const device = lab.device();
        expect([device.sriovListed, device.sriovActive]).toEqual([false, false]);
        expect(lab.pdev().pm.status).toBe('suspended');
        await configure(lab, 1);
        await configure(lab, 0);
        await lab.unbind();
      },
    });
    expect(steps.map(({ name }) => name)).toEqual(expect.arrayContaining(['pci_alloc_dev:dev']));
  });
});

describe('tokens', () => {
  it('PCI-030 CORE-148 a virtual function whose physical one is not in VFIO needs none and takes none', async () => {
    await using lab = await sriovLab({ bind: [] });
    const { enableSriov, disableSriov } = await import('../../src/bus/sriov.js');
    await enableSriov(lab.pdev(), 1);
    await lab.bind(VF);
    expect(await tried(lab, VF)).toBe('opened');
    expect(await tried(lab, VF, TOKEN)).toEqual(errno('EINVAL'));
    await lab.unbind(VF);
    await disableSriov(lab.pdev());
  });

  it('PCI-030 nor does one that somebody else than the driver has made', async () => {
    await using lab = await sriovLab();
    const { enableSriov, disableSriov } = await import('../../src/bus/sriov.js');
    await enableSriov(lab.pdev(), 1);
    expect(lab.device(VF).sriovPfCoreDev).toBeUndefined();
    expect(await tried(lab, VF)).toBe('opened');
    await disableSriov(lab.pdev());
    await lab.unbind();
  });

  it('PCI-031 CORE-148 one whose physical one is needs the right one', async () => {
    await using lab = await sriovLab();
    await configure(lab, 1);
    const pf = await openBy(lab, NAME, TOKEN);
    expect(pf).toBeInstanceOf(OpenFunction);
    expect(await tried(lab, VF)).toEqual(errno('EACCES'));
    expect(await tried(lab, VF, OTHER_TOKEN)).toEqual(errno('EACCES'));
    expect(await tried(lab, VF, TOKEN)).toBe('opened');
    expect(await tried(lab, VF, TOKEN.toUpperCase())).toBe('opened');
    if (pf instanceof OpenFunction) await pf.process.exit();
    await configure(lab, 0);
    await lab.unbind();
  });

  it('PCI-032 CORE-148 a physical function takes any while nobody has a virtual one, then only the right one', async () => {
    await using lab = await sriovLab();
    await configure(lab, 1);
    expect(await tried(lab, NAME)).toBe('opened');
    expect(await tried(lab, NAME, OTHER_TOKEN)).toBe('opened');
    expect(await tried(lab, NAME, TOKEN)).toBe('opened');
    const vf = await openBy(lab, VF, TOKEN);
    if (!(vf instanceof OpenFunction)) throw vf;
    expect(await tried(lab, NAME)).toEqual(errno('EACCES'));
    expect(await tried(lab, NAME, OTHER_TOKEN)).toEqual(errno('EACCES'));
    expect(await tried(lab, NAME, TOKEN)).toBe('opened');
    await vf.process.exit();
    expect(await tried(lab, NAME, OTHER_TOKEN)).toBe('opened');
    await configure(lab, 0);
    await lab.unbind();
  });

  it('PCI-033 CORE-148 any other function takes none', async () => {
    await using lab = await CoreLab.create({ bind: [NAME] });
    expect(await tried(lab, NAME)).toBe('opened');
    expect(await tried(lab, NAME, TOKEN)).toEqual(errno('EINVAL'));
    await lab.unbind();
  });

  it.each([
    ['X', 'ENODEV'],
    ['0 foo', 'ENODEV'],
    [' foo', 'EINVAL'],
    [` vf_token=${TOKEN} vf_token=${TOKEN}`, 'EINVAL'],
    [` vf_token=${TOKEN.slice(1)}`, 'EINVAL'],
    [` vf_token=${TOKEN.replaceAll('-', '+')}`, 'EINVAL'],
    [` vf_token=${TOKEN}x`, 'EINVAL'],
    [' vf_token', 'EINVAL'],
  ])('PCI-034 CORE-149 the name with "%s" behind it is %s', async (options, code) => {
    await using lab = await sriovLab();
    await expect(lab.open(NAME, { process: lab.root, options })).rejects.toEqual(errno(code));
  });

  it('CORE-149 spaces between and behind options do not matter', async () => {
    await using lab = await sriovLab();
    const open = await lab.open(NAME, { options: `   vf_token=${TOKEN}  ` });
    await open.process.exit();
    const bare = await lab.open(NAME, { options: ' ' });
    await bare.process.exit();
    await lab.unbind();
  });

  it('PCI-035 virtual functions are counted from the first open to the last close', async () => {
    await using lab = await sriovLab();
    await configure(lab, 1);
    await tried(lab, NAME, TOKEN);
    const token = lab.device().vfToken;
    const vf = await openBy(lab, VF, TOKEN);
    if (!(vf instanceof OpenFunction)) throw vf;
    expect(token?.users).toBe(1);
    const { process, group } = vf;
    const again = await process.ioctl(group, Request.GROUP_GET_DEVICE_FD, encode(`${VF} vf_token=${TOKEN}\0`));
    expect(token?.users).toBe(1);
    await process.close(again);
    expect(token?.users).toBe(1);
    await process.exit();
    expect(token?.users).toBe(0);
    await configure(lab, 0);
    await lab.unbind();
  });

  it('PCI-036 the feature sets it, also while virtual functions are open, and gives nothing away', async () => {
    await using lab = await sriovLab();
    await configure(lab, 1);
    const pf = await lab.open(NAME, { options: ` vf_token=${TOKEN}` });
    const vf = await openBy(lab, VF, TOKEN);
    if (!(vf instanceof OpenFunction)) throw vf;
    const feature = Feature.PCI_VF_TOKEN;
    await expect(pf.feature(feature | FeatureFlag.GET, bytesOf(TOKEN))).rejects.toEqual(errno('EINVAL'));
    await expect(vf.setFeature(feature, bytesOf(TOKEN))).rejects.toEqual(errno('ENOTTY'));
    await expect(pf.setFeature(feature, bytesOf(TOKEN).slice(1))).rejects.toEqual(errno('EINVAL'));
    expect(await pf.feature(feature | FeatureFlag.SET | FeatureFlag.PROBE)).toBe(0);
    expect(await pf.setFeature(feature, bytesOf(OTHER_TOKEN))).toBe(0);
    await vf.process.exit();
    expect(await tried(lab, VF, TOKEN)).toEqual(errno('EACCES'));
    expect(await tried(lab, VF, OTHER_TOKEN)).toBe('opened');
    await pf.process.exit();
    await configure(lab, 0);
    await lab.unbind();
  });

  it('CORE-148 come through a node of its own as 16 bytes, by the same rules', async () => {
    await using lab = await sriovLab({ vfio: { iommufd: true, deviceCdev: true } });
    await configure(lab, 1);
    const bind = async (name: string, token?: string): Promise<unknown> => {
      const process = lab.host.spawn();
      try {
        const fd = await process.open(`/dev/vfio/devices/${lab.device(name).name}`, O.RDWR);
        const iommufd = await process.open('/dev/iommu', O.RDWR);
        const request = new Uint8Array(24);
        const view = new DataView(request.buffer);
        const memory = await process.mm.mmap({ length: 4096, prot: 3 });
        for (const [at, byte] of (token ? bytesOf(token) : []).entries())
          process.mm.store(memory + BigInt(at), 1, BigInt(byte));
        view.setUint32(0, 24, true);
        view.setUint32(4, token ? 1 : 0, true);
        view.setInt32(8, iommufd, true);
        view.setBigUint64(16, token ? memory : 0n, true);
        await process.ioctl(fd, Request.DEVICE_BIND_IOMMUFD, request);
        return 'opened';
      } catch (error) {
        return error;
      } finally {
        await process.exit();
      }
    };
    expect(await bind(NAME, TOKEN)).toBe('opened');
    expect(await bind(VF)).toEqual(errno('EACCES'));
    expect(await bind(VF, OTHER_TOKEN)).toEqual(errno('EACCES'));
    expect(await bind(VF, TOKEN)).toBe('opened');
    await configure(lab, 0);
    await lab.unbind();
  });

  it('a physical function begins with one that nobody knows', async () => {
    await using lab = await sriovLab();
    await configure(lab, 1);
    expect(await tried(lab, VF, '00000000-0000-0000-0000-000000000000')).toEqual(errno('EACCES'));
    expect(lab.device().vfToken?.uuid.some((byte) => byte !== 0)).toBe(true);
    await configure(lab, 0);
    await lab.unbind();
  });
});
