import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import * as iommufd from '../src/uapi/iommufd.js';
import * as viommu from '../src/uapi/iommufd-viommu.js';
import * as vfio from '../src/uapi/vfio.js';
import * as zdev from '../src/uapi/zdev.js';
import { allStructs, uapi } from './support/uapi.js';

interface Recorded {
  readonly structs: Record<
    string,
    { header: string; size: number; fields: Record<string, { offset: number; size: number }> }
  >;
  readonly constants: Record<string, number | string>;
}

/** Numbers past 2^53 become strings first: JSON would round them. */
const recorded: Recorded = JSON.parse(
  readFileSync(new URL('fixtures/abi-7.2.json', import.meta.url), 'utf8').replace(/:\s*(-?\d{16,})/g, ': "$1"'),
);

/** `vfio_region_info` is `regionInfo` here, `__reserved` is `reserved`. */
function camelCase(name: string): string {
  return name.replace(/^_+/, '').replace(/_+([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

/** Struct members of ours that the recorder did not see: it looked for integer types only. */
const unrecordedFields: Record<string, string> = {
  'vfio_bitmap.data': 'a pointer',
  'vfio_device_migration_info.reserved': 'declared after the macros for the field before it',
  'vfio_device_feature_dma_buf.dmaRanges': 'a flexible array with an attribute',
  'iommu_hwpt_arm_smmuv3.ste': 'an array of __aligned_le64',
  'iommu_viommu_arm_smmuv3_invalidate.cmd': 'an array of __aligned_le64',
  'iommu_vevent_arm_smmuv3.evt': 'an array of __aligned_le64',
  'iommu_vevent_tegra241_cmdqv.lvcmdqErrMap': 'an array of __aligned_le64',
};

type Rule = string | ((key: string) => string);

/** Where our numbers stand in the headers: an object, and a prefix or a rule that makes C names of its keys. */
const numberGroups: Record<string, [object: object, rule: Rule]> = {
  Request: [vfio.Request, 'VFIO_'],
  IommufdRequest: [vfio.IommufdRequest, 'IOMMU_'],
  Extension: [vfio.Extension, 'VFIO_'],
  GroupStatusFlag: [vfio.GroupStatusFlag, 'VFIO_GROUP_FLAGS_'],
  IommuInfoFlag: [vfio.IommuInfoFlag, 'VFIO_IOMMU_INFO_'],
  IommuInfoCap: [
    vfio.IommuInfoCap,
    (key) => (key === 'DMA_AVAIL' ? 'VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL' : `VFIO_IOMMU_TYPE1_INFO_CAP_${key}`),
  ],
  DmaMapFlag: [vfio.DmaMapFlag, 'VFIO_DMA_MAP_FLAG_'],
  DmaUnmapFlag: [vfio.DmaUnmapFlag, 'VFIO_DMA_UNMAP_FLAG_'],
  DirtyPagesFlag: [vfio.DirtyPagesFlag, 'VFIO_IOMMU_DIRTY_PAGES_FLAG_'],
  DeviceInfoFlag: [vfio.DeviceInfoFlag, 'VFIO_DEVICE_FLAGS_'],
  DeviceInfoCap: [vfio.DeviceInfoCap, 'VFIO_DEVICE_INFO_CAP_'],
  PciAtomicComp: [vfio.PciAtomicComp, 'VFIO_PCI_ATOMIC_'],
  RegionInfoFlag: [vfio.RegionInfoFlag, 'VFIO_REGION_INFO_FLAG_'],
  RegionInfoCap: [vfio.RegionInfoCap, 'VFIO_REGION_INFO_CAP_'],
  RegionType: [vfio.RegionType, 'VFIO_REGION_TYPE_'],
  RegionSubtype: [vfio.RegionSubtype, 'VFIO_REGION_SUBTYPE_'],
  GfxLinkState: [vfio.GfxLinkState, 'VFIO_DEVICE_GFX_LINK_STATE_'],
  IrqInfoFlag: [vfio.IrqInfoFlag, 'VFIO_IRQ_INFO_'],
  IrqSetFlag: [vfio.IrqSetFlag, 'VFIO_IRQ_SET_'],
  PciRegionIndex: [vfio.PciRegionIndex, (key) => `VFIO_PCI_${key}_REGION_INDEX`],
  PciIrqIndex: [vfio.PciIrqIndex, (key) => `VFIO_PCI_${key}_IRQ_INDEX`],
  CcwRegionIndex: [vfio.CcwRegionIndex, (key) => `VFIO_CCW_${key}_REGION_INDEX`],
  CcwIrqIndex: [vfio.CcwIrqIndex, (key) => `VFIO_CCW_${key}_IRQ_INDEX`],
  ApIrqIndex: [vfio.ApIrqIndex, (key) => `VFIO_AP_${key}_IRQ_INDEX`],
  PciHotResetFlag: [vfio.PciHotResetFlag, 'VFIO_PCI_HOT_RESET_FLAG_'],
  PciDevid: [vfio.PciDevid, 'VFIO_PCI_DEVID_'],
  GfxPlaneType: [vfio.GfxPlaneType, 'VFIO_GFX_PLANE_TYPE_'],
  IoeventfdFlag: [vfio.IoeventfdFlag, (key) => `VFIO_DEVICE_IOEVENTFD_${key.replace('WIDTH_', '')}`],
  DeviceBindFlag: [vfio.DeviceBindFlag, 'VFIO_DEVICE_BIND_FLAG_'],
  DeviceAttachFlag: [vfio.DeviceAttachFlag, 'VFIO_DEVICE_ATTACH_'],
  DeviceDetachFlag: [vfio.DeviceDetachFlag, 'VFIO_DEVICE_DETACH_'],
  FeatureFlag: [vfio.FeatureFlag, 'VFIO_DEVICE_FEATURE_'],
  Feature: [vfio.Feature, 'VFIO_DEVICE_FEATURE_'],
  MigrationFlag: [vfio.MigrationFlag, 'VFIO_MIGRATION_'],
  MigState: [vfio.MigState, 'VFIO_DEVICE_STATE_'],
  MigStateV1: [vfio.MigStateV1, (key) => (key === 'MASK' ? 'VFIO_DEVICE_STATE_MASK' : `VFIO_DEVICE_STATE_V1_${key}`)],
  PrecopyInfoFlag: [vfio.PrecopyInfoFlag, 'VFIO_PRECOPY_INFO_'],
  BusMasterOp: [vfio.BusMasterOp, 'VFIO_DEVICE_FEATURE_'],
  SpaprInfoFlag: [vfio.SpaprInfoFlag, 'VFIO_IOMMU_SPAPR_INFO_'],
  EehPeOp: [vfio.EehPeOp, 'VFIO_EEH_PE_'],
  EehPeState: [vfio.EehPeState, 'VFIO_EEH_PE_STATE_'],
  IommuIoasMapFlag: [iommufd.IommuIoasMapFlag, 'IOMMU_IOAS_MAP_'],
  IommuOptionId: [iommufd.IommuOptionId, 'IOMMU_OPTION_'],
  IommuOptionOp: [iommufd.IommuOptionOp, 'IOMMU_OPTION_OP_'],
  IommuVfioIoasOp: [iommufd.IommuVfioIoasOp, 'IOMMU_VFIO_IOAS_'],
  IommuHwptAllocFlag: [
    iommufd.IommuHwptAllocFlag,
    (key) => (key === 'FAULT_ID_VALID' ? 'IOMMU_HWPT_FAULT_ID_VALID' : `IOMMU_HWPT_ALLOC_${key}`),
  ],
  IommuHwptDataType: [iommufd.IommuHwptDataType, 'IOMMU_HWPT_DATA_'],
  IommuHwInfoFlag: [iommufd.IommuHwInfoFlag, 'IOMMU_HW_INFO_FLAG_'],
  IommuHwInfoType: [iommufd.IommuHwInfoType, 'IOMMU_HW_INFO_TYPE_'],
  IommuHwCap: [iommufd.IommuHwCap, 'IOMMU_HW_CAP_'],
  IommuHwptDirtyTrackingFlag: [iommufd.IommuHwptDirtyTrackingFlag, 'IOMMU_HWPT_DIRTY_TRACKING_'],
  IommuHwptGetDirtyBitmapFlag: [iommufd.IommuHwptGetDirtyBitmapFlag, 'IOMMU_HWPT_GET_DIRTY_BITMAP_'],
  IommuVtdS1Flag: [viommu.IommuVtdS1Flag, 'IOMMU_VTD_S1_'],
  IommuHwInfoVtdFlag: [viommu.IommuHwInfoVtdFlag, 'IOMMU_HW_INFO_VTD_'],
  IommuHwptInvalidateDataType: [
    viommu.IommuHwptInvalidateDataType,
    (key) => (key === 'VTD_S1' ? 'IOMMU_HWPT_INVALIDATE_DATA_VTD_S1' : 'IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3'),
  ],
  IommuVtdInvFlag: [viommu.IommuVtdInvFlag, 'IOMMU_VTD_INV_FLAGS_'],
  IommuPgfaultFlag: [viommu.IommuPgfaultFlag, 'IOMMU_PGFAULT_FLAGS_'],
  IommuPgfaultPerm: [viommu.IommuPgfaultPerm, 'IOMMU_PGFAULT_PERM_'],
  IommufdPageResponse: [viommu.IommufdPageResponse, 'IOMMUFD_PAGE_RESP_'],
  IommuViommuType: [viommu.IommuViommuType, 'IOMMU_VIOMMU_TYPE_'],
  IommuVeventqFlag: [viommu.IommuVeventqFlag, 'IOMMU_VEVENTQ_FLAG_'],
  IommuVeventqType: [viommu.IommuVeventqType, 'IOMMU_VEVENTQ_TYPE_'],
  IommuHwQueueType: [viommu.IommuHwQueueType, 'IOMMU_HW_QUEUE_TYPE_'],
  DeviceInfoZpciFlag: [zdev.DeviceInfoZpciFlag, 'VFIO_DEVICE_INFO_ZPCI_FLAG_'],
};

const singleNumbers: Record<string, [value: number, names: readonly string[]]> = {
  VFIO_TYPE: [vfio.VFIO_TYPE, ['VFIO_TYPE', 'IOMMUFD_TYPE']],
  VFIO_BASE: [vfio.VFIO_BASE, ['VFIO_BASE']],
  VFIO_API_VERSION: [vfio.VFIO_API_VERSION, ['VFIO_API_VERSION']],
  IOMMUFD_CMD_BASE: [vfio.IOMMUFD_CMD_BASE, ['IOMMUFD_CMD_BASE']],
  PCI_NUM_REGIONS: [vfio.PCI_NUM_REGIONS, ['VFIO_PCI_NUM_REGIONS']],
  PCI_NUM_IRQS: [vfio.PCI_NUM_IRQS, ['VFIO_PCI_NUM_IRQS']],
  CCW_NUM_REGIONS: [vfio.CCW_NUM_REGIONS, ['VFIO_CCW_NUM_REGIONS']],
  CCW_NUM_IRQS: [vfio.CCW_NUM_IRQS, ['VFIO_CCW_NUM_IRQS']],
  AP_NUM_IRQS: [vfio.AP_NUM_IRQS, ['VFIO_AP_NUM_IRQS']],
  MIG_STATE_NR: [vfio.MIG_STATE_NR, ['VFIO_DEVICE_STATE_NR']],
};

/** Recorded names that are deliberately not in core. */
const notInCore: Record<string, string> = {
  ORB_AREA_SIZE: 'linux/vfio_ccw.h belongs to the ccw driver',
  SCSW_AREA_SIZE: 'linux/vfio_ccw.h belongs to the ccw driver',
  IRB_AREA_SIZE: 'linux/vfio_ccw.h belongs to the ccw driver',
  SCHIB_AREA_SIZE: 'linux/vfio_ccw.h belongs to the ccw driver',
  VFIO_CCW_ASYNC_CMD_HSCH: 'linux/vfio_ccw.h belongs to the ccw driver',
  VFIO_CCW_ASYNC_CMD_CSCH: 'linux/vfio_ccw.h belongs to the ccw driver',
  VFIO_DEVICE_API_PCI_STRING: 'a string, recorded as its address; DeviceApi.PCI',
  VFIO_DEVICE_API_PLATFORM_STRING: 'a string, recorded as its address; DeviceApi.PLATFORM',
  VFIO_DEVICE_API_AMBA_STRING: 'a string, recorded as its address; DeviceApi.AMBA',
  VFIO_DEVICE_API_CCW_STRING: 'a string, recorded as its address; DeviceApi.CCW',
  VFIO_DEVICE_API_AP_STRING: 'a string, recorded as its address; DeviceApi.AP',
};

/** Values of type int that the recorder widened with their sign; they are used as 32 bits. */
const signed = new Set(['VFIO_PCI_DEVID_NOT_OWNED', 'VFIO_REGION_TYPE_PCI_VENDOR_TYPE']);

function ourNumbers(): Map<string, bigint> {
  const numbers = new Map<string, bigint>();
  for (const [object, rule] of Object.values(numberGroups)) {
    for (const [key, value] of Object.entries(object)) {
      numbers.set(typeof rule === 'string' ? rule + key : rule(key), BigInt(value));
    }
  }
  for (const [value, names] of Object.values(singleNumbers)) for (const name of names) numbers.set(name, BigInt(value));
  for (const [key, value] of Object.entries(vfio.IommufdRequest))
    numbers.set(`IOMMUFD_CMD_${key}`, BigInt(value & 0xff));
  return numbers;
}

function recordedNumbers(): Map<string, bigint> {
  const numbers = new Map<string, bigint>();
  for (const [name, value] of Object.entries(recorded.constants)) {
    if (name in notInCore) continue;
    numbers.set(name, signed.has(name) ? BigInt.asUintN(32, BigInt(value)) : BigInt(value));
  }
  return numbers;
}

describe('the uAPI against what a compiler said of the Linux 7.2 headers', () => {
  it('CORE-117 has every request number, flag, index and value, and no other', () => {
    expect(new Map([...ourNumbers()].sort())).toEqual(new Map([...recordedNumbers()].sort()));
  });

  it('CORE-117 compares every number that the uAPI files export', () => {
    const plain = Object.entries(uapi).filter(
      ([, value]) => typeof value === 'number' || value?.constructor === Object,
    );
    const compared = new Set([...Object.keys(numberGroups), ...Object.keys(singleNumbers), 'DeviceApi']);
    expect(plain.map(([name]) => name).filter((name) => !compared.has(name))).toEqual([]);
  });

  it('CORE-117 has every struct, under its name, and no other', () => {
    const ours = allStructs.map(([, layout]) => layout.name).sort();
    const theirs = Object.keys(recorded.structs).filter(
      (name) => recorded.structs[name]?.header !== 'linux/vfio_ccw.h',
    );
    expect(ours).toEqual(theirs.sort());
    for (const [exportName, layout] of allStructs)
      expect(exportName).toBe(camelCase(layout.name.replace(/^vfio_/, '')));
  });

  it.each(allStructs.map(([, layout]) => [layout.name, layout] as const))('CORE-117 struct %s', (name, layout) => {
    const theirs = recorded.structs[name];
    expect(layout.size).toBe(theirs?.size);
    const fields = Object.entries(layout.fields)
      .filter(([field, { kind }]) => kind !== 'pad' && !(`${name}.${field}` in unrecordedFields))
      .map(([field, { offset, size }]) => [field, { offset, size }]);
    const expected = Object.entries(theirs?.fields ?? {}).map(([field, at]) => [camelCase(field), at]);
    expect(Object.fromEntries(fields)).toEqual(Object.fromEntries(expected));
  });

  it('lists no exception without need', () => {
    for (const name of Object.keys(notInCore)) expect(recorded.constants).toHaveProperty(name);
    for (const path of Object.keys(unrecordedFields)) {
      const [name = '', field = ''] = path.split('.');
      const layout = allStructs.find(([, { name: own }]) => own === name)?.[1];
      expect(layout?.fields, path).toHaveProperty(field);
      expect(Object.keys(recorded.structs[name]?.fields ?? {}).map(camelCase), path).not.toContain(field);
    }
  });
});
