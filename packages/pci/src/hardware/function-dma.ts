/*
 * DMA of a function: nothing without the bus master bit, and what the IOMMU refuses is lost, as on a real bus.
 */
import { isSystemError } from '@vfio/host';
import type { PciPort } from '../bus/function.js';

/** What DMA needs to know of its function. */
export interface DmaSource {
  readonly isBusMaster: boolean;
  readonly port: PciPort | undefined;
}

/** A function's way to memory. */
export interface FunctionDma {
  /**
   * Reads memory.
   *
   * @returns whether all of it could be read; `into` has what came before otherwise
   */
  read(iova: bigint, into: Uint8Array): Promise<boolean>;
  /** Writes memory. @returns whether all of it was written */
  write(iova: bigint, from: Uint8Array): Promise<boolean>;
  /** Writes an interrupt message. @returns whether the function may do so now */
  message(address: bigint, data: number): boolean;
}

const MESSAGE_BYTES = 4;

/** DMA of one function. */
export function dmaOf(source: DmaSource): FunctionDma {
  return {
    async read(iova, into) {
      const { port } = source;
      if (!source.isBusMaster || !port) return false;
      return await accepted(() => port.dma.read(iova, into));
    },
    async write(iova, from) {
      const { port } = source;
      if (!source.isBusMaster || !port) return false;
      return await accepted(() => port.dma.write(iova, from));
    },
    message(address, data) {
      const { port } = source;
      if (!source.isBusMaster || !port) return false;
      const bytes = new Uint8Array(MESSAGE_BYTES);
      new DataView(bytes.buffer).setUint32(0, data, true);
      postMessage(port, address, bytes);
      return true;
    },
  };
}

async function accepted(transfer: () => void | Promise<void>): Promise<boolean> {
  try {
    await transfer();
    return true;
  } catch (error) {
    // The IOMMU has noted it; a device only learns that its request came back.
    if (isSystemError(error, 'EFAULT')) return false;
    throw error;
  }
}

/** A message is posted: nobody waits for it, and nobody hears that it was refused. */
function postMessage(port: PciPort, address: bigint, bytes: Uint8Array): void {
  try {
    const pending = port.dma.write(address, bytes);
    if (pending !== undefined) void pending.catch(refused);
  } catch (error) {
    refused(error);
  }
}

function refused(error: unknown): void {
  if (!isSystemError(error, 'EFAULT')) throw error;
}
