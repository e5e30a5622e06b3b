/*
 * An open function, and its config space from both sides: what the user sees, and what the hardware has.
 */
import type { PciDev } from '../../src/bus/pci-dev.js';
import type { PciCoreDevice } from '../../src/core/core-device.js';
import type { FakeOptions } from '../bus/fake-function.js';
import { labBridge, labEndpoint } from '../bus/service-lab.js';
import { CONFIG, CoreLab, type CoreLabOptions, LabFunction, NAME, type OpenFunction } from './core-lab.js';

/** A function that is open, behind a root port. */
export class ConfigLab implements AsyncDisposable {
  readonly lab: CoreLab;
  readonly fn: LabFunction;
  readonly user: OpenFunction;
  readonly pdev: PciDev;
  readonly device: PciCoreDevice;

  private constructor(lab: CoreLab, fn: LabFunction, user: OpenFunction) {
    this.lab = lab;
    this.fn = fn;
    this.user = user;
    this.pdev = lab.pdev();
    this.device = lab.device();
  }

  static async open(options: FakeOptions | LabFunction = {}, more: CoreLabOptions = {}): Promise<ConfigLab> {
    const fn = options instanceof LabFunction ? options : labEndpoint(options);
    const lab = await CoreLab.create({ functions: [[0x08, labBridge([[0, fn]])]], bind: [NAME], ...more });
    return new ConfigLab(lab, fn, await lab.open());
  }

  async read(offset: number, width: number): Promise<number> {
    const bytes = await this.user.read(CONFIG, offset, width);
    let value = 0;
    for (const [at, byte] of bytes.entries()) value += byte * 2 ** (8 * at);
    return value;
  }

  write(offset: number, width: number, value: number): Promise<number> {
    const bytes = Array.from({ length: width }, (_, at) => (value >>> (8 * at)) & 0xff);
    return this.user.write(CONFIG, offset, bytes);
  }

  /** Writes, and reads back. */
  async probe(offset: number, width: number, value: number): Promise<number> {
    await this.write(offset, width, value);
    return await this.read(offset, width);
  }

  /** What the log has said. */
  get log(): string[] {
    return this.lab.host.log.entries.map(({ text }) => text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.user.process.exit();
    await this.lab[Symbol.asyncDispose]();
  }
}
