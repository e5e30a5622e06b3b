/* What the conformance suite has to know of a driver: how to make a machine with one of its devices, and its numbers. */
import type { Device, VfioClient } from '@vfio/client';
import type { Vfio } from '@vfio/core';
import type { Host } from '@vfio/host';

/** A machine with VFIO on it: a `Machine` of `@vfio/machine` is one, and so is `{ host, vfio }`. */
export interface ConformanceMachine extends Partial<AsyncDisposable> {
  /** In checked mode. */
  readonly host: Host;
  readonly vfio: Vfio;
}

/** A fresh machine with a device on it that nobody has open. */
export interface ConformanceTarget {
  /** Ended after the case: by its own `Symbol.asyncDispose`, else by the host's. */
  readonly machine: ConformanceMachine;
  /** Name of the device on its bus: `0000:01:00.0`, a UUID. */
  readonly address: string;
  /** Opens the device through its group. Default: `client.openDevice(address)`. */
  open?(client: VfioClient): Promise<Device>;
  /** Opens the device through its node, bound and attached. Default: `client.openCdev(address)`. */
  openCdev?(client: VfioClient): Promise<Device>;
  /** Takes the device from VFIO, as an administrator does; resolves when it is gone. */
  unbind(): Promise<unknown>;
}

/** What registers tests: vitest, jest, mocha and `node:test` have both functions. */
export interface ConformanceRunner {
  describe(name: string, body: () => void): unknown;
  it(name: string, run: () => Promise<void>, timeoutMs?: number): unknown;
}

/** A driver, as the suite sees it. */
export interface DriverConformance {
  /** Makes a fresh target. Called for each case, and for each run of a case that makes several. */
  create(): ConformanceTarget | Promise<ConformanceTarget>;
  /** `num_regions` of the device. */
  readonly regions: number;
  /** `num_irqs` of the device: interrupt indices. */
  readonly irqs: number;
  /** DeviceInfoFlag bits of the device, without CAPS. Default: they are not compared. */
  readonly flags?: number;
  /** Bytes of the regions that are there, by index; a region that is left out has size 0 or is not described. */
  readonly regionSizes?: Readonly<Record<number, number | bigint>>;
  /** Interrupts of the indices that are there; an index that is left out has none or is not described. */
  readonly irqCounts?: Readonly<Record<number, number>>;
  /** Whether the device can migrate; its MigrationFlag bits, to have them compared. Default: it can not. */
  readonly migration?: boolean | number;
  /** Whether the device can log its writes. Default: it can not. */
  readonly dmaLogging?: boolean;
  /** Whether the machine has device nodes, and the driver the operations for an iommufd. Default: no. */
  readonly cdev?: boolean;
  /** Whether VFIO_DEVICE_RESET works. Default: what its flag RESET says. */
  readonly reset?: boolean;
  /**
   * Promises that this driver does not keep, by the name of the case, and why: because the kernel's own does not. Such a
   * case fails when the promise is kept after all.
   */
  readonly exceptions?: Readonly<Record<string, string>>;
  /** Title of the group of tests. Default: `VFIO conformance`. */
  readonly name?: string;
  /** Where the tests are registered. Default: the globals `describe` and `it`. */
  readonly runner?: ConformanceRunner;
}
