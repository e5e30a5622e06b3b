export { DriverPackageError, discoverDrivers } from './discover.js';
export { MachineFileError, type Position } from './file-error.js';
export { deviceIds, type InventoryEntry } from './inventory.js';
export { type LoadOptions, Machine } from './machine.js';
export {
  type FileNumber,
  type IommuSection,
  type MachineFile,
  type ModuleEntry,
  machineFileVersion,
  machineSchema,
} from './schema.js';
