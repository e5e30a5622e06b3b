/*
 * Files about virtual functions: those of the physical one, through which they are made, and the one of each virtual one.
 */
import { type Attribute, isSystemError, kstrtobool, kstrtoint, kstrtouint, SystemError } from '@vfio/host';
import type { SriovState } from './iov.js';
import type { PciDev } from './pci-dev.js';
import { pciDriverOf } from './pci-driver.js';

const U16_MAX = 0xffff;

/** Source: drivers/pci/iov.c sriov_pf_attrs, sriov_vf_attrs */
export function sriovAttributes(pdev: PciDev): Attribute[] {
  if (pdev.isVirtfn) return [msixCount(pdev)];
  const { sriov } = pdev;
  if (!sriov) return [];
  const file = (name: string, value: () => string | number): Attribute => ({
    name,
    mode: 0o444,
    show: () => `${value()}\n`,
  });
  return [
    file('sriov_totalvfs', () => sriov.totalVfs),
    {
      name: 'sriov_numvfs',
      mode: 0o644,
      show: async () => await showNumVfs(pdev, sriov),
      store: async (text) => await storeNumVfs(pdev, sriov, text),
    },
    file('sriov_offset', () => sriov.offset),
    file('sriov_stride', () => sriov.stride),
    file('sriov_vf_device', () => sriov.vfDevice.toString(16)),
    {
      name: 'sriov_drivers_autoprobe',
      mode: 0o644,
      show: () => `${Number(sriov.driversAutoprobe)}\n`,
      store: (text) => {
        sriov.driversAutoprobe = kstrtobool(text);
      },
    },
    // No driver here moves vectors between virtual functions.
    file('sriov_vf_total_msix', () => 0),
  ];
}

/** Whoever changes the number has the lock. Source: drivers/pci/iov.c sriov_numvfs_show() */
async function showNumVfs(pdev: PciDev, sriov: SriovState): Promise<string> {
  using _held = await pdev.lock.lock();
  return `${sriov.numVfs}\n`;
}

/**
 * @throws EINVAL - not a number of 16 bits
 * @throws ERANGE - more than there can be
 * @throws ENOENT - no driver, or one that has no virtual functions
 * @throws EBUSY - there are some, and others are wanted
 * @throws what the driver says
 * @source drivers/pci/iov.c sriov_numvfs_store()
 */
async function storeNumVfs(pdev: PciDev, sriov: SriovState, text: string): Promise<void> {
  const count = parse(pdev, text);
  if (count > sriov.totalVfs) throw failure('ERANGE', pdev, `${count} of ${sriov.totalVfs}`);
  using _held = await pdev.lock.lock();
  if (count === sriov.numVfs) return;
  const { log } = pdev.pciHost;
  const driver = pciDriverOf(pdev);
  if (!driver?.pci.sriovConfigure) {
    const why = driver
      ? 'driver does not support SR-IOV configuration via sysfs'
      : 'no driver bound to device; cannot configure SR-IOV';
    log.info(why, pdev.logName());
    throw failure('ENOENT', pdev, why);
  }
  if (count > 0 && sriov.numVfs > 0) {
    log.warn(`${sriov.numVfs} VFs already enabled. Disable before enabling ${count} VFs`, pdev.logName());
    throw failure('EBUSY', pdev, `${sriov.numVfs} are enabled`);
  }
  const enabled = await driver.pci.sriovConfigure(pdev, count);
  if (count > 0 && enabled !== count) log.warn(`${count} VFs requested; only ${enabled} enabled`, pdev.logName());
}

/** What is no number of 16 bits is refused with the same errno, whatever is wrong with it. */
function parse(pdev: PciDev, text: string): number {
  let value: number;
  try {
    value = kstrtouint(text);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw failure('EINVAL', pdev, 'not a number');
  }
  if (value > U16_MAX) throw failure('EINVAL', pdev, `${value} has more than 16 bits`);
  return value;
}

/** Source: drivers/pci/iov.c sriov_vf_msix_count_store() */
function msixCount(pdev: PciDev): Attribute {
  return {
    name: 'sriov_vf_msix_count',
    mode: 0o200,
    store: (text) => {
      if (kstrtoint(text) < 0) throw failure('EINVAL', pdev, 'a negative number');
      throw failure('EOPNOTSUPP', pdev, 'the driver of its physical function does not move vectors');
    },
  };
}

function failure(
  code: 'EINVAL' | 'ERANGE' | 'ENOENT' | 'EBUSY' | 'EOPNOTSUPP',
  pdev: PciDev,
  reason: string,
): SystemError {
  return new SystemError(code, reason, { syscall: 'sriov_numvfs_store', subject: pdev.name });
}
