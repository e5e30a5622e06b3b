/**
 * Test devices in a machine file:
 *
 *     testdev: { count: 2 }
 */
import type { DriverPackage } from '@vfio/core';
import { defineTestDevice } from './driver.js';

/** The section of a machine file. */
export interface TestDeviceSection {
  /** Devices, `testdev0` and so on. Default: 1. */
  readonly count?: number;
}

const MOST = 64;

/** What a machine and the command line need to know of the test device. */
export const driverPackage: DriverPackage<TestDeviceSection> = {
  package: '@vfio/user',
  section: 'testdev',
  schema: {
    type: 'object',
    additionalProperties: false,
    properties: {
      count: {
        type: 'integer',
        minimum: 0,
        maximum: MOST,
        default: 1,
        description: 'devices: testdev0, testdev1, ...',
      },
    },
  },
  modules: ['testdev'],
  samples: {
    testdev: {
      summary: 'the reference test device: memory, DMA with and without messages, MSI-X, doorbells',
      // a client maps memory wherever it likes
      file: {
        host: { iommu: { addressBits: 64, reserved: [] } },
        modules: ['vfio_iommu_type1'],
        testdev: { count: 1 },
      },
      address: 'testdev0',
    },
  },

  define: ({ vfio }) => defineTestDevice(vfio),

  async build({ host }, { count = 1 }) {
    await host.modules.modprobe('testdev', { count: String(count) });
  },
};
