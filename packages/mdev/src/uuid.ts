/**
 * UUIDs as the mediated device core reads and writes them. It looks at the shape of the text only: version and variant
 * do not matter, and the nil UUID is one like any other.
 */
import { SystemError } from '@vfio/host';

/** Characters of a UUID as text. Source: include/linux/uuid.h UUID_STRING_LEN */
export const UUID_STRING_LEN = 36;

const DASHES = [8, 13, 18, 23];
/** Where the two digits of each byte stand: a `guid_t` stores its first three fields with the low byte first. */
const DIGITS = [6, 4, 2, 0, 11, 9, 16, 14, 19, 21, 24, 26, 28, 30, 32, 34];
const HEX_DIGIT = /^[0-9a-f]$/i;

/**
 * Reads a UUID. What follows its 36 characters is not looked at.
 *
 * @param text - hex digits of either case and four dashes
 * @returns the 16 bytes of a `guid_t`
 * @throws EINVAL - a dash or a digit is missing
 * @source lib/uuid.c guid_parse(), uuid_is_valid()
 */
export function guidParse(text: string): Uint8Array {
  for (let i = 0; i < UUID_STRING_LEN; i++) {
    const character = text.charAt(i);
    if (DASHES.includes(i) ? character !== '-' : !HEX_DIGIT.test(character)) {
      throw new SystemError('EINVAL', `not a UUID: ${JSON.stringify(text)}`);
    }
  }
  return Uint8Array.from(DIGITS, (at) => Number.parseInt(text.slice(at, at + 2), 16));
}

/**
 * Writes a UUID in lower case: what {@link guidParse} read, but for the case of the digits.
 *
 * @param guid - the 16 bytes of a `guid_t`
 * @source lib/vsprintf.c uuid_string()
 */
export function guidFormat(guid: Uint8Array): string {
  const characters = new Array<string>(UUID_STRING_LEN).fill('-');
  DIGITS.forEach((at, i) => {
    const digits = (guid[i] ?? 0).toString(16).padStart(2, '0');
    characters[at] = digits.charAt(0);
    characters[at + 1] = digits.charAt(1);
  });
  return characters.join('');
}
