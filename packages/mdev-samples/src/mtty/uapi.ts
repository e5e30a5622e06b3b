/**
 * The migration stream of mtty: a header and one record per port. Little-endian, like the machine whose kernel wrote the
 * format down by copying its memory.
 */
import { bytes, pad, struct, u8, u16, u32, u64, type ValueOf } from '@vfio/core';
import type { SerialPortState } from './hw.js';

/** First eight bytes of every stream. */
export const STREAM_MAGIC = 0x7e9d_0989_8c3e_2c4en;
/** A stream of another version is refused. */
export const STREAM_VERSION = { major: 1, minor: 0 } as const;

/** The start of a stream, 24 bytes. Source: samples/vfio-mdev/mtty.c struct mtty_data */
export const streamHeader = struct('mtty_data', 24, {
  magic: u64(0),
  majorVer: u32(8),
  minorVer: u32(12),
  nrPorts: u32(16), // records that follow, 1 or 2
  flags: u32(20), //   none are defined: 0
});
export type StreamHeader = ValueOf<typeof streamHeader.fields>;

/** One port in a stream, 36 bytes. Source: samples/vfio-mdev/mtty.c struct serial_port */
export const portRecord = struct('serial_port', 36, {
  uartReg: bytes(0, 8),
  fifo: bytes(8, 16),
  head: u8(24),
  tail: u8(25),
  count: u8(26),
  dlab: u8(27), //    0 or 1
  overrun: u8(28), // 0 or 1
  pad0: pad(29, 1),
  divisor: u16(30),
  fcr: u8(32),
  maxFifoSize: u8(33),
  intrTriggerLevel: u8(34),
  pad1: pad(35, 1),
});

/** Bytes of the stream of a device with this many ports. */
export function streamSize(ports: number): number {
  return streamHeader.size + ports * portRecord.size;
}

/** The record of a port. */
export function encodePort(state: SerialPortState): Uint8Array {
  return portRecord.encode(
    {
      uartReg: state.registers,
      fifo: state.ring,
      head: state.head,
      tail: state.tail,
      count: state.count,
      dlab: Number(state.divisorLatch),
      overrun: Number(state.overrun),
      divisor: state.divisor,
      fcr: state.fifoControl,
      maxFifoSize: state.fifoSize,
      intrTriggerLevel: state.triggerLevel,
    },
    'little',
  );
}

/** The state that a record describes. Nothing is checked: a stream is trusted once its header was accepted. */
export function decodePort(record: Uint8Array): SerialPortState {
  const port = portRecord.decode(record, 'little');
  return {
    registers: port.uartReg,
    ring: port.fifo,
    head: port.head,
    tail: port.tail,
    count: port.count,
    divisorLatch: port.dlab !== 0,
    overrun: port.overrun !== 0,
    divisor: port.divisor,
    fifoControl: port.fcr,
    fifoSize: port.maxFifoSize,
    triggerLevel: port.intrTriggerLevel,
  };
}
