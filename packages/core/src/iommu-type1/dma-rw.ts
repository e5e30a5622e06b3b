/**
 * The CPU reads and writes for emulated devices: no pins, just a copy between a buffer and the memory of the process that
 * made the mapping, with the protections that the process has there.
 */
import { type AddressSpace, type ErrnoCode, isSystemError, Prot } from '@vfio/host';
import { VfioError } from '../errors.js';
import { markBytesDirty } from './dirty.js';
import type { Type1State } from './state.js';
import { pageOf } from './units.js';

const syscall = 'vfio_dma_rw';

/**
 * Copies as much as one mapping holds.
 *
 * @returns bytes copied
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_type1_dma_rw_chunk()
 */
function dmaRwChunk(
  state: Type1State,
  iova: bigint,
  bytes: Uint8Array,
  write: boolean,
  caller: AddressSpace | undefined,
): number {
  const refuse = (code: ErrnoCode, reason: string, cause?: unknown) =>
    new VfioError(code, reason, { syscall, subject: `iova 0x${iova.toString(16)}`, cause });
  const dma = state.dmas.at(pageOf(iova));
  if (!dma) throw refuse('EINVAL', 'not mapped');
  if ((write && (dma.prot & Prot.WRITE) === 0) || (dma.prot & Prot.READ) === 0) {
    throw refuse('EPERM', `mapped for access ${dma.prot}, and the CPU ${write ? 'writes' : 'reads'}`);
  }
  const { mm } = dma;
  if (!mm.alive) throw refuse('EPERM', 'the owner of the memory is gone');
  if (caller && caller !== mm) throw refuse('EFAULT', 'the memory is of another process');
  const offset = iova - dma.iova;
  const left = dma.size - offset;
  const count = left < BigInt(bytes.length) ? Number(left) : bytes.length;
  const vaddr = dma.vaddr + offset;
  try {
    if (write) mm.copyTo(vaddr, bytes.subarray(0, count));
    else bytes.set(mm.copyFrom(vaddr, count));
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw refuse('EFAULT', `${count} bytes at 0x${vaddr.toString(16)} are not accessible`, error);
  }
  if (write && state.dirtyPageTracking) markBytesDirty(state, dma, offset, count);
  return count;
}

/**
 * Copies between a buffer and what is mapped at an IOVA, across mappings that follow each other. When it throws, what came
 * before is copied.
 *
 * @param write - from `bytes` to memory; it needs a mapping that can be read, too
 * @param caller - memory of the running task, undefined for a kernel thread
 * @throws EBUSY - the user is exchanging addresses
 * @throws EINVAL - a part is not mapped
 * @throws EPERM - not for this access, or the owner is gone
 * @throws EFAULT - memory of another process, or not accessible in its own
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_type1_dma_rw()
 */
export async function dmaRw(
  state: Type1State,
  iova: bigint,
  bytes: Uint8Array,
  write: boolean,
  caller: AddressSpace | undefined,
): Promise<void> {
  using _held = await state.lock.lock();
  const { log } = state.host;
  if (log.warnOnOnce(dmaRw, state.vaddrInvalidCount > 0, 'memory is accessed while addresses are exchanged')) {
    throw new VfioError('EBUSY', `${state.vaddrInvalidCount} mappings wait for an address`, { syscall });
  }
  for (let done = 0; done < bytes.length; ) {
    done += dmaRwChunk(state, iova + BigInt(done), bytes.subarray(done), write, caller);
  }
}
