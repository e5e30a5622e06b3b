/*
 * BARs as buffers for other devices. A buffer is of use only while the function answers: it is revoked when memory is
 * disabled, on resets and in low power, and usable again afterwards; when the device is closed it is revoked for good, and the
 * file lives on without it.
 */
import {
  deviceFeatureDmaBuf,
  type FeatureCall,
  putRegistration,
  regionDmaRange,
  tryGetRegistration,
  VfioError,
} from '@vfio/core';
import { type DmaBufAttachment, DmaBufFile, type DmaBufOps, type DmaBufSegment, O, PAGE_SIZE } from '@vfio/host';
import { ResourceFlag } from '../bus/resource-tree.js';
import { resourceFlags, resourceLen, resourceStart } from '../bus/resources.js';
import type { PciCoreDevice } from './core-device.js';
import { downWriteMemory, memoryEnabled } from './memory.js';

const LAST_BAR = 5;
const MAX_LENGTH = 2n ** 63n;
/** End of what an address of 64 bits can say. */
const ADDRESS_END = 2n ** 64n;
/** Bytes that the kernel allocates in one piece. Source: include/linux/slab.h KMALLOC_MAX_SIZE */
const KMALLOC_MAX_SIZE = 4 * 1024 * 1024;

/** A part of a BAR, in bytes. */
interface Range {
  readonly offset: bigint;
  readonly length: bigint;
}

/**
 * One buffer.
 *
 * @source drivers/vfio/pci/vfio_pci_dmabuf.c struct vfio_pci_dma_buf
 */
class PciDmaBuf implements DmaBufOps {
  /** Taken back by `DmaBufs.cleanup`, which leaves the file on its own. */
  owner: DmaBufs | undefined;
  revoked: boolean;
  readonly #segments: readonly DmaBufSegment[];

  constructor(owner: DmaBufs, segments: readonly DmaBufSegment[], revoked: boolean) {
    this.owner = owner;
    this.revoked = revoked;
    this.#segments = segments;
  }

  /** @throws EOPNOTSUPP, ENODEV. Source: drivers/vfio/pci/vfio_pci_dmabuf.c vfio_pci_dma_buf_attach() */
  attach({ importer, revocable }: DmaBufAttachment): void {
    if (!importer.peer2peer) throw failure('EOPNOTSUPP', `${importer.name} can not reach other devices`);
    if (this.revoked) throw failure('ENODEV', 'the device does not answer');
    if (!revocable) throw failure('EOPNOTSUPP', `${importer.name} can not give a buffer up`);
  }

  /** @throws ENODEV. Source: drivers/vfio/pci/vfio_pci_dmabuf.c vfio_pci_dma_buf_map() */
  map(): readonly DmaBufSegment[] {
    if (this.revoked) throw failure('ENODEV', 'the device does not answer');
    return this.#segments;
  }

  unmap(): void {}

  /** Source: drivers/vfio/pci/vfio_pci_dmabuf.c vfio_pci_dma_buf_release() */
  async release(): Promise<void> {
    await this.owner?.forget(this);
  }
}

/**
 * The buffers of a function.
 *
 * @source drivers/vfio/pci/vfio_pci_dmabuf.c
 */
export class DmaBufs {
  readonly #device: PciCoreDevice;
  readonly #bufs = new Map<PciDmaBuf, DmaBufFile>();

  constructor(device: PciCoreDevice) {
    this.#device = device;
  }

  /** How many there are. */
  get size(): number {
    return this.#bufs.size;
  }

  /**
   * VFIO_DEVICE_FEATURE_DMA_BUF: exports ranges of a BAR.
   *
   * @returns a descriptor
   * @throws EOPNOTSUPP - the driver does not export its BARs
   * @throws EINVAL - no ranges, flags, a range that is empty, not of whole pages or outside of the BAR; a BAR of ports
   * @throws EOVERFLOW - a range whose end no address reaches
   * @throws ENODEV - no BAR, or one that is not mapped; the device is going
   * @throws ENOMEM - more ranges than can be kept
   * @throws EFAULT, EMFILE
   * @source drivers/vfio/pci/vfio_pci_dmabuf.c vfio_pci_core_feature_dma_buf()
   */
  async feature(feature: FeatureCall): Promise<number> {
    if (!this.#device.exportsDmaBufs) throw failure('EOPNOTSUPP', 'the driver exports no buffers');
    if (!feature.check('get', deviceFeatureDmaBuf.size)) return 0;
    const { order, process } = feature.call;
    const { regionIndex, openFlags, flags, nrRanges } = deviceFeatureDmaBuf.decode(
      feature.copyIn(deviceFeatureDmaBuf.size),
      order,
    );
    if (nrRanges === 0 || flags !== 0) throw feature.error('EINVAL', `${nrRanges} ranges, flags ${flags}`);
    const mapping = this.#device.barmap[regionIndex];
    if (regionIndex > LAST_BAR || mapping === undefined || typeof mapping === 'string') {
      throw failure('ENODEV', `region ${regionIndex} is no BAR that is mapped`);
    }
    const ranges = this.#readRanges(feature, nrRanges);
    const segments = this.#segmentsOf(feature, regionIndex, ranges);
    const size = segments.reduce((sum, { length }) => sum + length, 0);
    const file = await this.#export(segments, size, openFlags);
    try {
      return process.files.add(file, { cloexec: (openFlags & O.CLOEXEC) !== 0 });
    } catch (error) {
      await file.put();
      throw error;
    }
  }

  /**
   * Takes all buffers back, or gives them again. The memory lock is held for writing.
   *
   * @source drivers/vfio/pci/vfio_pci_dmabuf.c vfio_pci_dma_buf_move()
   */
  async move(revoked: boolean): Promise<void> {
    for (const [buf, file] of [...this.#bufs]) {
      if (buf.revoked === revoked) continue;
      if (revoked) buf.revoked = true;
      await file.invalidateMappings();
      buf.revoked = revoked;
    }
  }

  /**
   * Takes all buffers back for good: the device is being closed. Their files know nothing of it afterwards.
   *
   * @source drivers/vfio/pci/vfio_pci_dmabuf.c vfio_pci_dma_buf_cleanup()
   */
  async cleanup(): Promise<void> {
    using _held = await downWriteMemory(this.#device);
    for (const [buf, file] of [...this.#bufs]) {
      this.#bufs.delete(buf);
      buf.owner = undefined;
      buf.revoked = true;
      await file.invalidateMappings();
      putRegistration(this.#device);
    }
  }

  /** @internal the file of a buffer is gone */
  async forget(buf: PciDmaBuf): Promise<void> {
    using _held = await downWriteMemory(this.#device);
    // whoever closed the device meanwhile was faster
    if (this.#bufs.delete(buf)) putRegistration(this.#device);
  }

  #readRanges(feature: FeatureCall, count: number): Range[] {
    const { size } = regionDmaRange;
    if (count * size > KMALLOC_MAX_SIZE) throw failure('ENOMEM', `${count} ranges`);
    const bytes = feature.copyIn(count * size, deviceFeatureDmaBuf.size);
    let total = 0n;
    return Array.from({ length: count }, (_, i) => {
      const { offset, length } = regionDmaRange.decode(bytes.subarray(i * size, (i + 1) * size), feature.call.order);
      const page = BigInt(PAGE_SIZE);
      total += length;
      if (length === 0n || offset % page !== 0n || length % page !== 0n || total >= MAX_LENGTH) {
        throw feature.error('EINVAL', `range ${i}: 0x${length.toString(16)} bytes at 0x${offset.toString(16)}`);
      }
      return { offset, length };
    });
  }

  /** Source: drivers/vfio/pci/vfio_pci_dmabuf.c vfio_pci_core_get_dmabuf_phys(), vfio_pci_core_fill_phys_vec() */
  #segmentsOf(feature: FeatureCall, bar: number, ranges: readonly Range[]): DmaBufSegment[] {
    const { pdev } = this.#device;
    if ((resourceFlags(pdev, bar) & ResourceFlag.MEM) === 0) {
      throw feature.error('EINVAL', `BAR ${bar} has ports, which no other device reaches`);
    }
    const start = BigInt(resourceStart(pdev, bar));
    return ranges.map(({ offset, length }) => {
      const where = `0x${offset.toString(16)}+0x${length.toString(16)}`;
      if (start + offset + length >= ADDRESS_END) throw feature.error('EOVERFLOW', `${where} has no address`);
      if (offset + length > BigInt(resourceLen(pdev, bar)))
        throw feature.error('EINVAL', `${where} is not in BAR ${bar}`);
      return { phys: Number(start + offset), length: Number(length) };
    });
  }

  async #export(segments: readonly DmaBufSegment[], size: number, flags: number): Promise<DmaBufFile> {
    const device = this.#device;
    device.pdev.pciHost.faults.check('dma_buf_export:dmabuf');
    if (!tryGetRegistration(device)) throw failure('ENODEV', 'the device is going');
    using _held = await downWriteMemory(device);
    const buf = new PciDmaBuf(this, segments, !memoryEnabled(device));
    const file = new DmaBufFile({ size, flags, ops: buf });
    this.#bufs.set(buf, file);
    return file;
  }
}

function failure(code: 'ENODEV' | 'ENOMEM' | 'EOPNOTSUPP', reason: string): VfioError {
  return new VfioError(code, reason, { syscall: 'VFIO_DEVICE_FEATURE' });
}
