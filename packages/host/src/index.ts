/* Public names of @vfio/host, by room. A room begins with a comment and an empty line, which keeps the rooms apart. */

// Foundations

export { type Clock, type ClockTimer, RealClock, VirtualClock } from './clock.js';
export { canonicalErrno, Errno, type ErrnoCode, errnoName, isErrnoCode } from './errno.js';
export {
  type BugKind,
  isKernelBug,
  isSystemError,
  KernelBug,
  type KernelBugOptions,
  SystemError,
  type SystemErrorOptions,
} from './errors.js';
export { type FaultArm, type FaultRecording, type FaultStep, Faults } from './faults.js';
export { KernelLog, type KernelLogOptions, type LogEntry, type LogLevel, type RateLimit } from './log.js';
export { noteOrigin, type Origin, type OriginBoundary } from './origin.js';
export { freeRunning, type Scheduler } from './scheduler.js';
export { createSeams, type Seams, type SeamsOptions } from './seams.js';
export { type Leak, type LeakKind, type Tracked, Tracker } from './tracker.js';
export { Undo } from './undo.js';

// Locks and friends

export { Completion, type WaitResult } from './sync/completion.js';
export type { Held, LockClassOptions, LockOptions } from './sync/held.js';
export { IdAllocator } from './sync/ids.js';
export { Kref } from './sync/kref.js';
export { type AcquireOptions, type Acquisition, Lockdep, type LockTask } from './sync/lockdep.js';
export { Mutex } from './sync/mutex.js';
export { RefCount } from './sync/refcount.js';
export { RwLock } from './sync/rwlock.js';
export { SpinLock } from './sync/spinlock.js';
export { WaitQueue } from './sync/waiters.js';
export { Work, WorkQueue, type WorkQueueOptions } from './sync/workqueue.js';

// Memory

// Processes and files

// Sysfs and the driver model

// Modules

// IOMMU and interrupts

export { DmaEngine, DmaFault, type DmaMemory, type DmaRoute, type MsiDoorbell } from './iommu/dma.js';
export {
  type Aperture,
  type DomainKind,
  type DomainOptions,
  IommuDomain,
  IommuProt,
  type Translation,
} from './iommu/domain.js';
export { type Extent, ExtentTable, type PageRun } from './iommu/extents.js';
export { type GroupType, IommuGroup } from './iommu/group.js';
export { Iommu, type IommuCapability, type IommuEnvironment, type ProbeOptions } from './iommu/iommu.js';
export {
  formatReservedRegions,
  mergeReservedRegions,
  type ReservedRegion,
  type ReservedType,
} from './iommu/reserved.js';
export { type FaultReason, type IommuOptions, IommuUnit } from './iommu/unit.js';
export {
  InterruptController,
  type InterruptOptions,
  type IrqVector,
  type MsiMessage,
  type VectorRequest,
} from './irq/controller.js';
export {
  type IrqAction,
  type IrqHandler,
  IrqLine,
  type IrqReturn,
  type IrqTrigger,
  type RequestIrqOptions,
} from './irq/line.js';

// The host

export { Host, type HostOptions } from './host.js';
