import { describe, expect, it } from 'vitest';
import * as core from '../../src/core/index.js';
import * as api from '../../src/index.js';

describe('public names', () => {
  it('of @vfio/pci', () => {
    expect(Object.keys(api).sort()).toMatchInlineSnapshot(`
      [
        "VfioPciDevice",
        "defineStubDrivers",
        "defineVfioPci",
      ]
    `);
  });

  it('of @vfio/pci/core', () => {
    expect(Object.keys(core).sort()).toMatchInlineSnapshot(`
      [
        "PciCoreDevice",
        "aerErrDetected",
        "coreCloseDevice",
        "coreDisable",
        "coreErrHandlers",
        "coreIoctl",
        "coreIoctlFeature",
        "coreMatch",
        "coreMatchTokenUuid",
        "coreMmap",
        "coreRead",
        "coreRequest",
        "coreWrite",
        "defaultPciCoreOptions",
        "defineVfioPciCore",
        "doIoRw",
        "downWriteMemory",
        "enable",
        "finishEnable",
        "getRegionInfo",
        "ioctlGetInfo",
        "ioctlGetPciHotResetInfo",
        "ioctlPciHotReset",
        "ioctlReset",
        "isPciCoreDevice",
        "lockAndSetPowerState",
        "memoryEnabled",
        "memoryLockAndEnable",
        "openDevice",
        "rangeIntersectRange",
        "registerDevRegion",
        "registerDevice",
        "resetUnderMemoryLock",
        "setPowerState",
        "sriovConfigure",
        "unregisterDevice",
        "zapAndDownWrite",
        "zapBars",
      ]
    `);
  });
});
