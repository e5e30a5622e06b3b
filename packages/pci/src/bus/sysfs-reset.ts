/*
 * Files about resets and power states of a function.
 */
import { type Attribute, SystemError, sysfsStreq } from '@vfio/host';
import type { PciDev } from './pci-dev.js';
import { powerName } from './power-state.js';
import { resetFunction } from './reset.js';
import { hasMethod, initResetMethods, type ResetMethod, resetMethodNames } from './reset-methods.js';
import { storedNumber } from './sysfs-number.js';

/** Functions that can not be reset have none. Source: drivers/pci/pci-sysfs.c pci_dev_reset_attrs, drivers/pci/pci.c pci_dev_reset_method_attrs */
export function resetAttributes(pdev: PciDev): Attribute[] {
  if (pdev.resetMethods.length === 0) return [];
  return [
    {
      name: 'reset',
      mode: 0o200,
      store: async (text) => {
        if (storedNumber(text) !== 1n) throw new SystemError('EINVAL', 'only 1 resets', { subject: pdev.name });
        await pdev.pm.resumeAndGet();
        try {
          await resetFunction(pdev);
        } finally {
          await pdev.pm.put();
        }
      },
    },
    {
      name: 'reset_method',
      mode: 0o644,
      // Without any there is no line either.
      show: () => (pdev.resetMethods.length === 0 ? '' : `${pdev.resetMethods.join(' ')}\n`),
      store: async (text) => await storeMethods(pdev, text),
    },
  ];
}

/** Source: drivers/pci/pci-sysfs.c power_state_show(), d3cold_allowed_store() */
export function powerAttributes(pdev: PciDev): Attribute[] {
  return [
    { name: 'power_state', mode: 0o444, show: () => `${powerName(pdev.currentState)}\n` },
    {
      name: 'd3cold_allowed',
      mode: 0o644,
      show: () => `${Number(pdev.d3coldAllowed)}\n`,
      store: (text) => {
        pdev.d3coldAllowed = storedNumber(text) !== 0n;
      },
    },
  ];
}

/**
 * Which methods are tried, and in which order; nothing changes unless all of them are there.
 *
 * @throws EINVAL - an unknown method, one that the function does not have, or more of them than there are
 * @source drivers/pci/pci.c reset_method_store()
 */
async function storeMethods(pdev: PciDev, text: string): Promise<void> {
  if (sysfsStreq(text, '')) {
    pdev.resetMethods = [];
    pdev.pciHost.log.warn('All device reset methods disabled by user', `pci ${pdev.name}`);
    return;
  }
  await pdev.pm.resumeAndGet();
  try {
    if (sysfsStreq(text, 'default')) initResetMethods(pdev);
    else pdev.resetMethods = parseMethods(pdev, text);
  } finally {
    await pdev.pm.put();
  }
}

function parseMethods(pdev: PciDev, text: string): ResetMethod[] {
  const words = text
    .split(' ')
    .map((word) => word.trim())
    .filter((word) => word !== '');
  const chosen = words.map((word) => {
    const method = resetMethodNames.find((name) => name === word);
    if (!method) throw new SystemError('EINVAL', `no reset method '${word}'`, { subject: pdev.name });
    if (!hasMethod(pdev, method)) throw new SystemError('EINVAL', `it has no reset by ${word}`, { subject: pdev.name });
    return method;
  });
  if (chosen.length > resetMethodNames.length)
    throw new SystemError('EINVAL', 'too many methods', { subject: pdev.name });
  return chosen;
}
