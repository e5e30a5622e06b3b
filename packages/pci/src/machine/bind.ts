/*
 * What an administrator does once the modules are loaded: functions are given to drivers, and virtual functions enabled, by writing
 * to sysfs.
 */
import { type MachineContext, SectionError } from '@vfio/core';
import { type Host, isSystemError } from '@vfio/host';
import type { PciSection } from './section.js';

const DEVICES = '/sys/bus/pci/devices';
const DRIVERS = '/sys/bus/pci/drivers';
/** The driver of physical functions that nobody else wants. */
const PF_STUB = 'pci-pf-stub';

type Bind = NonNullable<PciSection['bind']>;

/** A function that a driver is to be given. */
interface Wanted {
  readonly name: string;
  readonly driver: string;
  readonly path: readonly (string | number)[];
}

/**
 * Binds functions, and enables virtual ones.
 *
 * @param numVfs - how many each physical function shall have
 * @throws SectionError - there is no such function or driver, or the driver does not take it
 */
export async function bindSection(
  { host }: MachineContext,
  { bind = {} }: PciSection,
  numVfs: ReadonlyMap<string, number>,
): Promise<void> {
  for (const driver of Object.keys(bind)) await loadDriver(host, driver);
  const wanted = wantedOf(bind);
  // what is only there when virtual functions are comes after them
  const early = wanted.filter(({ name }) => isPresent(host, name));
  for (const one of early) await bindTo(host, one);
  for (const [name, count] of numVfs) await enableVfs(host, name, count);
  for (const one of wanted.filter((each) => !early.includes(each))) await bindTo(host, one);
  for (const [driver, functions] of Object.entries(bind)) if (functions === 'all') await bindAll(host, driver);
}

function wantedOf(bind: Bind): Wanted[] {
  const wanted: Wanted[] = [];
  for (const [driver, functions] of Object.entries(bind)) {
    if (functions === 'all') continue;
    for (const [index, name] of functions.entries()) {
      const path = ['bind', driver, index];
      const other = wanted.find((one) => one.name === name);
      if (other) throw new SectionError(path, `${name} is for ${other.driver} already: remove one of both`);
      wanted.push({ name, driver, path });
    }
  }
  return wanted;
}

/** A driver that is not there yet may be a module's. */
async function loadDriver(host: Host, driver: string): Promise<void> {
  if (!has(host, DRIVERS, driver) && host.modules.known().includes(driver.replaceAll('-', '_'))) {
    await host.modules.modprobe(driver);
  }
  if (has(host, DRIVERS, driver)) return;
  const known = namesIn(host, DRIVERS).join(', ');
  throw new SectionError(['bind', driver], `bus pci has no driver '${driver}', only ${known}`);
}

async function bindTo(host: Host, { name, driver, path }: Wanted): Promise<void> {
  if (!isPresent(host, name)) {
    throw new SectionError(path, `there is no function ${name}: use one of those that vfio ls shows`);
  }
  const bound = driverOf(host, name);
  if (bound === driver) return;
  try {
    if (bound !== undefined) await write(host, `${DRIVERS}/${bound}/unbind`, name);
    await override(host, name, driver);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new SectionError(path, `${driver} does not take ${name}: ${error.message}`, { cause: error });
  }
}

/** Gives a driver whatever it takes of what has none. */
async function bindAll(host: Host, driver: string): Promise<void> {
  for (const name of namesIn(host, DEVICES)) {
    if (driverOf(host, name) !== undefined) continue;
    try {
      await override(host, name, driver);
    } catch (error) {
      // a bridge, or one that is known not to work
      if (!isSystemError(error)) throw error;
      await write(host, `${DEVICES}/${name}/driver_override`, '\n');
    }
  }
}

async function override(host: Host, name: string, driver: string): Promise<void> {
  await write(host, `${DEVICES}/${name}/driver_override`, driver);
  await write(host, `${DRIVERS}/${driver}/bind`, name);
}

async function enableVfs(host: Host, name: string, count: number): Promise<void> {
  const path = ['functions', name, 'numVfs'];
  if (!has(host, `${DEVICES}/${name}`, 'sriov_numvfs')) {
    throw new SectionError(path, 'it has no virtual functions: remove this');
  }
  try {
    if (driverOf(host, name) === undefined) {
      if (!has(host, DRIVERS, PF_STUB)) await host.modules.modprobe(PF_STUB);
      await override(host, name, PF_STUB);
    }
    await write(host, `${DEVICES}/${name}/sriov_numvfs`, String(count));
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new SectionError(path, `${count} can not be enabled: ${error.message}`, { cause: error });
  }
}

function isPresent(host: Host, name: string): boolean {
  return has(host, DEVICES, name);
}

function driverOf(host: Host, name: string): string | undefined {
  if (!has(host, `${DEVICES}/${name}`, 'driver')) return undefined;
  return host.init.readlink(`${DEVICES}/${name}/driver`).split('/').at(-1);
}

function has(host: Host, directory: string, name: string): boolean {
  return namesIn(host, directory).includes(name);
}

function namesIn(host: Host, directory: string): string[] {
  return host.init.readdir(directory).map((entry) => entry.name);
}

async function write(host: Host, path: string, text: string): Promise<void> {
  await host.init.writeFile(path, text);
}
