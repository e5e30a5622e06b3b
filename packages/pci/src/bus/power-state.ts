/*
 * Names and numbers of power states.
 */
/** Source: include/linux/pci.h pci_power_t */
export const PowerState = { D0: 0, D1: 1, D2: 2, D3hot: 3, D3cold: 4 } as const;
export type PowerState = (typeof PowerState)[keyof typeof PowerState];

/** What files and messages call them. Source: drivers/pci/pci.c pci_power_names */
const names = ['D0', 'D1', 'D2', 'D3hot', 'D3cold'] as const;

/** The name of a state. Source: include/linux/pci.h pci_power_name() */
export function powerName(state: PowerState | 'unknown'): string {
  return state === 'unknown' ? state : names[state];
}
