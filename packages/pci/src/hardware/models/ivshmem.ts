/*
 * Memory shared between machines, which here has nobody on the other side: the plain kind, without interrupts.
 */
import { MemoryBar } from '../bar.js';
import { type DeviceModel, type ModelContext, RegisterBar } from './model.js';

const DOORBELL = 0x0c;
const POSITION = 0x08;

/** The device behind BARs 0 and 2. What is shared survives whatever happens to the function. */
export function ivshmem(context: ModelContext): DeviceModel {
  const registers = new RegisterBar(context.sizeOf(0));
  registers.onWrite(POSITION, () => undefined);
  registers.onWrite(DOORBELL, () => undefined);
  return { bars: { 0: registers, 2: new MemoryBar(context.sizeOf(2)) }, reset: () => registers.reset() };
}
