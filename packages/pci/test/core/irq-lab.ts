/*
 * A function with every kind of interrupt, and a device of VFIO on it whose config space is what a test says: for tests of
 * interrupts, ioeventfds and buffers, which need nothing else of the core.
 */
import { allocDevice, irqSet, putDevice, Request, registerGroupDev, unregisterGroupDev, Vfio } from '@vfio/core';
import { Host, isSystemError, O, type Process, VirtualClock } from '@vfio/host';
import { pciInit } from '../../src/bus/bus-type.js';
import { setDrvdata } from '../../src/bus/drvdata.js';
import { clearMaster, disableDevice, enableDevice, setMaster } from '../../src/bus/enable.js';
import type { PciWidth } from '../../src/bus/function.js';
import { msixCanAllocDyn } from '../../src/bus/msi.js';
import type { PciDev } from '../../src/bus/pci-dev.js';
import { PCI_ANY_ID, PciDriver, registerDriver, unregisterDriver } from '../../src/bus/pci-driver.js';
import { Command, Msi, Msix, Reg, Status } from '../../src/bus/regs.js';
import { iomap, releaseSelectedRegions, requestSelectedRegions, resourceLen } from '../../src/bus/resources.js';
import type { ConfigView } from '../../src/core/config/view.js';
import { PciCoreDevice } from '../../src/core/core-device.js';
import { FakeFunction, type FakeOptions, rootOf } from '../bus/fake-function.js';

const MSI_AT = 0x40;
const MSIX_AT = 0x50;
/** Vectors that the function has of either kind. */
export const VECTORS = 4;
/** Where the table of MSI-X is in BAR 1. */
export const TABLE_AT = 0x1000;
const msiCap = { id: 0x05, bytes: [0x84, 0x00, ...Array(12).fill(0)], writable: [0x71, 0, ...Array(12).fill(0xff)] };
const msixCap = {
  id: 0x11,
  bytes: [VECTORS - 1, 0, 0x01, TABLE_AT >> 8, 0, 0, 0x01, 0x20, 0, 0],
  writable: [0, 0xc0],
};

/** A function that can assert its pin, and send messages. */
export class InterruptingFunction extends FakeFunction {
  #asserted = false;

  constructor(options: FakeOptions = {}) {
    super({
      pin: 1,
      line: 11,
      bars: { 0: { size: 0x10000 }, 1: { size: 0x4000 }, 2: { size: 0x20, bits: 1 } },
      caps: [msiCap, msixCap],
      ...options,
    });
    // entries begin masked
    for (let vector = 0; vector < VECTORS; vector++)
      this.memory.get(1)?.fill(1, this.#entry(vector) + 12, this.#entry(vector) + 13);
  }

  /** Asserts the pin, or lets go of it. */
  setPin(asserted: boolean): void {
    this.#asserted = asserted;
    const status = this.readConfig(Reg.STATUS, 2);
    this.set(Reg.STATUS, 2, asserted ? status | Status.INTERRUPT : status & ~Status.INTERRUPT);
    this.#drive();
  }

  /** Sends the message of a vector, if the function may. */
  sendMsi(vector: number): void {
    if ((this.readConfig(MSI_AT + Msi.FLAGS, 2) & Msi.FLAGS_ENABLE) === 0) return;
    const address =
      BigInt(this.readConfig(MSI_AT + Msi.ADDRESS_LO, 4)) |
      (BigInt(this.readConfig(MSI_AT + Msi.ADDRESS_HI, 4)) << 32n);
    this.#send(address, this.readConfig(MSI_AT + Msi.DATA_64, 2) + vector);
  }

  /** Sends the message of an entry of the table, unless it is masked. */
  sendMsix(vector: number): void {
    const control = this.readConfig(MSIX_AT + Msix.FLAGS, 2);
    if ((control & Msix.FLAGS_ENABLE) === 0 || (control & Msix.FLAGS_MASKALL) !== 0) return;
    const bytes = this.memory.get(1) ?? new Uint8Array();
    const entry = new DataView(bytes.buffer, bytes.byteOffset + this.#entry(vector), Msix.ENTRY_SIZE);
    if ((entry.getUint32(Msix.ENTRY_VECTOR_CTRL, true) & Msix.ENTRY_CTRL_MASKBIT) !== 0) return;
    this.#send(entry.getBigUint64(Msix.ENTRY_LOWER_ADDR, true), entry.getUint32(Msix.ENTRY_DATA, true));
  }

  override writeConfig(offset: number, width: PciWidth, value: number): void {
    super.writeConfig(offset, width, value);
    if (offset <= Reg.COMMAND + 1 && offset + width > Reg.COMMAND) this.#drive();
  }

  #drive(): void {
    const disabled = (this.readConfig(Reg.COMMAND, 2) & Command.INTX_DISABLE) !== 0;
    if (this.#asserted && !disabled) this.port?.raiseIntx();
    else this.port?.lowerIntx();
  }

  #send(address: bigint, data: number): void {
    if ((this.readConfig(Reg.COMMAND, 2) & Command.MASTER) === 0) return;
    const message = new Uint8Array(4);
    new DataView(message.buffer).setUint32(0, data, true);
    void this.port?.dma.write(address, message);
  }

  #entry(vector: number): number {
    return TABLE_AT + Msix.ENTRY_SIZE * vector;
  }
}

/** Config space of which only what others ask is there. */
class PlainConfig implements ConfigView {
  commandMemory = true;
  interruptPin = 1;
  msiQmax = 0;

  read(): number {
    return 0;
  }

  write(): number {
    return 0;
  }

  virtualize(): void {}

  free(): void {}
}

/** A device whose open and close do just what interrupts, ioeventfds and buffers stand on. */
export class IrqDevice extends PciCoreDevice {
  override readonly driverName = 'irq-lab';
  readonly plain = new PlainConfig();

  override async openDevice(): Promise<void> {
    const { pdev } = this;
    await enableDevice(pdev);
    setMaster(pdev);
    requestSelectedRegions(pdev, 0b111, this.driverName);
    for (const bar of [0, 1, 2]) this.barmap[bar] = iomap(pdev, bar);
    this.config = this.plain;
    this.pci23 = true;
    this.msixBar = 1;
    this.msixOffset = TABLE_AT;
    this.msixSize = VECTORS * Msix.ENTRY_SIZE;
    this.hasDynMsix = msixCanAllocDyn(pdev);
    this.exportsDmaBufs = true;
  }

  override async closeDevice(): Promise<void> {
    await this.dmabufs.cleanup();
    await this.irqs.disable();
    await this.ioeventfds.removeAll();
    this.irqs.err.drop();
    this.irqs.req.drop();
    this.config = undefined;
    for (const bar of [0, 1, 2]) {
      const mapping = this.barmap[bar];
      if (typeof mapping === 'object') mapping[Symbol.dispose]();
      this.barmap[bar] = undefined;
    }
    releaseSelectedRegions(this.pdev, 0b111);
    clearMaster(this.pdev);
    disableDevice(this.pdev);
  }

  /** Bytes of a BAR. */
  barLength(bar: number): number {
    return resourceLen(this.pdev, bar);
  }
}

/** What a test has in hand. */
export interface IrqLab extends AsyncDisposable {
  readonly host: Host;
  readonly fn: InterruptingFunction;
  readonly pdev: PciDev;
  readonly device: IrqDevice;
  readonly process: Process;
  /** The open device. */
  readonly fd: number;
  /** SET_IRQS with the data of its kind. */
  setIrqs(set: {
    flags: number;
    index: number;
    start?: number;
    count: number;
    data?: readonly number[];
  }): Promise<number>;
  eventfd(): number;
  /** Takes what an eventfd has counted. */
  take(fd: number): bigint;
  close(): Promise<void>;
}

const anything = { vendor: PCI_ANY_ID, device: PCI_ANY_ID, subvendor: PCI_ANY_ID, subdevice: PCI_ANY_ID };

/** A machine with one function, opened through its group. */
export async function irqLab(options: { fn?: FakeOptions; prepare?(device: IrqDevice): void } = {}): Promise<IrqLab> {
  const clock = new VirtualClock();
  const host = new Host({
    checked: true,
    clock,
    iommu: { aperture: [0n, (1n << 48n) - 1n], pageSizes: 0x1000n, coherent: true, msiIsolated: true, reserved: [] },
  });
  const vfio = new Vfio(host);
  await host.modules.modprobe('vfio_iommu_type1');
  const bus = await pciInit(host);
  const fn = new InterruptingFunction(options.fn);
  await bus.addRoot(rootOf(new Map([[0x10, fn]])));
  let device: IrqDevice | undefined;
  const driver = new PciDriver({
    name: 'irq-lab',
    bus,
    managesDma: true,
    idTable: [{ ...anything, class: 0, classMask: 0 }],
    probe: async (pdev) => {
      device = await allocDevice(vfio, IrqDevice, pdev, pdev);
      setDrvdata(pdev, device);
      await registerGroupDev(device);
    },
    remove: async () => {
      if (!device) return;
      await unregisterGroupDev(device);
      await putDevice(device);
    },
  });
  await registerDriver(driver);
  const pdev = bus.find(0, 0, 0x10);
  if (!pdev) throw new Error('the function was not found');
  if (!device) throw new Error('the driver was not bound');
  options.prepare?.(device);
  const process = host.spawn();
  const container = await process.open('/dev/vfio/vfio', O.RDWR);
  const group = await process.open(`/dev/vfio/${pdev.iommuGroup?.id}`, O.RDWR);
  await process.ioctl(group, Request.GROUP_SET_CONTAINER, int32(container));
  await process.ioctl(container, Request.SET_IOMMU, 3);
  const fd = await process.ioctl(group, Request.GROUP_GET_DEVICE_FD, new TextEncoder().encode(`${pdev.name}\0`));
  const close = async () => {
    if (process.files.has(fd)) await process.close(fd);
  };
  return {
    host,
    fn,
    pdev,
    device,
    process,
    fd,
    close,
    setIrqs: ({ flags, index, start = 0, count, data = [] }) => {
      const wide = (flags & 2) === 0;
      const bytes = wide ? Buffer.concat(data.map(int32)) : Buffer.from(data);
      const argsz = irqSet.size + bytes.length;
      const head = irqSet.encode({ argsz, flags, index, start, count }, process.byteOrder);
      return Promise.resolve(process.ioctl(fd, Request.DEVICE_SET_IRQS, Buffer.concat([head, bytes])));
    },
    eventfd: () => process.eventfd(0, { nonblock: true }),
    take: (eventfd) => {
      const bytes = new Uint8Array(8);
      try {
        if (process.read(eventfd, bytes) instanceof Promise) throw new Error('a counter that does not wait waits');
      } catch (error) {
        if (!isSystemError(error, 'EAGAIN')) throw error;
        return 0n;
      }
      return new DataView(bytes.buffer).getBigUint64(0, true);
    },
    async [Symbol.asyncDispose]() {
      await process.exit(0);
      await unregisterDriver(driver);
      await host[Symbol.asyncDispose]();
    },
  };
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}
