/*
 * An 82574L network controller without a network: its registers, its interrupt causes, and its window of ports.
 */

import { type BarDevice, reservedBar } from '../bar.js';
import type { EmulatedFunction } from '../function.js';
import { type DeviceModel, type ModelContext, RegisterBar } from './model.js';

/** Registers. Source: drivers/net/ethernet/intel/e1000e/regs.h */
const Reg = { CTRL: 0x0, STATUS: 0x8, ICR: 0xc0, ICS: 0xc8, IMS: 0xd0, IMC: 0xd8 } as const;
const CTRL_RESET = 0x0400_0000;
const PORT_ADDRESS = 0;
const PORT_DATA = 4;
const PORT_LIMIT = 0x2_0000;

/** The device behind BARs 0 and 2; the flash of BAR 1 is empty, and BAR 3 has the MSI-X table only. */
export function e1000e(context: ModelContext): DeviceModel {
  const registers = new RegisterBar(context.sizeOf(0), context.initial(0));
  const interrupt = causes(context.fn, registers);
  registers.onWrite(Reg.STATUS, () => undefined);
  registers.onWrite(Reg.CTRL, (value) => {
    if ((value & CTRL_RESET) === 0) {
      registers.set(Reg.CTRL, value);
      return;
    }
    registers.reset();
    interrupt();
  });
  const bars: Record<number, BarDevice> = { 0: registers, 1: reservedBar, 2: portWindow(registers), 3: reservedBar };
  return {
    bars,
    reset: () => registers.reset(),
  };
}

/** Causes are collected, and interrupt while one of them is enabled. @returns looks again whether one is */
function causes(fn: EmulatedFunction, registers: RegisterBar): () => void {
  const update = () => {
    const pending = registers.get(Reg.ICR) & registers.get(Reg.IMS);
    if (fn.msix?.enabled) {
      if (pending !== 0) fn.msix.fire(0);
    } else if (fn.msi?.enabled) {
      if (pending !== 0) fn.msi.fire(0);
    } else fn.setIntx(pending !== 0);
  };
  registers.onRead(Reg.ICR, () => {
    const value = registers.get(Reg.ICR);
    registers.set(Reg.ICR, 0);
    update();
    return value;
  });
  registers.onRead(Reg.ICS, () => registers.get(Reg.ICR));
  registers.onRead(Reg.IMC, () => registers.get(Reg.IMS));
  registers.onWrite(Reg.ICR, (value) => {
    registers.set(Reg.ICR, registers.get(Reg.ICR) & ~value);
    update();
  });
  registers.onWrite(Reg.ICS, (value) => {
    registers.set(Reg.ICR, registers.get(Reg.ICR) | value);
    update();
  });
  registers.onWrite(Reg.IMS, (value) => {
    registers.set(Reg.IMS, registers.get(Reg.IMS) | value);
    update();
  });
  registers.onWrite(Reg.IMC, (value) => {
    registers.set(Reg.IMS, registers.get(Reg.IMS) & ~value);
    update();
  });
  return update;
}

/** The registers through two ports. */
function portWindow(registers: RegisterBar): BarDevice {
  let address = 0;
  const valid = () => address < PORT_LIMIT && address % 4 === 0;
  return {
    read: (offset, width) => {
      if (width !== 4) return 0;
      if (offset === PORT_ADDRESS) return address;
      return offset === PORT_DATA && valid() ? registers.read(address, 4) : 0;
    },
    write: (offset, width, value) => {
      if (width !== 4) return;
      if (offset === PORT_ADDRESS) address = value;
      else if (offset === PORT_DATA && valid()) registers.write(address, 4, value);
    },
  };
}
