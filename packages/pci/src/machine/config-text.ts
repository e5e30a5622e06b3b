/*
 * Config space as text in a machine file: lines of an offset and 16 bytes, without those that are all zero.
 */
import { CFG_SPACE_EXP_SIZE, CFG_SPACE_SIZE } from '../bus/regs.js';

const LINE = /^([0-9a-f]{2,3}): ((?:[0-9a-f]{2} ){15}[0-9a-f]{2})$/i;
const LINE_BYTES = 16;

/** Writes down config space. The last line is always there, as it tells the size. */
export function textOfConfig(config: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < config.length; at += LINE_BYTES) {
    const bytes = config.subarray(at, at + LINE_BYTES);
    if (at + LINE_BYTES < config.length && bytes.every((byte) => byte === 0)) continue;
    lines.push(`${hex(at)}: ${Array.from(bytes, hex).join(' ')}\n`);
  }
  return lines.join('');
}

/**
 * Reads what `textOfConfig` wrote, or lines of lspci.
 *
 * @returns 256 or 4096 bytes
 * @throws SyntaxError - a line is no such line; its number is in the message
 */
export function configOfText(text: string): number[] {
  const lines = new Map<number, number[]>();
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line === '') continue;
    const [, offset, bytes] = LINE.exec(line) ?? [];
    const at = Number.parseInt(offset ?? '', 16);
    if (bytes === undefined || at % LINE_BYTES !== 0 || lines.has(at)) {
      throw new SyntaxError(
        `line ${index + 1} is '${line.slice(0, 40)}': it must be an offset and 16 bytes, once each`,
      );
    }
    lines.set(
      at,
      bytes.split(' ').map((digits) => Number.parseInt(digits, 16)),
    );
  }
  if (!lines.has(0)) throw new SyntaxError("it has no line '00:', where the ids are");
  const size = [...lines.keys()].some((at) => at >= CFG_SPACE_SIZE) ? CFG_SPACE_EXP_SIZE : CFG_SPACE_SIZE;
  const config = new Array<number>(size).fill(0);
  for (const [at, bytes] of lines) config.splice(at, LINE_BYTES, ...bytes);
  return config;
}

function hex(value: number): string {
  return value.toString(16).padStart(2, '0');
}
