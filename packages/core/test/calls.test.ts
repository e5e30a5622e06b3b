import { describe, expect, it } from 'vitest';
import {
  Feature,
  FeatureFlag,
  IommufdRequest,
  IrqSetFlag,
  Request,
  type UapiFile,
  uapiCall,
  uapiFile,
} from '../src/index.js';

const kinds: readonly UapiFile[] = ['container', 'group', 'device', 'migration', 'iommufd'];

describe('uapiFile', () => {
  it.each([
    ['/dev/vfio/vfio', 'container'],
    ['/dev/vfio/26', 'group'],
    ['/dev/vfio/noiommu-3', 'group'],
    ['/dev/vfio/devices/vfio0', 'device'],
    ['anon_inode:[vfio-device]', 'device'],
    ['anon_inode:mtty_mig', 'migration'],
    ['anon_inode:mlx5vf_mig', 'migration'],
    ['/dev/iommu', 'iommufd'],
    ['anon_inode:[eventfd]', undefined],
    ['/dev/null', undefined],
    ['/sys/bus/pci/devices', undefined],
  ])('%s is %s', (label, kind) => {
    expect(uapiFile(label)).toBe(kind);
  });
});

describe('uapiCall', () => {
  it('tells what a number means by the kind of file', () => {
    expect(uapiCall('container', 0x3b71)?.name).toBe('VFIO_IOMMU_MAP_DMA');
    expect(uapiCall('device', 0x3b71)?.name).toBe('VFIO_DEVICE_PCI_HOT_RESET');
    expect(uapiCall('group', 0x3b71)).toBeUndefined();
    expect(uapiCall('migration', 0x3b79)?.name).toBe('VFIO_MIG_GET_PRECOPY_INFO');
  });

  it('knows the container requests on an iommufd too', () => {
    expect(uapiCall('iommufd', IommufdRequest.IOAS_MAP)?.name).toBe('IOMMU_IOAS_MAP');
    expect(uapiCall('iommufd', Request.SET_IOMMU)?.name).toBe('VFIO_SET_IOMMU');
  });

  it('knows all requests of a device, a group and a container', () => {
    const known = kinds.flatMap((kind) =>
      Object.entries(Request).filter(([name, number]) => uapiCall(kind, number)?.name === `VFIO_${name}`),
    );
    const left = Object.keys(Request).filter((name) => !known.some(([one]) => one === name));
    expect(left.filter((name) => !/SPAPR|EEH/.test(name))).toEqual([]);
  });

  it('names only fields that are there', () => {
    for (const kind of kinds) {
      for (let request = 0x3b64; request < 0x3ba0; request++) {
        const argument = uapiCall(kind, request)?.argument;
        if (argument?.kind !== 'struct') continue;
        const named = [...Object.keys(argument.names ?? {}), ...(argument.out ?? [])];
        expect(Object.keys(argument.struct.fields), argument.struct.name).toEqual(expect.arrayContaining(named));
      }
    }
  });

  it('finds what follows a struct in its flags', () => {
    const argument = uapiCall('device', Request.DEVICE_SET_IRQS)?.argument;
    const rest = (flags: number) => argument?.kind === 'struct' && argument.rest?.({ flags, count: 3 });
    expect(rest(IrqSetFlag.DATA_EVENTFD | IrqSetFlag.ACTION_TRIGGER)).toEqual({ kind: 's32', count: 3 });
    expect(rest(IrqSetFlag.DATA_BOOL | IrqSetFlag.ACTION_MASK)).toEqual({ kind: 'u8', count: 3 });
    expect(rest(IrqSetFlag.DATA_NONE)).toBeUndefined();
  });

  it('finds the data of a feature, who fills it in, and none when it is only asked for', () => {
    const argument = uapiCall('device', Request.DEVICE_FEATURE)?.argument;
    const rest = (flags: number) => argument?.kind === 'struct' && argument.rest?.({ flags });
    const state = { struct: { name: 'vfio_device_feature_mig_state' } };
    expect(rest(Feature.MIG_DEVICE_STATE | FeatureFlag.GET)).toMatchObject({ layout: state, filledByKernel: true });
    expect(rest(Feature.MIG_DEVICE_STATE | FeatureFlag.SET)).toMatchObject({ layout: state, filledByKernel: false });
    expect(rest(Feature.MIG_DEVICE_STATE | FeatureFlag.SET | FeatureFlag.PROBE)).toBeUndefined();
    expect(rest(Feature.LOW_POWER_EXIT | FeatureFlag.SET)).toBeUndefined();
  });
});
