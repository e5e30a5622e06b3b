import { describe, expect, it } from 'vitest';
import { CapId, Command, Msix } from '../../src/bus/regs.js';
import { Ioat } from '../../src/hardware/ioat.js';
import {
  ChannelCommand,
  ChannelControl,
  ChannelError,
  ChannelReg,
  ChannelState,
  Descriptor,
  IoatConfig,
  IoatIrq,
  IoatReg,
  Operation,
} from '../../src/hardware/ioat-registers.js';
import { DOORBELL, decoding, plugged } from './hardware-lab.js';

interface Step {
  readonly length?: number;
  readonly control?: number;
  readonly operation?: number;
  readonly source?: number | bigint;
  readonly destination?: number | bigint;
  readonly next?: number;
  readonly more?: readonly number[];
}

const CHANNEL = IoatReg.CHANNEL_SIZE;
/** Beyond all physical addresses. */
const NOWHERE = 2n ** 52n;

function lab() {
  const ioat = new Ioat({ transferBits: 12 });
  const noted = plugged(ioat);
  decoding(ioat);
  const view = new DataView(noted.memory.buffer);
  const put = (at: number, step: Step) => {
    view.setUint32(at + Descriptor.LENGTH, step.length ?? 0, true);
    const operation = (step.operation ?? Operation.COPY) << Descriptor.OPERATION_SHIFT;
    view.setUint32(at + Descriptor.CONTROL, ((step.control ?? 0) | operation) >>> 0, true);
    view.setBigUint64(at + Descriptor.SOURCE, BigInt(step.source ?? 0), true);
    view.setBigUint64(at + Descriptor.DESTINATION, BigInt(step.destination ?? 0), true);
    view.setBigUint64(at + Descriptor.NEXT, BigInt(step.next ?? at), true);
    for (const [index, source] of (step.more ?? []).entries()) {
      view.setBigUint64(at + Descriptor.MORE_SOURCES + 8 * index, BigInt(source), true);
    }
  };
  const start = async (chain: number | bigint, count: number, control: number = ChannelControl.REARM) => {
    ioat.writeBar64(0, CHANNEL + ChannelReg.CHAIN_ADDRESS, BigInt(chain));
    ioat.writeBar(0, CHANNEL + ChannelReg.CONTROL, 2, control);
    ioat.writeBar(0, CHANNEL + ChannelReg.DMA_COUNT, 2, count);
    await ioat.channel.settled();
  };
  const state = () => Number(ioat.readBar64(0, CHANNEL + ChannelReg.STATUS) & 7n);
  const errors = () => ioat.readBar(0, CHANNEL + ChannelReg.ERROR, 4);
  const command = (value: number) => ioat.writeBar(0, CHANNEL + ChannelReg.COMMAND, 1, value);
  return { ioat, noted, put, start, state, errors, command, memory: noted.memory };
}

const bytes = (memory: Uint8Array, at: number, count: number) => [...memory.subarray(at, at + count)];

describe('ioat', () => {
  it('says what it is and what it can do', () => {
    const { ioat, state } = lab();
    expect(ioat.readConfig(0, 4)).toBe(0x2021_8086);
    expect([ioat.readBar(0, IoatReg.CHANNEL_COUNT, 1), ioat.readBar(0, IoatReg.TRANSFER_CAPACITY, 1)]).toEqual([1, 12]);
    expect(ioat.readBar(0, IoatReg.VERSION, 1)).toBe(0x33);
    expect(state()).toBe(ChannelState.HALTED);
  });

  it('copies as often as it is told, along the chain', async () => {
    const { ioat, put, start, state, memory } = lab();
    memory.set([1, 2, 3, 4], 0x400);
    put(0x100, { length: 4, source: 0x400, destination: 0x500, next: 0x140 });
    put(0x140, { length: 2, source: 0x402, destination: 0x600, next: 0x180 });
    put(0x180, { length: 2, source: 0x402, destination: 0x700 });
    const before = start(0x100, 2);
    expect(state()).toBe(ChannelState.ACTIVE);
    await before;
    expect([bytes(memory, 0x500, 4), bytes(memory, 0x600, 2), bytes(memory, 0x700, 2)]).toEqual([
      [1, 2, 3, 4],
      [3, 4],
      [0, 0],
    ]);
    expect(ioat.readBar64(0, CHANNEL + ChannelReg.STATUS)).toBe(0x140n | BigInt(ChannelState.DONE));
    // A higher count goes on where it was.
    ioat.writeBar(0, CHANNEL + ChannelReg.DMA_COUNT, 2, 3);
    await ioat.channel.settled();
    expect(bytes(memory, 0x700, 2)).toEqual([3, 4]);
  });

  it('repeats one descriptor that leads to itself, 65535 times and more than once', async () => {
    const { put, start, state, command, memory } = lab();
    memory.set([9], 0x400);
    put(0x100, { length: 1, source: 0x400, destination: 0x500 });
    await start(0x100, 300);
    command(ChannelCommand.SUSPEND);
    expect(state()).toBe(ChannelState.SUSPENDED);
    memory[0x400] = 7;
    await start(0x100, 300);
    expect([memory[0x500], state()]).toEqual([7, ChannelState.DONE]);
  });

  it('fills, and combines up to five sources', async () => {
    const { put, start, memory } = lab();
    put(0x100, {
      operation: Operation.FILL,
      length: 10,
      source: 0x0807_0605_0403_0201n,
      destination: 0x500,
      next: 0x140,
    });
    memory.set([0b0001], 0x600);
    memory.set([0b0110], 0x610);
    memory.set([0b1100], 0x620);
    put(0x140, {
      operation: Operation.XOR,
      control: 1 << Descriptor.SOURCES_SHIFT,
      length: 1,
      source: 0x600,
      more: [0x610, 0x620],
      destination: 0x700,
    });
    await start(0x100, 2);
    expect(bytes(memory, 0x500, 11)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 0]);
    expect(memory[0x700]).toBe(0b1011);
  });

  it('tells whether sources cancel each other', async () => {
    const { put, start, state, errors } = lab();
    put(0x100, { operation: Operation.XOR_VALIDATE, length: 4, source: 0x600, more: [0x610] });
    await start(0x100, 1);
    expect(state()).toBe(ChannelState.DONE);
    const other = lab();
    other.memory.set([1], 0x600);
    other.put(0x100, { operation: Operation.XOR_VALIDATE, length: 4, source: 0x600, more: [0x610] });
    await other.start(0x100, 1);
    expect([other.state(), other.errors(), errors()]).toEqual([ChannelState.HALTED, ChannelError.XOR, 0]);
  });

  it('writes its status where it is told, and interrupts once until it is rearmed', async () => {
    const { ioat, noted, put, start, memory } = lab();
    ioat.writeConfig(ioat.capabilities.find(CapId.MSIX) + Msix.FLAGS, 2, Msix.FLAGS_ENABLE);
    ioat.writeBar(0, 0x2000, 4, 0xfee0_0000);
    ioat.writeBar(0, 0x2008, 4, 0x33);
    ioat.writeBar(0, 0x200c, 4, 0);
    ioat.writeBar(0, IoatReg.INTERRUPT_CONTROL, 1, IoatIrq.MSIX_VECTOR);
    ioat.writeBar64(0, CHANNEL + ChannelReg.COMPLETION_ADDRESS, 0x800n);
    const control = Descriptor.INTERRUPT | Descriptor.COMPLETION;
    put(0x100, { length: 4, source: 0x400, destination: 0x500, control });
    await start(0x100, 2);
    expect(noted.messages).toEqual([{ address: DOORBELL, data: 0x33 }]);
    expect(new DataView(memory.buffer).getBigUint64(0x800, true)).toBe(0x101n);
    await start(0x100, 1);
    expect(noted.messages).toHaveLength(2);
  });

  it('holds its pin until its attention register is read', async () => {
    const { ioat, noted, put, start } = lab();
    ioat.writeBar(0, IoatReg.INTERRUPT_CONTROL, 1, IoatIrq.MASTER_ENABLE);
    put(0x100, { control: Descriptor.NULL | Descriptor.INTERRUPT });
    await start(0x100, 1);
    expect(noted.pin).toBe(true);
    expect(ioat.readBar(0, IoatReg.INTERRUPT_CONTROL, 1)).toBe(
      IoatIrq.MASTER_ENABLE | IoatIrq.STATUS | IoatIrq.PENDING,
    );
    expect(ioat.readBar(0, IoatReg.ATTENTION, 4)).toBe(1);
    expect([noted.pin, ioat.readBar(0, IoatReg.ATTENTION, 4)]).toEqual([false, 0]);
  });

  it.each([
    [
      'a source',
      { length: 4, source: NOWHERE, destination: 0x500 },
      ChannelError.READ_DATA | ChannelError.SOURCE_ADDRESS,
    ],
    [
      'a destination',
      { length: 4, source: 0x400, destination: NOWHERE },
      ChannelError.WRITE_DATA | ChannelError.DESTINATION_ADDRESS,
    ],
    ['an operation', { length: 4, operation: 0x55 }, ChannelError.CONTROL],
    ['no length', { length: 0 }, ChannelError.LENGTH],
    ['too large a length', { length: 0x1001 }, ChannelError.LENGTH],
  ])('halts at %s that is wrong, and says so until a reset', async (_what, step, error) => {
    const { ioat, put, start, state, errors, command } = lab();
    put(0x100, step);
    await start(0x100, 2);
    expect([state(), errors(), ioat.readConfig(IoatConfig.CHANNEL_ERROR, 4)]).toEqual([
      ChannelState.HALTED,
      error,
      error,
    ]);
    put(0x100, { length: 1, source: 0x400, destination: 0x500 });
    await start(0x100, 1);
    expect(state()).toBe(ChannelState.HALTED);
    ioat.writeConfig(IoatConfig.CHANNEL_ERROR, 4, error);
    ioat.writeBar(0, CHANNEL + ChannelReg.ERROR, 4, error);
    command(ChannelCommand.RESET);
    expect([errors(), ioat.readConfig(IoatConfig.CHANNEL_ERROR, 4), state()]).toEqual([0, 0, ChannelState.HALTED]);
    await start(0x100, 1);
    expect(state()).toBe(ChannelState.DONE);
  });

  it('halts where the chain can not be read, or is not aligned', async () => {
    const first = lab();
    await first.start(NOWHERE, 1);
    expect([first.state(), first.errors()]).toEqual([ChannelState.HALTED, ChannelError.NEXT_ADDRESS]);
    const second = lab();
    await second.start(0x108, 1);
    expect([second.state(), second.errors()]).toEqual([ChannelState.HALTED, ChannelError.NEXT_ALIGNMENT]);
    const third = lab();
    third.put(0x100, { length: 4, source: 0x400, destination: 0x500 });
    decoding(third.ioat, Command.MEMORY);
    await third.start(0x100, 1);
    expect([third.state(), third.errors()]).toEqual([ChannelState.HALTED, ChannelError.NEXT_ADDRESS]);
  });

  it('stops at once when the function is reset', async () => {
    const { ioat, put, start, state, memory } = lab();
    memory.set([1], 0x400);
    put(0x100, { length: 1, source: 0x400, destination: 0x500 });
    const started = start(0x100, 1);
    ioat.busReset();
    await started;
    await new Promise((resolve) => setImmediate(resolve));
    decoding(ioat);
    expect([memory[0x500], state()]).toEqual([0, ChannelState.HALTED]);
  });
});
