/*
 * Power states of functions.
 */
import type { PciDev } from './pci-dev.js';

/** Source: include/linux/pci.h pci_power_t */
export const PowerState = { D0: 0, D1: 1, D2: 2, D3hot: 3, D3cold: 4 } as const;
export type PowerState = (typeof PowerState)[keyof typeof PowerState];

/**
 * Moves a function to a state that it has; one without power management is in D0.
 *
 * @throws EIO - it did not get there, or can not
 * @throws EINVAL - not reachable from the present state
 * @source drivers/pci/pci.c pci_set_power_state()
 */
export async function setPowerState(_pdev: PciDev, _state: PowerState): Promise<void> {
  throw new TypeError('to come');
}
