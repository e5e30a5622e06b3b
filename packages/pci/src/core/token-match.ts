/*
 * Who may open a function: the name that GET_DEVICE_FD is given may carry a token, and a function that belongs to somebody opens
 * only with the right one.
 */
import type { ErrnoCode } from '@vfio/host';
import type { PciCoreDevice } from './core-device.js';
import { failure } from './pci-failure.js';
import { TOKEN_SIZE } from './vf-token.js';

const OPTION = 'vf_token=';
/** Characters of a UUID as text. Source: include/linux/uuid.h UUID_STRING_LEN */
const UUID_STRING_LEN = 36;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/**
 * Whether a name means the device: that of the function, maybe with options behind a space.
 *
 * @throws EINVAL - an option that is unknown or comes twice, no UUID; a token for a function that has none
 * @throws EACCES - the token is missing or wrong
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_match()
 */
export async function coreMatch(device: PciCoreDevice, text: string): Promise<boolean> {
  const { name } = device.pdev;
  if (!text.startsWith(name)) return false;
  const options = text.slice(name.length);
  if (options !== '' && !options.startsWith(' ')) return false;
  let uuid: Uint8Array | undefined;
  for (let at = 0; at < options.length; ) {
    if (options[at] === ' ') {
      at++;
      continue;
    }
    if (uuid || !options.startsWith(OPTION, at)) throw refused(device, 'EINVAL', `option "${options.slice(at)}"`);
    at += OPTION.length;
    uuid = parseUuid(device, options.slice(at, at + UUID_STRING_LEN));
    at += UUID_STRING_LEN;
  }
  await device.matchTokenUuid(uuid);
  return true;
}

/**
 * Checks a token, or that there is none. A physical function whose virtual ones nobody uses takes the token that it is given.
 *
 * @throws EINVAL - the function has nothing to do with tokens
 * @throws EACCES - it is missing or wrong
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_match_token_uuid()
 */
export async function coreMatchTokenUuid(device: PciCoreDevice, uuid: Uint8Array | undefined): Promise<void> {
  const { pdev, sriovPfCoreDev, vfToken } = device;
  if (pdev.isVirtfn && sriovPfCoreDev) {
    if (!uuid) throw refused(device, 'EACCES', 'VF token required to access device');
    if (!sriovPfCoreDev.vfToken?.equals(uuid)) {
      throw refused(device, 'EACCES', 'Incorrect VF token provided for device');
    }
  } else if (vfToken) {
    if (vfToken.users > 0) {
      if (!uuid) throw refused(device, 'EACCES', 'VF token required to access device in use');
      if (!vfToken.equals(uuid)) throw refused(device, 'EACCES', 'Incorrect VF token provided for device in use');
    } else if (uuid) vfToken.uuid = Uint8Array.from(uuid);
  } else if (uuid) throw refused(device, 'EINVAL', 'it has no VF token');
}

/** @throws EINVAL - not a UUID. Source: lib/uuid.c uuid_parse() */
function parseUuid(device: PciCoreDevice, text: string): Uint8Array {
  if (!UUID.test(text)) throw refused(device, 'EINVAL', `"${text}" is no UUID`);
  const digits = text.replaceAll('-', '');
  return Uint8Array.from({ length: TOKEN_SIZE }, (_, byte) =>
    Number.parseInt(digits.slice(2 * byte, 2 * byte + 2), 16),
  );
}

function refused({ pdev }: PciCoreDevice, code: ErrnoCode, reason: string): Error {
  if (code === 'EACCES') pdev.pciHost.log.info(reason, pdev.logName());
  return failure(code, pdev, reason, 'vfio_pci_core_match');
}
