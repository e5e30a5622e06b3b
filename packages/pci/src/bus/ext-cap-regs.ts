/*
 * Registers of extended capabilities that nobody but the bus works with, and their bits. Offsets count from the first byte of the
 * capability.
 */

/** PASID capability: how many there are, and what they are used for. */
export const Pasid = {
  CAP: 4,
  CTRL: 6,
  CTRL_ENABLE: 0x0001,
  /** As a feature in either register. */
  EXEC: 0x0002,
  PRIV: 0x0004,
  CAP_WIDTH: 0x1f00,
  CAP_WIDTH_SHIFT: 8,
} as const;
