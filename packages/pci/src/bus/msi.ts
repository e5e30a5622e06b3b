/*
 * Message signalled interrupts: MSI and MSI-X. Vectors come from the host's interrupt controller; the function gets their
 * messages. A vector is masked, where it can be, as long as nobody has requested its line.
 */
import { type ErrnoCode, type IrqLine, type IrqVector, SystemError } from '@vfio/host';
import { intx } from './intx.js';
import {
  msiCount,
  msiSetEnable,
  msixBar,
  msixClearAndSet,
  msixCount,
  writeMsiMask,
  writeMsiMessage,
  writeMsixMask,
  writeMsixMessage,
} from './msi-registers.js';
import type { PciDev } from './pci-dev.js';
import { PowerState } from './power-state.js';
import { Msix } from './regs.js';

/** What the bus keeps of a function's vectors. */
export interface MsiState {
  readonly type: 'msi' | 'msix';
  /** By number; a hole is not allocated. */
  readonly vectors: Map<number, IrqVector>;
  /** MSI: what fills the block up to a power of two, which nobody else may have either. */
  readonly spare: readonly IrqVector[];
  /** Those of `vectors` whose line somebody has requested. */
  readonly unmasked: Set<number>;
}

/** Kinds of interrupts. */
export type IrqType = 'intx' | 'msi' | 'msix';

/** Vectors that a function could have. Source: drivers/pci/msi/api.c pci_msi_vec_count(), pci_msix_vec_count() */
export function vectorCount(pdev: PciDev, type: 'msi' | 'msix'): number {
  if (type === 'msi') return pdev.msiCap === 0 ? 0 : msiCount(pdev);
  return pdev.msixCap === 0 ? 0 : msixCount(pdev);
}

/**
 * Allocates vectors and enables them in the function, whose memory must be decoded for MSI-X.
 *
 * @returns how many there are, `min` to `max`
 * @throws ERANGE - max below min, or 0
 * @throws ENOSPC - fewer than `min` can be had
 * @throws EINVAL - the function has none of this type, is not in D0, or they are enabled already
 * @throws ENOMEM - the table of MSI-X has no address, or there is no memory
 * @source drivers/pci/msi/api.c pci_alloc_irq_vectors()
 */
export function allocIrqVectors(pdev: PciDev, min: number, max: number, type: 'msi' | 'msix'): number {
  if (max < min || max < 1) throw failure('ERANGE', pdev, `${min} to ${max} vectors`);
  if (pdev.msi) throw failure('EINVAL', pdev, `${pdev.msi.type} is enabled already`);
  const { currentState } = pdev;
  if (pdev.noMsi || min < 1) throw failure('EINVAL', pdev, 'it may not use messages');
  if (currentState !== PowerState.D0) throw failure('EINVAL', pdev, 'it is not in D0');
  const count = vectorCount(pdev, type);
  if (count === 0) throw failure('EINVAL', pdev, `it has no ${type}`);
  const wanted = Math.min(count, max);
  if (wanted < min) throw failure('ENOSPC', pdev, `${min} vectors wanted of ${count}`);
  pdev.pciHost.faults.check('pci_setup_msi_context:context');
  return type === 'msi' ? enableMsi(pdev, min, wanted) : enableMsix(pdev, min, wanted);
}

/**
 * Gives all vectors back; the pin can be used again. Nobody may have their lines.
 *
 * @source drivers/pci/msi/api.c pci_free_irq_vectors()
 */
export function freeIrqVectors(pdev: PciDev): void {
  const { msi, pciHost } = pdev;
  if (!msi) return;
  pdev.msi = undefined;
  if (msi.type === 'msi') {
    msiSetEnable(pdev, false);
    // What was masked for nobody is as the function had it.
    writeMsiMask(pdev, 0);
    pdev.irq = pdev.irqLine?.irq ?? 0;
  } else {
    for (const index of msi.vectors.keys()) writeMsixMask(pdev, index, true);
    msixClearAndSet(pdev, Msix.FLAGS_ENABLE, 0);
  }
  intx(pdev, true);
  release(pciHost.irq, [...msi.vectors.values(), ...msi.spare]);
}

/** The line of a vector that is allocated. Source: drivers/pci/msi/api.c pci_irq_vector() */
export function irqVector(pdev: PciDev, index: number): IrqLine | undefined {
  return pdev.msi?.vectors.get(index)?.line;
}

/**
 * Whether vectors can be added after MSI-X is enabled: always, as interrupt domains of x86 let each function have its own.
 *
 * @source drivers/pci/msi/api.c pci_msix_can_alloc_dyn(), arch/x86/include/asm/msi.h X86_VECTOR_MSI_FLAGS_SUPPORTED
 */
export function msixCanAllocDyn(pdev: PciDev): boolean {
  return pdev.msixCap !== 0;
}

/**
 * Allocates one more vector while MSI-X is enabled.
 *
 * @throws EINVAL - MSI-X is not enabled, or its table has no such entry
 * @throws EBUSY - the vector is allocated
 * @throws ENOSPC - there is no vector left
 * @throws ENOMEM
 * @source drivers/pci/msi/api.c pci_msix_alloc_irq_at()
 */
export function msixAllocIrqAt(pdev: PciDev, index: number): IrqLine {
  const { msi, pciHost } = pdev;
  if (msi?.type !== 'msix') throw failure('EINVAL', pdev, 'MSI-X is not enabled');
  if (index >= msixCount(pdev)) throw failure('EINVAL', pdev, `its table has no entry ${index}`);
  if (msi.vectors.has(index)) throw failure('EBUSY', pdev, `vector ${index} is allocated`);
  pciHost.faults.check('msi_domain_alloc_irq_at:desc');
  const [vector] = pciHost.irq.allocVectors({ min: 1, max: 1 });
  if (!vector) throw failure('ENOSPC', pdev, 'no vector is left');
  addEntry(pdev, msi, index, vector);
  return vector.line;
}

/**
 * Writes the message of a vector to the function again, as the kernel remembers it. A function that is not in D0 is left alone:
 * it gets its messages when it comes back.
 *
 * @source drivers/pci/msi/msi.c pci_write_msi_msg()
 */
export function restoreMsiMessage(pdev: PciDev, index: number): void {
  const { msi } = pdev;
  const vector = msi?.vectors.get(index);
  if (!msi || !vector || pdev.currentState !== PowerState.D0) return;
  if (msi.type === 'msi') writeBlock(pdev, msi);
  else writeMsixMessage(pdev, index, vector.message, !msi.unmasked.has(index));
}

/**
 * Gives a function that was reset its messages and masks again.
 *
 * @source drivers/pci/msi/msi.c pci_restore_msi_state()
 */
export function restoreMsiState(pdev: PciDev): void {
  const { msi } = pdev;
  if (!msi) return;
  intx(pdev, false);
  if (msi.type === 'msi') {
    msiSetEnable(pdev, false);
    writeBlock(pdev, msi);
    writeMasks(pdev, msi);
    msiSetEnable(pdev, true);
    return;
  }
  msixClearAndSet(pdev, 0, Msix.FLAGS_ENABLE | Msix.FLAGS_MASKALL);
  for (const [index, { message }] of msi.vectors) {
    writeMsixMessage(pdev, index, message, true);
    writeMsixMask(pdev, index, !msi.unmasked.has(index));
  }
  msixClearAndSet(pdev, Msix.FLAGS_MASKALL, 0);
}

/** Source: drivers/pci/msi/msi.c msi_capability_init() */
function enableMsi(pdev: PciDev, min: number, wanted: number): number {
  const { irq, faults } = pdev.pciHost;
  const most = multiMsi(pdev) ? wanted : 1;
  if (most < min) throw failure('ENOSPC', pdev, 'messages are not remapped: one vector is all');
  faults.check('msi_setup_msi_desc:desc');
  // The function counts up in the low bits of its message: the block has a power of two of them.
  const block = irq.allocVectors({ min, max: 2 ** Math.ceil(Math.log2(most)), contiguous: true });
  const count = Math.min(block.length, most);
  const msi: MsiState = {
    type: 'msi',
    vectors: new Map(block.slice(0, count).entries()),
    spare: block.slice(count),
    unmasked: new Set(),
  };
  msiSetEnable(pdev, false);
  writeMasks(pdev, msi);
  writeBlock(pdev, msi);
  for (const [index, { line }] of msi.vectors) {
    const setMask = (listening: boolean) => {
      if (listening) msi.unmasked.add(index);
      else msi.unmasked.delete(index);
      writeMasks(pdev, msi);
    };
    line.chip = { startup: () => setMask(true), shutdown: () => setMask(false) };
  }
  pdev.msi = msi;
  intx(pdev, false);
  msiSetEnable(pdev, true);
  pdev.irq = block[0]?.line.irq ?? 0;
  return count;
}

/**
 * Without remapping each message is one CPU's, and several can not be moved together.
 *
 * @source arch/x86/include/asm/msi.h X86_VECTOR_MSI_FLAGS_SUPPORTED, drivers/iommu/intel/irq_remapping.c dmar_msi_parent_ops
 */
function multiMsi(pdev: PciDev): boolean {
  return pdev.pciHost.iommu.unitOf(pdev)?.msiIsolated ?? false;
}

/** Source: drivers/pci/msi/msi.c msix_capability_init() */
function enableMsix(pdev: PciDev, min: number, wanted: number): number {
  const { irq, faults } = pdev.pciHost;
  const bar = pdev.resource[msixBar(pdev)];
  if (!bar || bar.size === 0 || bar.start === 0) throw failure('ENOMEM', pdev, 'the table of MSI-X has no address');
  // Whatever the table has in it, nothing is sent while it is filled.
  msixClearAndSet(pdev, 0, Msix.FLAGS_ENABLE | Msix.FLAGS_MASKALL);
  let taken: IrqVector[] = [];
  try {
    faults.check('msix_setup_msi_descs:descs');
    taken = irq.allocVectors({ min, max: wanted });
  } catch (error) {
    msixClearAndSet(pdev, Msix.FLAGS_ENABLE | Msix.FLAGS_MASKALL, 0);
    throw error;
  }
  const msi: MsiState = { type: 'msix', vectors: new Map(), spare: [], unmasked: new Set() };
  for (let index = 0; index < msixCount(pdev); index++) writeMsixMask(pdev, index, true);
  for (const [index, vector] of taken.entries()) addEntry(pdev, msi, index, vector);
  pdev.msi = msi;
  intx(pdev, false);
  msixClearAndSet(pdev, Msix.FLAGS_MASKALL, 0);
  return taken.length;
}

function addEntry(pdev: PciDev, msi: MsiState, index: number, vector: IrqVector): void {
  msi.vectors.set(index, vector);
  writeMsixMessage(pdev, index, vector.message, true);
  vector.line.chip = {
    startup: () => {
      msi.unmasked.add(index);
      writeMsixMask(pdev, index, false);
    },
    shutdown: () => {
      msi.unmasked.delete(index);
      writeMsixMask(pdev, index, true);
    },
  };
}

/** The message of vector 0 is that of the whole block. */
function writeBlock(pdev: PciDev, { vectors, spare }: MsiState): void {
  const first = vectors.get(0);
  if (first) writeMsiMessage(pdev, first.message, Math.log2(vectors.size + spare.length));
}

function writeMasks(pdev: PciDev, { unmasked }: MsiState): void {
  let mask = 0xffff_ffff;
  for (const index of unmasked) mask &= ~(1 << index);
  const bits = 2 ** msiCount(pdev) - 1;
  writeMsiMask(pdev, (mask & bits) >>> 0);
}

function release(irq: PciDev['pciHost']['irq'], vectors: readonly IrqVector[]): void {
  for (const { line } of vectors) line.chip = undefined;
  irq.freeVectorsOf(vectors);
}

function failure(code: ErrnoCode, pdev: PciDev, reason: string): SystemError {
  return new SystemError(code, reason, { syscall: 'pci_alloc_irq_vectors', subject: pdev.name });
}
