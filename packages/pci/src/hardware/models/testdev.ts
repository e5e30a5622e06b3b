/*
 * QEMU's pci-testdev: tests of writes, one selected at a time, whose description is read back byte by byte.
 */
import type { PciWidth } from '../../bus/function.js';
import type { BarDevice } from '../bar.js';
import type { DeviceModel } from './model.js';

const KINDS = ['mmio', 'portio'] as const;
const TESTS = ['no-eventfd', 'wildcard-eventfd', 'datamatch-eventfd'] as const;
const WILDCARD = 1;
const MATCH = 0xfa;
const NO_MATCH = 0xce;
/** Where tests write, from the middle of their BAR on. */
const FIRST_OFFSET = [0x800, 0x80] as const;
const HEADER_BYTES = 16;
const COUNT = 12;

/** A test and how often it was hit. */
interface Test {
  readonly offset: number;
  readonly data: number;
  readonly anyData: boolean;
  readonly description: DataView<ArrayBuffer>;
}

/** The device: a BAR of memory and one of ports, which see the same test. */
export function testdev(): DeviceModel {
  const tests = KINDS.flatMap((kind, type) => TESTS.map((name, index) => makeTest(kind, name, type, index)));
  let current: Test | undefined;
  const select = (type: number, index: number) => {
    if (index >= TESTS.length) return;
    current = tests[type * TESTS.length + index];
    current?.description.setUint32(COUNT, 0, true);
  };
  const hit = (offset: number, value: number) => {
    if (!current || offset !== current.offset || (!current.anyData && value !== current.data)) return;
    current.description.setUint32(COUNT, current.description.getUint32(COUNT, true) + 1, true);
  };
  const bar = (type: number): BarDevice => ({
    read: (offset, width) => {
      let value = 0;
      for (let byte = 0; byte < width; byte++) value |= byteAt(current, offset + byte) << (8 * byte);
      return value >>> 0;
    },
    // The device takes bytes; wider cycles are cut up.
    write: (offset: number, width: PciWidth, value: number) => {
      for (let byte = 0; byte < width; byte++) {
        const part = (value >>> (8 * byte)) & 0xff;
        if (offset + byte === 0) select(type, part);
        else hit(offset + byte, part);
      }
    },
  });
  return {
    bars: { 0: bar(0), 1: bar(1) },
    reset: () => {
      current = undefined;
    },
  };
}

/** The description ends before its last byte. */
function byteAt(test: Test | undefined, offset: number): number {
  return test && offset + 1 < test.description.byteLength ? test.description.getUint8(offset) : 0;
}

function makeTest(kind: string, name: string, type: number, index: number): Test {
  const text = new TextEncoder().encode(`${kind}-${name}`);
  const description = new DataView(new ArrayBuffer(HEADER_BYTES + text.length + 1));
  const number = type * TESTS.length + index;
  const anyData = index === WILDCARD;
  const data = anyData ? NO_MATCH : MATCH;
  const offset = (FIRST_OFFSET[type] ?? 0) + number;
  description.setUint8(0, number);
  description.setUint8(1, 1);
  description.setUint32(4, offset, true);
  description.setUint8(8, data);
  for (const [at, byte] of text.entries()) description.setUint8(HEADER_BYTES + at, byte);
  return { offset, data, anyData, description };
}
