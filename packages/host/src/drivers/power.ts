/*
 * The directory `power/` of a device. Most devices are never suspended: of them it shows what Linux shows of a device whose
 * driver has not enabled runtime power management. Those that can wake the machine up have files more.
 */
import { SystemError } from '../errors.js';
import type { Attribute, AttributeGroup } from '../sysfs/attribute.js';
import type { SysfsDir } from '../sysfs/dir.js';
import type { LazyEntry } from '../sysfs/lazy.js';
import { sysfsStreq } from '../sysfs/parse.js';
import type { Device } from './device.js';
import type { RuntimePm } from './runtime-pm.js';
import { wakeupAttributes, wakeupFiles } from './wakeup.js';

/** Names of the files. */
const files = [
  'autosuspend_delay_ms',
  'control',
  'runtime_active_time',
  'runtime_status',
  'runtime_suspended_time',
] as const;

const filesWithWakeup = [...files, ...wakeupFiles];

/** The same for all devices without power management of their own: what is different about one comes with its files. */
const entry: LazyEntry = { describeEntry: () => powerGroup(undefined) };

/**
 * Gives a device its `power/`, whose files are made when somebody looks at them.
 *
 * @throws EEXIST, ENOENT, ENOMEM - as `SysfsDir.mkdir`
 * @source drivers/base/power/sysfs.c dpm_sysfs_add()
 */
export function addPowerGroup(dir: SysfsDir, dev: Device): void {
  const { pm, wakeup } = dev;
  if (wakeup) {
    const describeEntry = () => powerGroup(pm, wakeupAttributes(dev, wakeup));
    dir.addLazyGroup('power', filesWithWakeup, { describeEntry });
  } else dir.addLazyGroup('power', files, pm ? { describeEntry: () => powerGroup(pm) } : entry);
}

/**
 * The files of `power/`, with the state of one device behind them.
 *
 * @source drivers/base/power/sysfs.c pm_runtime_attrs
 */
function powerGroup(pm: RuntimePm | undefined, more: readonly Attribute[] = []): AttributeGroup {
  const noAutosuspend = () => {
    throw new SystemError('EIO', 'the device does not use autosuspend');
  };
  let wish: 'auto' | 'on' = 'auto';
  const shown = () => (pm ? (pm.allowed ? 'auto' : 'on') : wish);
  const store = async (control: 'auto' | 'on') => {
    wish = control;
    if (control === 'auto') await pm?.allow();
    else await pm?.forbid();
  };
  return {
    name: 'power',
    attributes: [
      { name: 'autosuspend_delay_ms', mode: 0o644, show: noAutosuspend, store: noAutosuspend },
      {
        name: 'control',
        mode: 0o644,
        show: () => `${shown()}\n`,
        store: async (text) => {
          if (sysfsStreq(text, 'auto')) await store('auto');
          else if (sysfsStreq(text, 'on')) await store('on');
          else throw new SystemError('EINVAL', 'neither auto nor on');
        },
      },
      { name: 'runtime_active_time', mode: 0o444, show: () => `${Math.floor(pm?.activeMs ?? 0)}\n` },
      { name: 'runtime_status', mode: 0o444, show: () => `${pm?.statusText ?? 'unsupported'}\n` },
      { name: 'runtime_suspended_time', mode: 0o444, show: () => `${Math.floor(pm?.suspendedMs ?? 0)}\n` },
      ...more,
    ],
  };
}
