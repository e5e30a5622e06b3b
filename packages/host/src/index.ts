/* Public names of @vfio/host, by room. A room begins with a comment and an empty line, which keeps the rooms apart. */

// Foundations

export { BTree, byNumber } from './b-tree.js';
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
export { type Counted, Kref } from './sync/kref.js';
export { type AcquireOptions, type Acquisition, Lockdep, type LockTask } from './sync/lockdep.js';
export { Mutex } from './sync/mutex.js';
export { RefCount } from './sync/refcount.js';
export { RwLock } from './sync/rwlock.js';
export { SpinLock } from './sync/spinlock.js';
export { WaitQueue } from './sync/waiters.js';
export { Work, WorkQueue, type WorkQueueOptions } from './sync/workqueue.js';

// Memory

export { AddressSpace } from './mm/address-space.js';
export { InodeMapping } from './mm/inode-mapping.js';
export { type ByteOrder, HUGE_PAGE_SIZE, PAGE_SHIFT, PAGE_SIZE, Prot, pageAlign, TASK_SIZE } from './mm/layout.js';
export type { AnonymousMapOptions, FileMapOptions, MapOptions, PinOptions } from './mm/map-options.js';
export { type AccessSize, type Mapping, type PageRef, SegmentationFault } from './mm/mapping.js';
export type { MmioWindow, PlacedWindow } from './mm/mmio-windows.js';
export { PageRange } from './mm/page-range.js';
export { PhysicalMemory, type PhysicalMemoryOptions } from './mm/physical-memory.js';
export { PinnedRun } from './mm/pinned-run.js';
export { UserBuffer, userBuffer } from './mm/user-buffer.js';
export { Vma } from './mm/vma.js';

// Processes and files

export {
  CharDevices,
  MEM_MAJOR,
  MISC_MAJOR,
  type MiscMinor,
  type OpenDevice,
  type Registration,
} from './fs/chrdevs.js';
export { DevNode, type DevNodeOptions, Devtmpfs } from './fs/devtmpfs.js';
export {
  DmaBufAttachment,
  DmaBufFile,
  type DmaBufImporter,
  type DmaBufOps,
  type DmaBufOptions,
  type DmaBufSegment,
} from './fs/dma-buf.js';
export { EventFd, EventFdFile, type EventFdOptions, type EventSource, eventfdFromFd } from './fs/eventfd.js';
export { File, type FileOptions, IoctlCall, type MmapRequest, PathFile, type SeekKind } from './fs/file.js';
export { type DescriptorOptions, FileTable } from './fs/file-table.js';
export { DEFAULT_POLL, O, Poll, Seek } from './fs/flags.js';
export type { PollRequest } from './fs/poll.js';
export { ProcFs } from './fs/proc.js';
export { type ShowText, TextFile, TextNode, type TextNodeOptions } from './fs/text-file.js';
export { TmpfsDirectory, TmpfsFile, TmpfsNode } from './fs/tmpfs.js';
export { type Resolved, type ResolveOptions, Vfs } from './fs/vfs.js';
export { Access, type DeviceNumber, type NodeKind, permitted, type VfsNode } from './fs/vfs-node.js';
export { type Capability, Credentials } from './process/credentials.js';
export { type Limit, type LimitName, Limits, RLIM_INFINITY } from './process/limits.js';
export type { FileMmapOptions } from './process/map-file.js';
export type { DirectoryEntry, Stat } from './process/path-calls.js';
export { type EventFdFlags, type ExitStatus, Process } from './process/process.js';
export { ProcessTable, type ProcessTableOptions, type SpawnOptions } from './process/process-table.js';
export {
  type Syscall,
  type SyscallArguments,
  type SyscallObserver,
  type SyscallOutcome,
  Syscalls,
} from './process/syscalls.js';
export type { TransferBuffer, UserRange } from './process/transfer.js';

// Sysfs and the driver model

export { Bus, type BusEvent, type BusOptions } from './drivers/bus.js';
export { DeviceClass, type DeviceClassOptions, type DeviceNodeName } from './drivers/class.js';
export type { DeviceNodes, DriverCoreHost } from './drivers/core-host.js';
export { Device, type DeviceOptions } from './drivers/device.js';
export { DeviceCore, type DeviceCoreOptions } from './drivers/device-core.js';
export { Driver, type DriverOptions } from './drivers/driver.js';
export { DriverData } from './drivers/driver-data.js';
export { matchDriverOverride, setDriverOverride } from './drivers/driver-override.js';
export { RuntimePm, type RuntimePmOps, type RuntimePmOptions, type RuntimeStatus } from './drivers/runtime-pm.js';
export { type Uevent, type UeventAction, UeventEnv, Uevents, ueventActions } from './drivers/uevents.js';
export { DeviceWakeup, type WakeupSources } from './drivers/wakeup.js';
export type { Attribute, AttributeGroup, BinAttribute } from './sysfs/attribute.js';
export { Debugfs } from './sysfs/debugfs.js';
export { SysfsDir, type SysfsNode } from './sysfs/dir.js';
export { SysfsFile } from './sysfs/file.js';
export { SysfsLink } from './sysfs/link.js';
export {
  cString,
  kstrtobool,
  kstrtoint,
  kstrtoll,
  kstrtouint,
  kstrtoull,
  sysfsStreq,
} from './sysfs/parse.js';
export { Sysfs } from './sysfs/sysfs.js';

// Modules

export { Module, type ModuleContext, type ModuleSpec, type ModuleState } from './modules/module.js';
export { Modules, type ModulesHost } from './modules/modules.js';
export { Param, type ParamSpec, type ParamTypes, type ParamValue } from './modules/params.js';

// Virtual machines

export { Kvm, type KvmDevice, type KvmDeviceAttr, type KvmDeviceOps, type KvmHost, KvmVmFile } from './kvm/kvm.js';
export { KvmVm } from './kvm/vm.js';

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
export { type GroupType, IommuGroup } from './iommu/group.js';
export { Iommu, type IommuCapability, type IommuEnvironment, type ProbeOptions } from './iommu/iommu.js';
export type { IommuSysfs, IommuSysfsHost } from './iommu/iommu-sysfs.js';
export { type GroupPasids, NO_PASID, PASID_LIMIT, type PasidSupport } from './iommu/pasids.js';
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
  type IrqChip,
  type IrqHandler,
  IrqLine,
  type IrqReturn,
  type IrqTrigger,
  type RequestIrqOptions,
} from './irq/line.js';

// Collections

export { SmallMap, SmallSet } from './small-map.js';

// The host

export { Host, type HostOptions } from './host.js';
export { type MiscDevice, type MiscDeviceOptions, MiscDevices, type MiscHost } from './misc.js';
