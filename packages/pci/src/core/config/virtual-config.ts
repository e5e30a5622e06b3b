/*
 * Config space as the user sees it. So far that is the function's own, byte by byte, with the two registers that decide about
 * more than config space: the memory bit, and the power state. Permissions, virtual bits, hidden capabilities and the sizing of
 * BARs are not there yet, which is why the package is not published.
 */
import { VfioError } from '@vfio/core';
import type { UserBuffer } from '@vfio/host';
import { readConfigByte, readConfigWord, writeConfigByte } from '../../bus/config.js';
import { PowerState } from '../../bus/power-state.js';
import { Command, Pm, Reg } from '../../bus/regs.js';
import type { PciCoreDevice } from '../core-device.js';
import { downWriteMemory, zapAndDownWrite } from '../memory.js';
import { lockAndSetPowerState } from '../power.js';
import type { ConfigView } from './view.js';

/** Config space of an open device. */
export class VirtualConfig implements ConfigView {
  commandMemory: boolean;
  readonly interruptPin: number;
  msiQmax = 0;
  readonly #device: PciCoreDevice;

  /** Use `init`. */
  private constructor(device: PciCoreDevice) {
    const { pdev, nointx } = device;
    this.#device = device;
    this.commandMemory = (readConfigWord(pdev, Reg.COMMAND) & Command.MEMORY) !== 0 || pdev.noCommandMemory;
    const withoutPin = pdev.isVirtfn || nointx || pdev.irq === 0;
    this.interruptPin = withoutPin ? 0 : readConfigByte(pdev, Reg.INTERRUPT_PIN);
  }

  /**
   * Made when a device is opened.
   *
   * @throws ENOMEM
   * @source drivers/vfio/pci/vfio_pci_config.c vfio_config_init()
   */
  static init(device: PciCoreDevice): VirtualConfig {
    device.pdev.pciHost.faults.check('vfio_config_init:map');
    return new VirtualConfig(device);
  }

  read(into: UserBuffer, offset: number): number {
    this.#within(into, offset);
    const { pdev } = this.#device;
    for (let i = 0; i < into.length; i++) into.bytes[i] = readConfigByte(pdev, offset + i);
    return into.length;
  }

  async write(from: UserBuffer, offset: number): Promise<number> {
    this.#within(from, offset);
    const device = this.#device;
    const { pdev } = device;
    if (offset === Reg.COMMAND) await this.#writeCommand(from);
    else if (pdev.pmCap !== 0 && offset === pdev.pmCap + Pm.CTRL) {
      const asleep = ((from.bytes[0] ?? 0) & Pm.CTRL_STATE_MASK) === PowerState.D3hot;
      await lockAndSetPowerState(device, asleep ? PowerState.D3hot : PowerState.D0);
    } else this.#writeBytes(from, offset);
    return from.length;
  }

  free(): void {}

  /** Memory that is switched off is taken from whoever has mapped it. Source: vfio_pci_config.c vfio_basic_config_write() */
  async #writeCommand(from: UserBuffer): Promise<void> {
    const memory = ((from.bytes[0] ?? 0) & Command.MEMORY) !== 0;
    using _held = await (memory ? downWriteMemory(this.#device) : zapAndDownWrite(this.#device));
    this.#writeBytes(from, Reg.COMMAND);
    this.commandMemory = memory;
  }

  #writeBytes(from: UserBuffer, offset: number): void {
    for (const [i, byte] of from.bytes.entries()) writeConfigByte(this.#device.pdev, offset + i, byte);
  }

  /** Nothing is read or written of an access that is not wholly inside. */
  #within({ length }: UserBuffer, offset: number): void {
    const { cfgSize } = this.#device.pdev;
    if (offset + length > cfgSize) {
      throw new VfioError('EFAULT', `${length} bytes at 0x${offset.toString(16)} of ${cfgSize}`, {
        syscall: 'read, write',
      });
    }
  }
}
