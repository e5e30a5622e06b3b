import { expect, it } from 'vitest';
import * as api from '../src/index.js';

it('exports these names and no others', () => {
  expect(Object.keys(api).sort()).toMatchInlineSnapshot(`
    [
      "Container",
      "Descriptor",
      "Device",
      "DmaLogging",
      "Group",
      "Ioas",
      "IommuKind",
      "Iommufd",
      "Irq",
      "Migration",
      "MigrationStream",
      "ProcessTransport",
      "Region",
      "VfioClient",
      "migStateName",
    ]
  `);
});
