/**
 * The directories of a parent's types: `mdev_supported_types/<type>/` with its files, among them the one that creates
 * devices.
 */
import { type Attribute, type SysfsDir, SystemError, Undo } from '@vfio/host';
import { mdevDeviceCreate } from './device.js';
import { noMemory } from './errors.js';
import type { MdevParent } from './parent.js';
import type { MdevType } from './type.js';
import { guidParse, UUID_STRING_LEN } from './uuid.js';

/**
 * Makes `mdev_supported_types` with a directory for each type of a parent, all or none.
 *
 * @returns the directory
 * @throws ENOMEM - a directory could not be made, for whatever reason
 * @throws EEXIST - two types have one name
 * @source drivers/vfio/mdev/mdev_sysfs.c parent_create_sysfs_files()
 */
export async function createTypeDirs(parent: MdevParent): Promise<SysfsDir> {
  await using undo = new Undo();
  const typesDir = noMemory(() => parent.dev.sysfs.mkdir('mdev_supported_types'));
  undo.add(() => typesDir.remove());
  for (const type of parent.types) {
    mdevTypeAdd(parent, typesDir, type);
    undo.add(() => mdevTypeRemove(type));
  }
  undo.keep();
  return typesDir;
}

/**
 * Takes the types of a parent away, in their order. A type lives on while a device of it does.
 *
 * @source drivers/vfio/mdev/mdev_sysfs.c parent_remove_sysfs_files()
 */
export async function removeTypeDirs(parent: MdevParent, typesDir: SysfsDir): Promise<void> {
  for (const type of parent.types) await mdevTypeRemove(type);
  typesDir.remove();
}

/** Source: drivers/vfio/mdev/mdev_sysfs.c mdev_type_add() */
function mdevTypeAdd(parent: MdevParent, typesDir: SysfsDir, type: MdevType): void {
  const dir = typesDir.mkdir(`${parent.dev.driverString()}-${type.sysfsName}`);
  try {
    dir.addGroup({ attributes: typeAttributes(parent, type) });
    type.attach(
      parent,
      dir,
      noMemory(() => dir.mkdir('devices')),
    );
  } catch (error) {
    dir.remove();
    throw error;
  }
}

/** Source: drivers/vfio/mdev/mdev_sysfs.c mdev_type_remove() */
async function mdevTypeRemove(type: MdevType): Promise<void> {
  const { kref, sysfs } = type.registered;
  sysfs.remove();
  await sysfs.drained();
  kref.put();
}

/** The same files for every driver, in this order. */
function typeAttributes(parent: MdevParent, type: MdevType): Attribute[] {
  const ops = parent.driver.mdev;
  const attributes: Attribute[] = [
    { name: 'create', mode: 0o200, store: (text) => createStore(type, text) },
    { name: 'device_api', mode: 0o444, show: () => `${ops.deviceApi}\n` },
    { name: 'name', mode: 0o444, show: () => `${type.prettyName ?? type.sysfsName}\n` },
    { name: 'available_instances', mode: 0o444, show: () => `${availableInstances(parent, type) >>> 0}\n` },
  ];
  if (ops.showDescription) {
    attributes.push({ name: 'description', mode: 0o444, show: () => ops.showDescription?.(type) ?? '' });
  }
  return attributes;
}

function availableInstances(parent: MdevParent, type: MdevType): number {
  return parent.driver.mdev.getAvailable?.(type) ?? parent.availableInstances;
}

/** Source: drivers/vfio/mdev/mdev_sysfs.c create_store() */
async function createStore(type: MdevType, text: string): Promise<void> {
  // one more character is welcome, whatever it is; a newline, mostly
  if (text.length < UUID_STRING_LEN || text.length > UUID_STRING_LEN + 1) {
    throw new SystemError('EINVAL', `${text.length} characters are no UUID`);
  }
  type.parent.host.faults.check('create_store:text');
  await mdevDeviceCreate(type, guidParse(text));
}
