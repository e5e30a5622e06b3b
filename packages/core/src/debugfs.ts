// What debugfs shows of each registered device: /sys/kernel/debug/vfio/<parent>/.

import { isSystemError, type SysfsDir } from '@vfio/host';
import type { MigrationOps, VfioDevice } from './device.js';
import { VfioError } from './errors.js';
import { migStateName } from './migration.js';
import { MigrationFlag } from './uapi/vfio.js';

/** Name of VFIO's directory in debugfs. */
export const debugfsRoot = 'vfio';

/**
 * Makes the directory of a device that was registered; with migration, its state and features. Without it everything
 * goes on: a failure is only logged.
 *
 * @returns the directory, for drivers to add to; undefined on a kernel without
 * @source drivers/vfio/debugfs.c vfio_device_debugfs_init()
 */
export function addDebugDirectory(device: VfioDevice): SysfsDir | undefined {
  const { host, debugRoot } = device.vfio;
  let directory: SysfsDir | undefined;
  try {
    directory = debugRoot?.mkdir(device.dev.name);
    if (directory && device.migOps) addMigration(device, device.migOps, directory.mkdir('migration'));
  } catch (error) {
    if (!isSystemError(error)) throw error;
    host.log.err(`debugfs: ${error.message}`, device.dev.name);
  }
  return directory;
}

function addMigration(device: VfioDevice, ops: MigrationOps, directory: SysfsDir): void {
  const { debugfs } = device.vfio.host;
  debugfs.addText(directory, 'state', async () => {
    try {
      return `${migStateName(await ops.getState()) ?? 'Invalid'}\n`;
    } catch (cause) {
      throw new VfioError('EINVAL', 'the device does not tell its state', { subject: device.dev.name, cause });
    }
  });
  debugfs.addText(directory, 'features', () => features(device));
}

/** Source: drivers/vfio/debugfs.c vfio_device_features_read() */
function features(device: VfioDevice): string {
  const lines = [
    device.migrationFlags & MigrationFlag.STOP_COPY && 'stop-copy',
    device.migrationFlags & MigrationFlag.P2P && 'p2p',
    device.migrationFlags & MigrationFlag.PRE_COPY && 'pre-copy',
    device.logOps && 'dirty-tracking',
  ];
  return lines.map((line) => (line ? `${line}\n` : '')).join('');
}

/**
 * Takes the directory away, and waits for who is reading.
 *
 * @source drivers/vfio/debugfs.c vfio_device_debugfs_exit()
 */
export async function removeDebugDirectory(directory: SysfsDir | undefined): Promise<void> {
  directory?.remove();
  if (directory?.draining) await directory.drained();
}
