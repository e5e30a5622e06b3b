/*
 * A virtual function: no ids, no pin, no switch for its memory; its physical function has those.
 */

import { Command, Reg } from '../bus/regs.js';
import type { Bar, BarDevice, BarOptions } from './bar.js';
import { EmulatedFunction, type FunctionOptions } from './function.js';

const NO_ID = 0xffff;

/** One of the functions that a physical one makes. */
export class VirtualFunction extends EmulatedFunction {
  readonly #pf: EmulatedFunction;

  constructor(pf: EmulatedFunction, options: Omit<FunctionOptions, 'vendor' | 'device' | 'pin'>) {
    super({ ...options, vendor: NO_ID, device: NO_ID });
    this.#pf = pf;
    this.config.allow(Reg.COMMAND, 2, Command.MASTER);
    this.config.allow(Reg.CACHE_LINE_SIZE, 1, 0);
    this.config.allow(Reg.INTERRUPT_LINE, 1, 0);
    this.updateDecoding();
  }

  /** It exists from now on, as it is after a reset. */
  appear(): void {
    this.setPresent(true);
    this.reset('bus');
  }

  /** It does not exist any more. Its place on the bus stays with whoever has it. */
  vanish(): void {
    this.setPresent(false);
  }

  /** Its registers say nothing of it: sizes are in the capability of the physical function. */
  override addBar(index: number, options: BarOptions, device: BarDevice): Bar {
    const bar = super.addBar(index, options, device);
    for (let half = 0; half < (options.wide ? 2 : 1); half++) {
      const register = Reg.BASE_ADDRESS_0 + 4 * (index + half);
      this.config.set(register, 4, 0);
      this.config.allow(register, 4, 0);
    }
    return bar;
  }

  protected override get memorySpace(): boolean {
    return this.#pf.sriov?.memorySpace ?? false;
  }
}
