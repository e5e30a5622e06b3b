/**
 * What each request takes, by the kind of file it is made on: its name in C, and the layout of its argument with the names of
 * bits and values. For whoever shows calls to people; the code that answers them does not look here.
 */
import type { ByteOrder } from '@vfio/host';
import {
  bitmap,
  DirtyPagesFlag,
  DmaMapFlag,
  DmaUnmapFlag,
  Extension,
  GroupStatusFlag,
  groupStatus,
  IommuInfoCap,
  IommuInfoFlag,
  iommuType1DirtyBitmap,
  iommuType1DirtyBitmapGet,
  iommuType1DmaMap,
  iommuType1DmaUnmap,
  iommuType1Info,
} from './container.js';
import {
  DeviceAttachFlag,
  DeviceBindFlag,
  DeviceDetachFlag,
  DeviceInfoCap,
  DeviceInfoFlag,
  deviceAttachIommufdPt,
  deviceBindIommufd,
  deviceDetachIommufdPt,
  deviceGfxPlaneInfo,
  deviceInfo,
  deviceIoeventfd,
  GfxPlaneType,
  IoeventfdFlag,
  IrqInfoFlag,
  IrqSetFlag,
  irqInfo,
  irqSet,
  PciHotResetFlag,
  pciDependentDevice,
  pciHotReset,
  pciHotResetInfo,
  RegionInfoCap,
  RegionInfoFlag,
  regionInfo,
} from './device.js';
import {
  BusMasterOp,
  deviceFeature,
  deviceFeatureBusMaster,
  deviceFeatureDmaBuf,
  deviceFeatureDmaLoggingControl,
  deviceFeatureDmaLoggingReport,
  deviceFeatureMigDataSize,
  deviceFeatureMigration,
  deviceFeatureMigState,
  deviceLowPowerEntryWithWakeup,
  Feature,
  FeatureFlag,
  MigrationFlag,
  MigState,
  PrecopyInfoFlag,
  precopyInfo,
} from './feature.js';
import * as iommufd from './iommufd.js';
import { IommufdRequest, Request } from './requests.js';
import type { Fields } from './struct.js';

/** Kinds of file that the requests of VFIO and iommufd are made on. */
export type UapiFile = 'container' | 'group' | 'device' | 'migration' | 'iommufd';

/** A decoded struct, field by field. */
type Head = Readonly<Record<string, unknown>>;

type Names = Readonly<Record<string, number>>;

/** What the numbers of a field mean: bits that add up, or one value. */
export type FieldNames = { readonly bits: Names } | { readonly value: Names };

/** A `Struct` as it takes to show one. */
export interface UapiLayout {
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  readonly fields: Fields;
  decode(from: Uint8Array, order: ByteOrder): object;
}

/** A struct of the uAPI with what it takes to read it. */
export interface UapiStruct {
  readonly struct: UapiLayout;
  /** Fields whose numbers have names. */
  readonly names?: Readonly<Record<string, FieldNames>>;
  /** Fields that the kernel fills in, whatever the caller left there. */
  readonly out?: readonly string[];
  /** Names of the capabilities that `capOffset` leads to. */
  readonly caps?: Names;
  /** What comes right behind the struct, which depends on what is in it. */
  rest?(head: Head): UapiRest | undefined;
}

/** What follows a struct: another one, or elements of one kind to the end. */
export type UapiRest =
  | { readonly kind: 'struct'; readonly layout: UapiStruct; readonly filledByKernel: boolean }
  | { readonly kind: 'structs'; readonly struct: UapiLayout; readonly filledByKernel: boolean }
  | { readonly kind: 's32' | 'u8'; readonly count: number };

/** The argument of a request. */
export type UapiArgument =
  | { readonly kind: 'none' }
  /** A number in the place of an address. */
  | { readonly kind: 'number'; readonly names?: Names }
  /** The address of a 32-bit number, a descriptor. */
  | { readonly kind: 's32' }
  /** The address of a text that ends with a zero. */
  | { readonly kind: 'text' }
  | ({ readonly kind: 'struct' } & UapiStruct);

/** A request: its name in C, and what it takes. */
export interface UapiCall {
  readonly name: string;
  readonly argument: UapiArgument;
  /** What it returns is a descriptor. */
  readonly returnsFd?: true;
}

const none: UapiArgument = { kind: 'none' };

function layout(struct: UapiLayout, more: Omit<UapiStruct, 'struct'> = {}): UapiArgument {
  return { kind: 'struct', struct, ...more };
}

function has({ flags }: Head, bit: number): boolean {
  return typeof flags === 'number' && (flags & bit) !== 0;
}

function count({ count }: Head): number {
  return typeof count === 'number' ? count : 0;
}

const container: readonly (readonly [keyof typeof Request, UapiArgument])[] = [
  ['GET_API_VERSION', none],
  ['CHECK_EXTENSION', { kind: 'number', names: Extension }],
  ['SET_IOMMU', { kind: 'number', names: Extension }],
  [
    'IOMMU_GET_INFO',
    layout(iommuType1Info, {
      names: { flags: { bits: IommuInfoFlag } },
      out: ['flags', 'iovaPgsizes', 'capOffset'],
      caps: IommuInfoCap,
    }),
  ],
  ['IOMMU_MAP_DMA', layout(iommuType1DmaMap, { names: { flags: { bits: DmaMapFlag } } })],
  [
    'IOMMU_UNMAP_DMA',
    layout(iommuType1DmaUnmap, {
      names: { flags: { bits: DmaUnmapFlag } },
      rest: (head) => {
        if (!has(head, DmaUnmapFlag.GET_DIRTY_BITMAP)) return undefined;
        return { kind: 'struct', layout: { struct: bitmap }, filledByKernel: false };
      },
    }),
  ],
  ['IOMMU_ENABLE', none],
  ['IOMMU_DISABLE', none],
  [
    'IOMMU_DIRTY_PAGES',
    layout(iommuType1DirtyBitmap, {
      names: { flags: { bits: DirtyPagesFlag } },
      rest: (head) => {
        if (!has(head, DirtyPagesFlag.GET_BITMAP)) return undefined;
        return { kind: 'struct', layout: { struct: iommuType1DirtyBitmapGet }, filledByKernel: false };
      },
    }),
  ],
];

const group: typeof container = [
  ['GROUP_GET_STATUS', layout(groupStatus, { names: { flags: { bits: GroupStatusFlag } }, out: ['flags'] })],
  ['GROUP_SET_CONTAINER', { kind: 's32' }],
  ['GROUP_UNSET_CONTAINER', none],
  ['GROUP_GET_DEVICE_FD', { kind: 'text' }],
];

/** `flags` of DEVICE_FEATURE: what to do, and the number of a feature in the low half. */
const featureFlags: FieldNames = { bits: { GET: FeatureFlag.GET, SET: FeatureFlag.SET, PROBE: FeatureFlag.PROBE } };

/** The data of each feature. */
const features: Readonly<Record<number, UapiStruct>> = {
  [Feature.MIGRATION]: {
    struct: deviceFeatureMigration,
    names: { flags: { bits: MigrationFlag } },
  },
  [Feature.MIG_DEVICE_STATE]: {
    struct: deviceFeatureMigState,
    names: { deviceState: { value: MigState } },
  },
  [Feature.LOW_POWER_ENTRY_WITH_WAKEUP]: { struct: deviceLowPowerEntryWithWakeup },
  [Feature.DMA_LOGGING_START]: { struct: deviceFeatureDmaLoggingControl },
  [Feature.DMA_LOGGING_REPORT]: { struct: deviceFeatureDmaLoggingReport },
  [Feature.MIG_DATA_SIZE]: { struct: deviceFeatureMigDataSize },
  [Feature.BUS_MASTER]: { struct: deviceFeatureBusMaster, names: { op: { value: BusMasterOp } } },
  [Feature.DMA_BUF]: { struct: deviceFeatureDmaBuf },
};

const device: typeof container = [
  [
    'DEVICE_GET_INFO',
    layout(deviceInfo, {
      names: { flags: { bits: DeviceInfoFlag } },
      out: ['flags', 'numRegions', 'numIrqs', 'capOffset'],
      caps: DeviceInfoCap,
    }),
  ],
  [
    'DEVICE_GET_REGION_INFO',
    layout(regionInfo, {
      names: { flags: { bits: RegionInfoFlag } },
      out: ['flags', 'capOffset', 'size', 'offset'],
      caps: RegionInfoCap,
    }),
  ],
  ['DEVICE_GET_IRQ_INFO', layout(irqInfo, { names: { flags: { bits: IrqInfoFlag } }, out: ['flags', 'count'] })],
  [
    'DEVICE_SET_IRQS',
    layout(irqSet, {
      names: { flags: { bits: omit(IrqSetFlag, 'DATA_TYPE_MASK', 'ACTION_TYPE_MASK') } },
      rest: (head) => {
        if (has(head, IrqSetFlag.DATA_EVENTFD)) return { kind: 's32', count: count(head) };
        return has(head, IrqSetFlag.DATA_BOOL) ? { kind: 'u8', count: count(head) } : undefined;
      },
    }),
  ],
  ['DEVICE_RESET', none],
  [
    'DEVICE_GET_PCI_HOT_RESET_INFO',
    layout(pciHotResetInfo, {
      names: { flags: { bits: PciHotResetFlag } },
      out: ['flags', 'count'],
      rest: () => ({ kind: 'structs', struct: pciDependentDevice, filledByKernel: true }),
    }),
  ],
  ['DEVICE_PCI_HOT_RESET', layout(pciHotReset, { rest: (head) => ({ kind: 's32', count: count(head) }) })],
  [
    'DEVICE_QUERY_GFX_PLANE',
    layout(deviceGfxPlaneInfo, {
      names: { flags: { bits: GfxPlaneType } },
      out: Object.keys(deviceGfxPlaneInfo.fields).filter((name) => !['argsz', 'flags', 'drmPlaneType'].includes(name)),
    }),
  ],
  ['DEVICE_GET_GFX_DMABUF', { kind: 's32' }],
  ['DEVICE_IOEVENTFD', layout(deviceIoeventfd, { names: { flags: { bits: omit(IoeventfdFlag, 'SIZE_MASK') } } })],
  [
    'DEVICE_FEATURE',
    layout(deviceFeature, {
      names: { flags: featureFlags },
      rest: (head) => {
        const { flags } = head;
        if (typeof flags !== 'number' || has(head, FeatureFlag.PROBE)) return undefined;
        const data = features[flags & FeatureFlag.MASK];
        return data && { kind: 'struct', layout: data, filledByKernel: has(head, FeatureFlag.GET) };
      },
    }),
  ],
  ['DEVICE_BIND_IOMMUFD', layout(deviceBindIommufd, { names: { flags: { bits: DeviceBindFlag } }, out: ['outDevid'] })],
  ['DEVICE_ATTACH_IOMMUFD_PT', layout(deviceAttachIommufdPt, { names: { flags: { bits: DeviceAttachFlag } } })],
  ['DEVICE_DETACH_IOMMUFD_PT', layout(deviceDetachIommufdPt, { names: { flags: { bits: DeviceDetachFlag } } })],
];

const migration: typeof container = [
  [
    'MIG_GET_PRECOPY_INFO',
    layout(precopyInfo, {
      names: { flags: { bits: PrecopyInfoFlag } },
      out: ['flags', 'initialBytes', 'dirtyBytes'],
    }),
  ],
];

const iommufdCalls: readonly (readonly [keyof typeof IommufdRequest, UapiArgument])[] = [
  ['DESTROY', layout(iommufd.iommuDestroy)],
  ['IOAS_ALLOC', layout(iommufd.iommuIoasAlloc, { out: ['outIoasId'] })],
  ['IOAS_ALLOW_IOVAS', layout(iommufd.iommuIoasAllowIovas)],
  ['IOAS_COPY', layout(iommufd.iommuIoasCopy, { names: { flags: { bits: iommufd.IommuIoasMapFlag } } })],
  ['IOAS_IOVA_RANGES', layout(iommufd.iommuIoasIovaRanges, { out: ['outIovaAlignment'] })],
  ['IOAS_MAP', layout(iommufd.iommuIoasMap, { names: { flags: { bits: iommufd.IommuIoasMapFlag } } })],
  ['IOAS_UNMAP', layout(iommufd.iommuIoasUnmap)],
  [
    'OPTION',
    layout(iommufd.iommuOption, {
      names: { optionId: { value: iommufd.IommuOptionId }, op: { value: iommufd.IommuOptionOp } },
    }),
  ],
  ['VFIO_IOAS', layout(iommufd.iommuVfioIoas, { names: { op: { value: iommufd.IommuVfioIoasOp } } })],
  [
    'HWPT_ALLOC',
    layout(iommufd.iommuHwptAlloc, {
      names: {
        flags: { bits: iommufd.IommuHwptAllocFlag },
        dataType: { value: iommufd.IommuHwptDataType },
      },
      out: ['outHwptId'],
    }),
  ],
  [
    'GET_HW_INFO',
    layout(iommufd.iommuHwInfo, {
      names: { flags: { bits: iommufd.IommuHwInfoFlag }, outCapabilities: { bits: iommufd.IommuHwCap } },
      out: ['outDataType', 'outMaxPasidLog2', 'outCapabilities'],
    }),
  ],
  [
    'HWPT_SET_DIRTY_TRACKING',
    layout(iommufd.iommuHwptSetDirtyTracking, { names: { flags: { bits: iommufd.IommuHwptDirtyTrackingFlag } } }),
  ],
  [
    'HWPT_GET_DIRTY_BITMAP',
    layout(iommufd.iommuHwptGetDirtyBitmap, { names: { flags: { bits: iommufd.IommuHwptGetDirtyBitmapFlag } } }),
  ],
  ['IOAS_MAP_FILE', layout(iommufd.iommuIoasMapFile, { names: { flags: { bits: iommufd.IommuIoasMapFlag } } })],
  ['IOAS_CHANGE_PROCESS', layout(iommufd.iommuIoasChangeProcess)],
];

/** Requests whose result is a descriptor. */
const descriptors: ReadonlySet<keyof typeof Request> = new Set(['GROUP_GET_DEVICE_FD', 'DEVICE_GET_GFX_DMABUF']);

const byFile: Readonly<Record<UapiFile, ReadonlyMap<number, UapiCall>>> = {
  container: vfioCalls(container),
  group: vfioCalls(group),
  device: vfioCalls(device),
  migration: vfioCalls(migration),
  iommufd: new Map([
    ...iommufdCalls.map(([name, argument]): [number, UapiCall] => [
      IommufdRequest[name],
      { name: `IOMMU_${name}`, argument },
    ]),
    // an iommufd can stand in for a container
    ...vfioCalls(container),
  ]),
};

function vfioCalls(calls: typeof container): Map<number, UapiCall> {
  return new Map(
    calls.map(([name, argument]) => [
      Request[name],
      { name: `VFIO_${name}`, argument, ...(descriptors.has(name) ? { returnsFd: true } : {}) },
    ]),
  );
}

function omit(names: Names, ...left: readonly string[]): Names {
  return Object.fromEntries(Object.entries(names).filter(([name]) => !left.includes(name)));
}

/**
 * What a request means on a kind of file.
 *
 * @returns undefined for one that this kind does not know
 */
export function uapiCall(file: UapiFile, request: number): UapiCall | undefined {
  return byFile[file].get(request);
}

/**
 * The kind of a file, by what /proc/<pid>/fd shows of it.
 *
 * @param label - `/dev/vfio/26`, `anon_inode:[vfio-device]`
 * @returns undefined for a file that has nothing to do with VFIO
 */
export function uapiFile(label: string): UapiFile | undefined {
  if (label === '/dev/vfio/vfio') return 'container';
  if (label === '/dev/iommu') return 'iommufd';
  if (label === 'anon_inode:[vfio-device]' || /^\/dev\/vfio\/devices\/vfio\d+$/.test(label)) return 'device';
  if (/^\/dev\/vfio\/(noiommu-)?\d+$/.test(label)) return 'group';
  // drivers name the stream of a migration after themselves: mtty_mig, mlx5vf_mig
  return /^anon_inode:\[?\w+_?mig\]?$/.test(label) ? 'migration' : undefined;
}
