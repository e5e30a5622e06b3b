/*
 * Files that count errors: of a function by kind, and of a root port what it was told.
 */
import type { Attribute } from '@vfio/host';
import type { PciDev } from './pci-dev.js';
import { ExpType } from './regs.js';

/** Names of errors by their bit in the status registers. Source: drivers/pci/pcie/aer.c aer_correctable_error_string */
const correctable: Readonly<Record<number, string>> = {
  0: 'RxErr',
  6: 'BadTLP',
  7: 'BadDLLP',
  8: 'Rollover',
  12: 'Timeout',
  13: 'NonFatalErr',
  14: 'CorrIntErr',
  15: 'HeaderOF',
};
const CORRECTABLE_BITS = 16;

/** Source: drivers/pci/pcie/aer.c aer_uncorrectable_error_string */
const uncorrectable: Readonly<Record<number, string>> = {
  0: 'Undefined',
  4: 'DLP',
  5: 'SDES',
  12: 'TLP',
  13: 'FCP',
  14: 'CmpltTO',
  15: 'CmpltAbrt',
  16: 'UnxCmplt',
  17: 'RxOF',
  18: 'MalfTLP',
  19: 'ECRC',
  20: 'UnsupReq',
  21: 'ACSViol',
  22: 'UncorrIntErr',
  23: 'BlockedTLP',
  24: 'AtomicOpBlocked',
  25: 'TLPBlockedErr',
  26: 'PoisonTLPBlocked',
  27: 'DMWrReqBlocked',
  28: 'IDECheck',
  29: 'MisIDETLP',
  30: 'PCRC_CHECK',
  31: 'TLPXlatBlocked',
};
const UNCORRECTABLE_BITS = 32;

/** Functions that report no errors have none. Source: drivers/pci/pcie/aer.c aer_stats_attrs */
export function aerAttributes(pdev: PciDev): Attribute[] {
  const { aer } = pdev;
  if (!aer) return [];
  const file = (name: string, show: () => string): Attribute => ({ name, mode: 0o444, show });
  const { root } = aer;
  const port = pdev.pcieType === ExpType.ROOT_PORT || pdev.pcieType === ExpType.RC_EC;
  return [
    file('aer_dev_correctable', () =>
      list(correctable, CORRECTABLE_BITS, aer.correctable, 'aer_dev_correctable', 'COR'),
    ),
    file('aer_dev_fatal', () => list(uncorrectable, UNCORRECTABLE_BITS, aer.fatal, 'aer_dev_fatal', 'FATAL')),
    file('aer_dev_nonfatal', () =>
      list(uncorrectable, UNCORRECTABLE_BITS, aer.nonfatal, 'aer_dev_nonfatal', 'NONFATAL'),
    ),
    ...(port
      ? [
          file('aer_rootport_total_err_cor', () => `${root.correctable}\n`),
          file('aer_rootport_total_err_fatal', () => `${root.fatal}\n`),
          file('aer_rootport_total_err_nonfatal', () => `${root.nonfatal}\n`),
        ]
      : []),
  ];
}

/** A line for each kind that has a name, and for those without that have come. */
function list(
  names: Readonly<Record<number, string>>,
  bits: number,
  counters: readonly number[],
  file: string,
  total: string,
): string {
  let text = '';
  for (let bit = 0; bit < bits; bit++) {
    const count = counters[bit] ?? 0;
    const name = names[bit];
    if (name !== undefined) text += `${name} ${count}\n`;
    else if (count > 0) text += `${file}_bit[${bit}] ${count}\n`;
  }
  return `${text}TOTAL_ERR_${total} ${counters.reduce((sum, count) => sum + count, 0)}\n`;
}
