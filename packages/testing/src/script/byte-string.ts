// Scripts and what the system answers are bytes. They are kept in strings of which each character is one byte,
// so that a text from a file, a word of the script and a field of a transcript count and compare alike.

/** Text as a string of its UTF-8 bytes, one character each. */
export function toByteString(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}

/** The text whose UTF-8 bytes a byte string holds: what a path or a note means. */
export function fromByteString(bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString('utf8');
}

/** The bytes of a byte string, as a copy. */
export function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, 'latin1'));
}

/** Bytes as a byte string. */
export function byteString(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
}
