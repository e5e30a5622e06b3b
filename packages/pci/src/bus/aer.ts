/*
 * Errors that functions report: a function sets bits in its registers and sends a message, the root port above raises an interrupt,
 * and the kernel finds out who it was, counts, and recovers from what can not be corrected.
 */
import { Work } from '@vfio/host';
import { doRecovery } from './aer-recovery.js';
import { AER_BITS, type AerSeverity } from './aer-state.js';
import { readConfigDword, writeConfigDword } from './config.js';
import type { PciDev } from './pci-dev.js';
import { Err, ExpType } from './regs.js';

/**
 * A function tells its root port of an error. Called by hardware, so that nobody waits for the recovery that it may start. Where no
 * port listens, nothing happens.
 *
 * @source drivers/pci/pcie/aer.c aer_irq(), aer_isr(), aer_process_err_devices()
 */
export function reportError(pdev: PciDev, severity: AerSeverity): void {
  const port = rootPort(pdev);
  if (!port?.aer) return;
  const { log } = pdev.pciHost;
  const kind = severity === 'non-fatal' ? 'nonfatal' : severity;
  port.aer.root[kind]++;
  const text = { correctable: 'Correctable', 'non-fatal': 'Uncorrectable (Non-Fatal)', fatal: 'Uncorrectable (Fatal)' }[
    severity
  ];
  const line = `AER: ${text} error message received from ${pdev.name}`;
  if (severity === 'correctable') log.warn(line, port.logName());
  else log.err(line, port.logName());
  count(pdev, severity);
  if (severity === 'correctable') return;
  const { aerQueue } = pdev.pciBus.domain.type;
  pdev.get();
  aerQueue.queue(
    new Work(async () => {
      try {
        await doRecovery(pdev, severity);
      } finally {
        pdev.put();
      }
    }, `aer_isr ${pdev.name}`),
  );
}

/** Counts what the status registers say that is not masked, and clears what was handled. Source: pci_dev_aer_stats_incr() */
function count(pdev: PciDev, severity: AerSeverity): void {
  const { aer } = pdev;
  if (!aer) return;
  const correctable = severity === 'correctable';
  const at = aer.cap + (correctable ? Err.COR_STATUS : Err.UNCOR_STATUS);
  const all = readConfigDword(pdev, at);
  let bits = all & ~readConfigDword(pdev, aer.cap + (correctable ? Err.COR_MASK : Err.UNCOR_MASK));
  if (!correctable) {
    const severe = readConfigDword(pdev, aer.cap + Err.UNCOR_SEVER);
    bits &= severity === 'fatal' ? severe : ~severe;
  }
  const counters = correctable ? aer.correctable : severity === 'fatal' ? aer.fatal : aer.nonfatal;
  for (let bit = 0; bit < AER_BITS; bit++) if (((bits >>> bit) & 1) !== 0) counters[bit] = (counters[bit] ?? 0) + 1;
  if (bits !== 0) writeConfigDword(pdev, at, bits >>> 0);
}

/** The port that messages of a function end at. Source: drivers/pci/pci.c pcie_find_root_port() */
function rootPort(pdev: PciDev): PciDev | undefined {
  for (let at: PciDev | undefined = pdev; at; at = (at.physfn ?? at).pciBus.self) {
    if (at.isPcie && at.pcieType === ExpType.ROOT_PORT) return at;
  }
  return undefined;
}
