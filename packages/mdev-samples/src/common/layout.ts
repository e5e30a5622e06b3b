/** What the samples' device files have in common. */

/** Config space of every sample has one byte less than that of a PCI function. */
export const CONFIG_SPACE_SIZE = 0xff;
