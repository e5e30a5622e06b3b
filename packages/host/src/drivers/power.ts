/*
 * The directory `power/` of a device. Nothing in this host suspends a device by itself, so it shows what Linux shows of
 * a device whose driver has not enabled runtime power management.
 */
import { SystemError } from '../errors.js';
import type { AttributeGroup } from '../sysfs/attribute.js';
import type { SysfsDir } from '../sysfs/dir.js';
import type { LazyEntry } from '../sysfs/lazy.js';
import { sysfsStreq } from '../sysfs/parse.js';

/** Names of the files. */
const files = [
  'autosuspend_delay_ms',
  'control',
  'runtime_active_time',
  'runtime_status',
  'runtime_suspended_time',
] as const;

/** The same for all devices: what is different about one comes with its files. */
const entry: LazyEntry = { describeEntry: powerGroup };

/**
 * Gives a device its `power/`, whose files are made when somebody looks at them.
 *
 * @throws EEXIST, ENOENT, ENOMEM - as `SysfsDir.mkdir`
 * @source drivers/base/power/sysfs.c dpm_sysfs_add()
 */
export function addPowerGroup(dir: SysfsDir): void {
  dir.addLazyGroup('power', files, entry);
}

/**
 * The files of `power/`, with the state of one device behind them.
 *
 * @source drivers/base/power/sysfs.c pm_runtime_attrs
 */
function powerGroup(): AttributeGroup {
  let control: 'auto' | 'on' = 'auto';
  const noAutosuspend = () => {
    throw new SystemError('EIO', 'the device does not use autosuspend');
  };
  return {
    name: 'power',
    attributes: [
      { name: 'autosuspend_delay_ms', mode: 0o644, show: noAutosuspend, store: noAutosuspend },
      {
        name: 'control',
        mode: 0o644,
        show: () => `${control}\n`,
        store: (text) => {
          if (sysfsStreq(text, 'auto')) control = 'auto';
          else if (sysfsStreq(text, 'on')) control = 'on';
          else throw new SystemError('EINVAL', 'neither auto nor on');
        },
      },
      { name: 'runtime_active_time', mode: 0o444, show: () => '0\n' },
      { name: 'runtime_status', mode: 0o444, show: () => 'unsupported\n' },
      { name: 'runtime_suspended_time', mode: 0o444, show: () => '0\n' },
    ],
  };
}
