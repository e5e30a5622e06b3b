/*
 * Recovery from an error: everybody behind the link is asked what to do, the link is reset if the error was fatal, and each of the
 * drivers is taken through as many steps as the answers ask for. One that does not want ends the recovery for all.
 */
import type { PciDev } from './pci-dev.js';
import { type ErsResult, type PciErrorHandlers, pciDriverOf } from './pci-driver.js';
import { getAwake } from './power.js';
import { ExpType, HeaderType } from './regs.js';
import { bridgeSecondaryBusReset, hasMethod, resetFlr, slotCanReset } from './reset-methods.js';

/** A step of the recovery, as one driver sees it. */
type Step = (pdev: PciDev, handlers: PciErrorHandlers) => ErsResult | undefined | Promise<ErsResult | undefined>;

/**
 * Takes a function through the recovery from an error, with everything on its link.
 *
 * @returns how it ended: 'recovered', or what was in the way
 * @source drivers/pci/pcie/err.c pcie_do_recovery()
 */
export async function doRecovery(pdev: PciDev, severity: 'non-fatal' | 'fatal'): Promise<ErsResult> {
  const bridge = linkAbove(pdev);
  const affected = () => below(bridge);
  const awake = affected();
  for (const dev of awake) await getAwake(dev);
  try {
    const status = await recover(bridge, affected, severity);
    if (status === 'recovered') {
      pdev.pciHost.log.info('AER: device recovery successful', bridge.logName());
      return status;
    }
    for (const dev of affected()) await detected(dev, 'perm-failure');
    uevent(bridge, 'disconnect');
    pdev.pciHost.log.info('AER: device recovery failed', bridge.logName());
    return status;
  } finally {
    for (const dev of awake) await dev.pm.put();
  }
}

async function recover(
  bridge: PciDev,
  affected: () => readonly PciDev[],
  severity: 'non-fatal' | 'fatal',
): Promise<ErsResult> {
  const channel = severity === 'fatal' ? 'frozen' : 'normal';
  let status: ErsResult = 'can-recover';
  for (const dev of affected()) status = merge(status, await detected(dev, channel));
  if (severity === 'fatal' && !(await resetLink(bridge))) return 'disconnect';
  const walk = async (step: Step) => {
    status = 'recovered';
    for (const dev of affected()) status = merge(status, await tell(dev, step));
  };
  if (status === 'can-recover') await walk((dev, handlers) => handlers.mmioEnabled?.(dev));
  if (status === 'need-reset') await walk((dev, handlers) => handlers.slotReset?.(dev));
  if (status !== 'recovered') return status;
  for (const dev of affected()) {
    await tell(dev, async (at, handlers) => {
      await handlers.resume?.(at);
      uevent(at, 'recovered');
      return undefined;
    });
  }
  return status;
}

/** A port is above its link; others have theirs above them. */
function linkAbove(pdev: PciDev): PciDev {
  const { ROOT_PORT, DOWNSTREAM, RC_EC, RC_END } = ExpType;
  const own = pdev.isPcie && [ROOT_PORT, DOWNSTREAM, RC_EC, RC_END].some((type) => type === pdev.pcieType);
  return own ? pdev : ((pdev.physfn ?? pdev).pciBus.self ?? pdev);
}

/** Everything behind a bridge; one that has nothing behind it is meant itself. Source: drivers/pci/pcie/err.c pci_walk_bridge() */
function below(bridge: PciDev): readonly PciDev[] {
  const all = (devices: readonly PciDev[]): PciDev[] =>
    devices.flatMap((dev) => [dev, ...all(dev.subordinate?.devices ?? [])]);
  return bridge.subordinate ? all(bridge.subordinate.devices) : [bridge];
}

/** Source: drivers/pci/pcie/err.c report_error_detected() */
async function detected(pdev: PciDev, channel: 'normal' | 'frozen' | 'perm-failure'): Promise<ErsResult> {
  using _held = await pdev.lock.lock();
  let vote: ErsResult;
  const handlers = pciDriverOf(pdev)?.pci.errHandler;
  if (pdev.disconnected) vote = 'disconnect';
  // Without a driver that knows, nobody can say what a function is doing.
  else if (!handlers?.errorDetected) vote = pdev.hdrType === HeaderType.BRIDGE ? 'none' : 'no-aer-driver';
  else vote = await handlers.errorDetected(pdev, channel);
  uevent(pdev, vote);
  return vote;
}

/** One step with one driver, which may have none for it. Source: report_mmio_enabled(), report_slot_reset(), report_resume() */
async function tell(pdev: PciDev, step: Step): Promise<ErsResult> {
  using _held = await pdev.lock.lock();
  const handlers = pciDriverOf(pdev)?.pci.errHandler;
  return (handlers && (await step(pdev, handlers))) ?? 'none';
}

/** What all of them want, when one more has voted. Source: drivers/pci/pcie/err.c merge_result() */
function merge(before: ErsResult, vote: ErsResult): ErsResult {
  if (vote === 'no-aer-driver') return vote;
  if (vote === 'none') return before;
  if (before === 'can-recover' || before === 'recovered') return vote;
  if (before === 'disconnect' && vote === 'need-reset') return vote;
  return before;
}

/**
 * Resets the link below a port: by its slots if all of them can, else by the bridge; an endpoint of the root complex by FLR.
 *
 * @returns whether that went well
 * @source drivers/pci/pcie/aer.c aer_root_reset(), drivers/pci/pci.c pci_bus_error_reset()
 */
async function resetLink(bridge: PciDev): Promise<boolean> {
  const { subordinate } = bridge;
  if (!subordinate) {
    if (!hasMethod(bridge, 'flr')) return false;
    resetFlr(bridge, false);
    return true;
  }
  const { slots } = subordinate;
  if (slots.length === 0 || !slots.every(({ hotplug }) => slotCanReset(hotplug))) {
    bridgeSecondaryBusReset(bridge);
    return true;
  }
  for (const { hotplug } of slots) await hotplug?.resetSlot(false);
  return true;
}

/** Tells user space how it goes. Source: drivers/pci/pci-driver.c pci_uevent_ers() */
function uevent(pdev: PciDev, vote: ErsResult): void {
  const events: Partial<Record<ErsResult, readonly [string, string]>> = {
    none: ['BEGIN_RECOVERY', '0'],
    'can-recover': ['BEGIN_RECOVERY', '0'],
    recovered: ['SUCCESSFUL_RECOVERY', '1'],
    disconnect: ['FAILED_RECOVERY', '0'],
  };
  const [event, online] = events[vote] ?? [];
  if (event === undefined || online === undefined || !pdev.registered) return;
  pdev.pciHost.devices.uevent(pdev, 'change', { ERROR_EVENT: event, DEVICE_ONLINE: online });
}
