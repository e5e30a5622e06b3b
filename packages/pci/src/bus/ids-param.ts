/*
 * The parameter `ids` of modules whose drivers take what administrators name.
 */
import { isSystemError } from '@vfio/host';
import { addDynid, PCI_ANY_ID, type PciDeviceId, type PciDriver } from './pci-driver.js';

const FIELD = /^(?:0x)?[0-9a-f]+/i;

/**
 * Adds the ids of a list to a driver: `vendor:device[:subvendor[:subdevice[:class[:class_mask]]]]` in hexadecimal, separated
 * by commas. What can not be read, or not be added, is only logged; empty entries are passed over.
 *
 * @param ids - what the parameter has; undefined: nothing
 * @source drivers/pci/pci-stub.c pci_stub_init(), drivers/vfio/pci/vfio_pci.c vfio_pci_fill_ids()
 */
export async function addIdsParam(driver: PciDriver, ids: string | undefined): Promise<void> {
  const { log } = driver.pci.bus.host;
  for (const text of (ids ?? '').split(',')) {
    if (text === '') continue;
    const id = parseIdText(text);
    if (!id) {
      log.warn(`invalid id string "${text}"`, driver.name);
      continue;
    }
    try {
      await addDynid(driver, id);
    } catch (error) {
      if (!isSystemError(error)) throw error;
      log.warn(`failed to add dynamic id ${idText(id)} (${error.errno})`, driver.name);
      continue;
    }
    log.info(`add ${idText(id)}`, driver.name);
  }
}

/** Fields up to the first that is none; undefined when there are not both vendor and device. */
function parseIdText(text: string): PciDeviceId | undefined {
  const fields: number[] = [];
  for (const part of text.split(':')) {
    const digits = FIELD.exec(part)?.[0];
    if (digits === undefined) break;
    fields.push(Number.parseInt(digits, 16) >>> 0);
    if (digits !== part) break;
  }
  const [vendor, device, subvendor = PCI_ANY_ID, subdevice = PCI_ANY_ID, cls = 0, classMask = 0] = fields;
  if (vendor === undefined || device === undefined) return undefined;
  return { vendor, device, subvendor, subdevice, class: cls, classMask };
}

function idText({ vendor, device, subvendor, subdevice, class: cls, classMask }: PciDeviceId): string {
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0');
  const ids = `[${hex(vendor, 4)}:${hex(device, 4)}[${hex(subvendor, 8)}:${hex(subdevice, 8)}]]`;
  return `${ids} class ${hex(cls, 6)}/${hex(classMask, 8)}`;
}
