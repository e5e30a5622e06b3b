/*
 * The files `resource0` and on: BARs to be mapped, those with ports to be read and written.
 */
import { type AccessSize, type BinAttribute, type Mapping, type MmapRequest, PAGE_SIZE, SystemError } from '@vfio/host';
import { resourceAt } from './bar-sizing.js';
import { readBar64, writeBar64 } from './cycles.js';
import type { PciFunction, PciWidth } from './function.js';
import type { PciDev } from './pci-dev.js';
import { ResourceIndex } from './regs.js';
import { ResourceFlag } from './resource-tree.js';

/** Source: drivers/pci/pci-sysfs.c pci_dev_resource_attrs, pci_dev_resource_wc_attrs */
export function resourceAttributes(pdev: PciDev): BinAttribute[] {
  const attributes: BinAttribute[] = [];
  for (let index = 0; index < ResourceIndex.ROM; index++) {
    const { size, flags } = resourceAt(pdev, index);
    if (size === 0) continue;
    const name = `resource${index}`;
    if ((flags & ResourceFlag.IO) !== 0) attributes.push(portAttribute(pdev, index, name, size));
    else attributes.push(memoryAttribute(pdev, index, name, size));
    // Write combining is a matter of CPUs: the bytes are the same.
    if ((flags & ResourceFlag.PREFETCH) !== 0) attributes.push(memoryAttribute(pdev, index, `${name}_wc`, size));
  }
  return attributes;
}

function memoryAttribute(pdev: PciDev, index: number, name: string, size: number): BinAttribute {
  return { name, mode: 0o600, size, mmap: (request) => mapBar(pdev, index, request) };
}

/** Source: drivers/pci/pci-sysfs.c pci_resource_io(): one cycle of 1, 2 or 4 bytes */
function portAttribute(pdev: PciDev, index: number, name: string, size: number): BinAttribute {
  return {
    name,
    mode: 0o600,
    size,
    read: (offset, length) => {
      const width = portWidth(pdev, offset, length);
      const value = pdev.hw.readBar(index, offset, width);
      return Uint8Array.from({ length: width }, (_, byte) => value >>> (8 * byte));
    },
    write: (offset, bytes) => {
      const width = portWidth(pdev, offset, bytes.length);
      const value = bytes.reduceRight((sum, byte) => sum * 0x100 + byte, 0);
      pdev.hw.writeBar(index, offset, width, value);
    },
  };
}

/** @throws EINVAL - not the size of a cycle */
function portWidth(pdev: PciDev, offset: number, length: number): PciWidth {
  if ((length === 1 || length === 2 || length === 4) && offset % length === 0) return length;
  throw new SystemError('EINVAL', `${length} bytes at ${offset} are no cycle`, { subject: pdev.name });
}

/**
 * @throws EINVAL - it does not fit the BAR, or the BAR has no address
 * @source drivers/pci/pci-sysfs.c pci_mmap_resource()
 */
function mapBar(pdev: PciDev, index: number, { offset, length }: MmapRequest): Mapping {
  const resource = resourceAt(pdev, index);
  const whole = Math.ceil(resource.size / PAGE_SIZE) * PAGE_SIZE;
  if (offset + length > whole || (!resource.parent && !pdev.isVirtfn)) {
    throw new SystemError('EINVAL', `${length} bytes at ${offset} are not in BAR ${index}`, {
      syscall: 'mmap',
      subject: pdev.name,
    });
  }
  return new BarPages(pdev.hw, index, offset, resource.start);
}

/** Pages of a BAR, as a CPU sees them. */
class BarPages implements Mapping {
  readonly kind = 'io';
  readonly #hw: PciFunction;
  readonly #bar: number;
  readonly #offset: number;
  readonly #address: number;

  constructor(hw: PciFunction, bar: number, offset: number, address: number) {
    this.#hw = hw;
    this.#bar = bar;
    this.#offset = offset;
    this.#address = address;
  }

  load(position: number, size: AccessSize): bigint {
    const at = this.#offset + position;
    if (size === 8) return readBar64(this.#hw, this.#bar, at);
    return BigInt(this.#hw.readBar(this.#bar, at, size) >>> 0);
  }

  store(position: number, size: AccessSize, value: bigint): void {
    const at = this.#offset + position;
    if (size === 8) writeBar64(this.#hw, this.#bar, at, value);
    else this.#hw.writeBar(this.#bar, at, size, Number(value));
  }

  pfn(page: number): number {
    return Math.floor((this.#address + this.#offset) / PAGE_SIZE) + page;
  }
}
