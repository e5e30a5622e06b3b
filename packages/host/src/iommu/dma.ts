/*
 * DMA as the device does it: through whatever domain its group is attached to at that moment, page by page, and refused
 * with a fault where the domain says no.
 */
import { SystemError } from '../errors.js';
import { type IommuDomain, IommuProt, type Translation } from './domain.js';
import { IOTLB_PAGE_SIZE, Iotlb } from './iotlb.js';
import { NO_PASID, PASID_LIMIT } from './pasids.js';
import { FAULT_REASONS, type FaultReason, type IommuUnit, PASID_FAULT_REASONS } from './unit.js';

/** What lies behind the IOMMU: `PhysicalMemory`, or something that has to be asked and may take its time. */
export interface DmaMemory {
  /** Fills `into` from a physical address. */
  read(phys: number, into: Uint8Array): void | Promise<void>;
  /** Writes `from` to a physical address. */
  write(phys: number, from: Uint8Array): void | Promise<void>;
  /** The bytes themselves, when they are contiguous and mapped here. */
  view(phys: number, length: number): Uint8Array | undefined;
  /**
   * The page of 4 KiB at an address, for an engine to keep until `epoch` changes; without it, every access asks anew.
   *
   * @param write - whether it is written to: others can get zeros in place of memory that nobody has touched
   */
  page?(phys: number, write: boolean): Uint8Array | undefined;
  /** Another number whenever what `page` gave may not be what is at its address any more. */
  readonly epoch?: number;
}

/** What takes interrupt messages. */
export interface MsiDoorbell {
  /** Whether a write to this address is an interrupt. */
  isDoorbell(address: bigint): boolean;
  /** The message has arrived. */
  deliver(message: { readonly address: bigint; readonly data: number }): void;
}

/** Who translates for one device, asked anew for every access. */
export interface DmaRoute {
  unit(): IommuUnit | undefined;
  domain(): IommuDomain | undefined;
  /** How many PASIDs the device has; none when absent. */
  pasids?(): number;
  /** What requests with a PASID go through. */
  pasidDomain?(pasid: number): IommuDomain | undefined;
}

/** An access that the IOMMU refused, or that met no domain. */
export class DmaFault extends SystemError {
  override readonly name = 'DmaFault';
  /** first byte that could not be reached */
  readonly iova: bigint;
  readonly write: boolean;

  constructor(device: string, iova: bigint, write: boolean, why: string) {
    super('EFAULT', `${write ? 'write' : 'read'} at iova 0x${iova.toString(16)}: ${why}`, { subject: device });
    this.iova = iova;
    this.write = write;
  }
}

const MSI_MESSAGE_BYTES = 4;
const ADDRESS_LIMIT = 2n ** 64n;
/** No bus carries physical addresses beyond this. */
const PHYS_LIMIT = 2n ** 52n;

/**
 * The bus master of one device. Accesses may cross mappings; on a fault, what came before it is done, as with real
 * transactions. A device that no IOMMU stands in front of reaches all of physical memory.
 */
export class DmaEngine {
  readonly #device: string;
  readonly #memory: DmaMemory;
  readonly #doorbell: MsiDoorbell | undefined;
  readonly #route: DmaRoute;
  readonly #pasid: number | undefined;
  /** Made when there is something to remember. */
  #iotlb: Iotlb | undefined;

  /** Use `Iommu.dma`. */
  constructor(device: string, memory: DmaMemory, doorbell: MsiDoorbell | undefined, route: DmaRoute, pasid?: number) {
    this.#device = device;
    this.#pasid = pasid;
    this.#memory = memory;
    this.#doorbell = doorbell;
    this.#route = route;
  }

  /**
   * The same bus master with a PASID on every request: it reaches what that PASID is attached to and nothing else, and
   * raises no interrupts. PASID 0 shares what requests without a tag go through.
   *
   * @throws RangeError - a tag has 20 bits
   */
  tagged(pasid: number): DmaEngine {
    if (!Number.isInteger(pasid) || pasid < 0 || pasid >= PASID_LIMIT) throw new RangeError(`PASID ${pasid}`);
    return new DmaEngine(this.#device, this.#memory, undefined, this.#route, pasid);
  }

  /**
   * Reads `into.length` bytes.
   *
   * @returns a promise only if the memory takes its time
   * @throws DmaFault (EFAULT) - a byte is not mapped for reading; logged as the IOMMU would
   */
  read(iova: bigint, into: Uint8Array): void | Promise<void> {
    const address = Number(iova);
    const page = this.#reachPage(iova, address, into.length, false);
    if (page !== undefined) {
      const offset = address % IOTLB_PAGE_SIZE;
      // a view costs as much as copying a page does
      into.set(into.length === IOTLB_PAGE_SIZE ? page : page.subarray(offset, offset + into.length));
      return undefined;
    }
    return this.#transfer(iova, into, false);
  }

  /**
   * Writes all of `from`. Four bytes to the interrupt window are an interrupt message.
   *
   * @returns a promise only if the memory takes its time
   * @throws DmaFault (EFAULT) - a byte is not mapped for writing; logged as the IOMMU would
   */
  write(iova: bigint, from: Uint8Array): void | Promise<void> {
    const doorbell = this.#doorbell;
    if (doorbell !== undefined && from.length === MSI_MESSAGE_BYTES && doorbell.isDoorbell(iova)) {
      const data = new DataView(from.buffer, from.byteOffset, MSI_MESSAGE_BYTES).getUint32(0, true);
      doorbell.deliver({ address: iova, data });
      return undefined;
    }
    const address = Number(iova);
    const page = this.#reachPage(iova, address, from.length, true);
    if (page !== undefined) {
      this.#domain()?.markDirty(iova, from.length);
      page.set(from, address % IOTLB_PAGE_SIZE);
      return undefined;
    }
    return this.#transfer(iova, from, true);
  }

  /**
   * The memory itself, without a copy, for devices that work on it in place. The view stays what it is when the mapping
   * goes: take a new one for every operation. A view for writing counts as written from the start.
   *
   * @param length - bytes, more than 0
   * @returns undefined when the bytes are not contiguous or not mapped here: use `read` and `write` then
   * @throws DmaFault (EFAULT) - a byte is not mapped for this kind of access; logged as the IOMMU would
   */
  view(iova: bigint, length: number, write: boolean): Uint8Array | undefined {
    let start: number | undefined;
    for (let done = 0; done < length; ) {
      const part = this.#translate(iova + BigInt(done), length - done, write);
      start ??= part.phys;
      if (part.phys !== start + done) return undefined;
      done += part.length;
    }
    const bytes = start === undefined ? undefined : this.#memory.view(start, length);
    if (bytes !== undefined && write) this.#domain()?.markDirty(iova, length);
    return bytes;
  }

  /**
   * The page that holds all bytes of a request which can be done at once, by what earlier ones have left in the IOTLB.
   * Whatever has to be refused, asked for, made or logged is left to the long way.
   *
   * @param address - the IOVA; not exact from 2^53 on, where there are no entries
   * @returns undefined for every other request
   */
  #reachPage(iova: bigint, address: number, length: number, write: boolean): Uint8Array | undefined {
    const page = Math.floor(address / IOTLB_PAGE_SIZE);
    if (length === 0 || address + length > (page + 1) * IOTLB_PAGE_SIZE) return undefined;
    if (address < 0 || address > Number.MAX_SAFE_INTEGER) return undefined;
    if (this.#route.unit() === undefined) return undefined;
    if (this.#pasid !== undefined && this.#pasid >= (this.#route.pasids?.() ?? 0)) return undefined;
    const domain = this.#domain();
    if (domain === undefined) return undefined;
    return this.#iotlb?.find(domain, page, write) ?? this.#fillIotlb(domain, page, iova, write);
  }

  #fillIotlb(domain: IommuDomain, page: number, iova: bigint, write: boolean): Uint8Array | undefined {
    const offset = Number(iova) - page * IOTLB_PAGE_SIZE;
    const start = offset === 0 ? iova : iova - BigInt(offset);
    if (domain.aperture.end < (page + 1) * IOTLB_PAGE_SIZE - 1) return undefined;
    const found = domain.translate(start, IOTLB_PAGE_SIZE);
    if (found === undefined || found.length < IOTLB_PAGE_SIZE) return undefined;
    if ((found.prot & (write ? IommuProt.WRITE : IommuProt.READ)) === 0) return undefined;
    const bytes = this.#memory.page?.(found.phys, write);
    if (bytes === undefined) return undefined;
    this.#iotlb ??= new Iotlb(this.#memory);
    this.#iotlb.fill(domain, page, write ? found.prot : IommuProt.READ, bytes);
    return bytes;
  }

  #transfer(iova: bigint, bytes: Uint8Array, write: boolean, from = 0): void | Promise<void> {
    for (let done = from; done < bytes.length; ) {
      const at = done === 0 ? iova : iova + BigInt(done);
      const part = this.#translate(at, bytes.length - done, write);
      const piece = part.length === bytes.length ? bytes : bytes.subarray(done, done + part.length);
      if (write) this.#domain()?.markDirty(at, part.length);
      const pending = write ? this.#memory.write(part.phys, piece) : this.#memory.read(part.phys, piece);
      done += part.length;
      if (pending !== undefined) {
        const next = done;
        return pending.then(() => this.#transfer(iova, bytes, write, next));
      }
    }
    return undefined;
  }

  #translate(iova: bigint, length: number, write: boolean): Translation {
    const unit = this.#route.unit();
    if (this.#pasid !== undefined) return this.#translateTagged(unit, this.#pasid, iova, length, write);
    if (unit === undefined) return this.#untranslated(iova, length, write);
    const domain = this.#route.domain();
    if (domain === undefined || domain.kind === 'blocked') throw this.#fault(unit, iova, write, FAULT_REASONS.blocked);
    if (iova > domain.aperture.end) throw this.#fault(unit, iova, write, FAULT_REASONS.beyond);
    const found = domain.translate(iova, length);
    const needed = write ? IommuProt.WRITE : IommuProt.READ;
    if (found === undefined || (found.prot & needed) === 0) {
      throw this.#fault(unit, iova, write, write ? FAULT_REASONS.write : FAULT_REASONS.read);
    }
    return found;
  }

  /** A tag is for an IOMMU to understand: without one, nobody takes the request. */
  #translateTagged(
    unit: IommuUnit | undefined,
    pasid: number,
    iova: bigint,
    length: number,
    write: boolean,
  ): Translation {
    if (unit === undefined) throw new DmaFault(this.#device, iova, write, `nobody knows PASID ${pasid}`);
    const max = this.#route.pasids?.() ?? 0;
    if (max === 0) throw this.#fault(unit, iova, write, PASID_FAULT_REASONS.disabled);
    if (pasid >= max) throw this.#fault(unit, iova, write, PASID_FAULT_REASONS.tooLarge);
    const domain = this.#domain();
    if (domain === undefined || domain.kind === 'blocked') {
      throw this.#fault(unit, iova, write, PASID_FAULT_REASONS.blocked);
    }
    if (iova > domain.aperture.end) throw this.#fault(unit, iova, write, PASID_FAULT_REASONS.beyond);
    const found = domain.translate(iova, length);
    if (found === undefined) throw this.#fault(unit, iova, write, PASID_FAULT_REASONS.absent);
    if ((found.prot & (write ? IommuProt.WRITE : IommuProt.READ)) === 0) {
      throw this.#fault(unit, iova, write, write ? PASID_FAULT_REASONS.write : PASID_FAULT_REASONS.read);
    }
    return found;
  }

  #domain(): IommuDomain | undefined {
    const pasid = this.#pasid ?? NO_PASID;
    return pasid === NO_PASID ? this.#route.domain() : this.#route.pasidDomain?.(pasid);
  }

  /** Without an IOMMU an I/O address is a physical one. */
  #untranslated(iova: bigint, length: number, write: boolean): Translation {
    if (iova < 0n || iova >= ADDRESS_LIMIT || iova + BigInt(length) > PHYS_LIMIT) {
      throw new DmaFault(this.#device, iova, write, 'no such physical address');
    }
    return { phys: Number(iova), length, prot: IommuProt.READ | IommuProt.WRITE };
  }

  #fault(unit: IommuUnit, iova: bigint, write: boolean, reason: FaultReason): DmaFault {
    unit.reportFault(this.#device, iova, write, reason, this.#pasid);
    return new DmaFault(this.#device, iova, write, reason.text);
  }
}
