/*
 * An NVM Express controller without queues: it says what it could do, and becomes ready when it is enabled.
 */
import { type DeviceModel, type ModelContext, RegisterBar } from './model.js';

/** Registers. Source: include/linux/nvme.h */
const Reg = { CAP: 0x00, VERSION: 0x08, CONFIG: 0x14, STATUS: 0x1c } as const;
const CONFIG_ENABLE = 0x1;
const CONFIG_SHUTDOWN = 0xc000;
const STATUS_READY = 0x1;
const STATUS_SHUTDOWN_DONE = 0x8;
/** 2048 entries in contiguous queues, ready within 7.5 s, pages of 4 KiB to 64 KiB. */
const CAP_LOW = 0x0f01_07ff;
const CAP_HIGH = 0x0040_0020;
const VERSION_1_4 = 0x0001_0400;

/** The device behind BAR 0. */
export function nvme(context: ModelContext): DeviceModel {
  const registers = new RegisterBar(context.sizeOf(0));
  const fixed: Readonly<Record<number, number>> = {
    [Reg.CAP]: CAP_LOW,
    [Reg.CAP + 4]: CAP_HIGH,
    [Reg.VERSION]: VERSION_1_4,
  };
  for (const [offset, value] of Object.entries(fixed)) {
    registers.onRead(Number(offset), () => value);
    registers.onWrite(Number(offset), () => undefined);
  }
  registers.onRead(Reg.STATUS, () => {
    const config = registers.get(Reg.CONFIG);
    const done = (config & CONFIG_SHUTDOWN) === 0 ? 0 : STATUS_SHUTDOWN_DONE;
    return ((config & CONFIG_ENABLE) === 0 ? 0 : STATUS_READY) | done;
  });
  registers.onWrite(Reg.STATUS, () => undefined);
  return { bars: { 0: registers }, reset: () => registers.reset() };
}
