/**
 * The module `mdev`: what makes the bus come and go.
 */
import type { Host } from '@vfio/host';
import { MdevBus } from './bus.js';

const VERSION = '0.1';

/**
 * Makes module `mdev` known to a host, for drivers to depend on. Every package that needs it may say so.
 *
 * @source drivers/vfio/mdev/mdev_core.c
 */
export function defineMdev(host: Host): void {
  if (host.modules.known().includes('mdev')) return;
  host.modules.define({
    name: 'mdev',
    version: VERSION,
    init: async ({ undo }) => {
      const bus = new MdevBus(host);
      await bus.register();
      undo.add(() => bus.unregister());
    },
  });
}

/**
 * The bus of mediated devices on a host.
 *
 * @throws TypeError - module `mdev` is not loaded
 */
export function mdevBus(host: Host): MdevBus {
  const bus = host.devices.findBus('mdev');
  if (bus instanceof MdevBus) return bus;
  throw new TypeError("module mdev is not loaded: host.modules.modprobe('mdev'), or depend on it");
}
