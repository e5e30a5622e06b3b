/** All names of the uAPI files, and the structs among them. */
import * as iommufd from '../../src/uapi/iommufd.js';
import * as viommu from '../../src/uapi/iommufd-viommu.js';
import { type Fields, Struct } from '../../src/uapi/struct.js';
import * as vfio from '../../src/uapi/vfio.js';
import * as zdev from '../../src/uapi/zdev.js';

export const uapi: Readonly<Record<string, unknown>> = { ...vfio, ...iommufd, ...viommu, ...zdev };

export const allStructs: readonly [exportName: string, layout: Struct<Fields>][] = Object.entries(uapi).flatMap(
  ([name, value]) => (value instanceof Struct ? [[name, value] as [string, Struct<Fields>]] : []),
);
