/**
 * The serial card as VFIO sees it. The object is made with everything it consists of; `init` takes its ports from the
 * pool and `release` gives them back, so that a card that was removed while somebody still holds it keeps its share.
 */
import {
  irqSet,
  MigrationFlag,
  PCI_NUM_IRQS,
  PCI_NUM_REGIONS,
  Request,
  setIrqsValidateAndPrepare,
  VfioError,
} from '@vfio/core';
import type { IoctlCall, Module, Seams } from '@vfio/host';
import { SampleDevice } from '../common/device.js';
import { ioctlGetInfo, ioctlGetIrqInfo } from '../common/info.js';
import type { ResourcePool } from '../common/pool.js';
import { MttyConfigSpace } from './config.js';
import type { SerialPortFactory } from './hw.js';
import { MttyIrqs, mttyIrqInfo } from './irqs.js';
import { MttyMigration, mttyLogOps } from './migration.js';
import { MttyRegions } from './regions.js';

/** Ports that a card has sockets for, whatever its type. */
const SOCKETS = 2;

/** What a card is made of. */
export interface MttyDeviceOptions {
  /** Ports it claims to have, 1 or 2. */
  readonly ports: number;
  /** Where its ports are counted. */
  readonly pool: ResourcePool;
  readonly createPort: SerialPortFactory;
  /** The one that the driver is in. */
  readonly module: Module;
  readonly seams: Seams;
}

/**
 * A serial card with one or two 16550 ports.
 *
 * @source samples/vfio-mdev/mtty.c struct mdev_state, mtty_dev_ops
 */
export class MttyDevice extends SampleDevice {
  override readonly driverName = 'vfio-mtty';
  readonly #options: MttyDeviceOptions;
  readonly #irqs = new MttyIrqs();
  protected override readonly regions: MttyRegions;
  readonly #migration: MttyMigration;
  /** Interrupt indexes that the last GET_INFO reported: the bound for every later request, also after a reopen. */
  #numIrqs = 0;

  constructor(options: MttyDeviceOptions) {
    super();
    const { ports, seams, module, createPort } = options;
    const interrupt = () => this.#irqs.trigger();
    const sockets = Array.from({ length: SOCKETS }, () => createPort(interrupt));
    const config = new MttyConfigSpace(ports, (text) => seams.log.info(text));
    this.#options = options;
    this.regions = new MttyRegions(config, sockets, ports);
    this.#migration = new MttyMigration(this, seams, module, sockets.slice(0, ports));
  }

  /**
   * @throws ENOSPC - fewer ports are left than the card has
   * @throws ENOMEM - no memory for config space
   * @source samples/vfio-mdev/mtty.c mtty_init_dev()
   */
  override init(): void {
    const { ports, pool, seams } = this.#options;
    pool.take(ports);
    try {
      seams.faults.check('mtty_init_dev:vconfig');
    } catch (error) {
      pool.give(ports); // release is not called for a device whose init failed
      throw error;
    }
    this.migrationFlags = MigrationFlag.STOP_COPY | MigrationFlag.P2P | MigrationFlag.PRE_COPY;
    this.migOps = this.#migration;
    this.logOps = mttyLogOps;
  }

  /** Source: samples/vfio-mdev/mtty.c mtty_release_dev() */
  override release(): void {
    this.#options.pool.give(this.#options.ports);
  }

  /**
   * Ends what belongs to the users: data files and eventfds. Registers, config space and migration state stay.
   *
   * @source samples/vfio-mdev/mtty.c mtty_close()
   */
  override async closeDevice(): Promise<void> {
    await this.#migration.endFiles();
    this.#irqs.disable();
  }

  /** Source: samples/vfio-mdev/mtty.c mtty_ioctl() */
  override async ioctl(call: IoctlCall): Promise<number> {
    switch (call.request) {
      case Request.DEVICE_GET_INFO:
        return ioctlGetInfo(call, PCI_NUM_REGIONS, (info) => {
          this.#numIrqs = info.numIrqs;
        });
      case Request.DEVICE_GET_IRQ_INFO:
        return ioctlGetIrqInfo(call, this.#numIrqs, mttyIrqInfo);
      case Request.DEVICE_SET_IRQS:
        return this.#setIrqs(call);
      case Request.DEVICE_RESET:
        this.#options.seams.log.info('mtty_reset: called');
        await this.#migration.reset();
        return 0;
      default:
        throw new VfioError('ENOTTY', `unknown request 0x${call.request.toString(16)}`);
    }
  }

  #setIrqs(call: IoctlCall): number {
    const set = irqSet.decode(call.copyIn(irqSet.size), call.order);
    const size = setIrqsValidateAndPrepare(set, this.#numIrqs, PCI_NUM_IRQS);
    const data = size > 0 ? call.copyIn(size, irqSet.size) : new Uint8Array(0);
    this.#irqs.set(set, data, call);
    return 0;
  }
}
