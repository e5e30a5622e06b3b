/**
 * What VFIO_DEVICE_SET_IRQS requires of every request, whichever driver serves it.
 */
import { VfioError } from './errors.js';
import { type IrqSet, IrqSetFlag, irqSet } from './uapi/device.js';

const u32Max = 0xffff_ffff;

/** Bytes of an element of each kind of data. */
const elementSize: ReadonlyMap<number, number> = new Map([
  [IrqSetFlag.DATA_NONE, 0],
  [IrqSetFlag.DATA_BOOL, 1],
  [IrqSetFlag.DATA_EVENTFD, 4],
]);

function invalid(reason: string): VfioError {
  return new VfioError('EINVAL', reason, { syscall: 'VFIO_DEVICE_SET_IRQS' });
}

/**
 * Checks the head of a SET_IRQS request and says how much data follows it. The action bits are the driver's to check.
 *
 * @param hdr - as the caller gave it
 * @param numIrqs - interrupts that the index has; only looked at when the index is valid
 * @param maxIndex - one more than the highest index
 * @returns bytes of data behind the head, to be copied by the driver
 * @throws EINVAL - the head is short, the index or a flag unknown, the range outside the index, not exactly one kind of
 * data, or `argsz` has no room for the data
 * @source drivers/vfio/vfio_main.c vfio_set_irqs_validate_and_prepare()
 */
export function setIrqsValidateAndPrepare(hdr: Readonly<IrqSet>, numIrqs: number, maxIndex: number): number {
  const { argsz, flags, index, start, count } = hdr;
  if (argsz < irqSet.size) throw invalid(`argsz is ${argsz}, ${irqSet.size} are needed`);
  if (index >= maxIndex) throw invalid(`index ${index} of ${maxIndex}`);
  if (count >= u32Max - start) throw invalid(`${count} interrupts from ${start} on`);
  if ((flags & ~(IrqSetFlag.DATA_TYPE_MASK | IrqSetFlag.ACTION_TYPE_MASK)) !== 0) {
    throw invalid(`flags 0x${flags.toString(16)}`);
  }
  if (start >= numIrqs || start + count > numIrqs) {
    throw invalid(`interrupts ${start} to ${start + count} of index ${index}, which has ${numIrqs}`);
  }
  const size = elementSize.get(flags & IrqSetFlag.DATA_TYPE_MASK);
  if (size === undefined) throw invalid(`not one kind of data: flags 0x${flags.toString(16)}`);
  const dataSize = count * size;
  if (argsz - irqSet.size < dataSize) throw invalid(`argsz is ${argsz}, the data has ${dataSize} bytes`);
  return dataSize;
}
