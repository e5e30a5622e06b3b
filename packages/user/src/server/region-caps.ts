// Capabilities of a region, as they follow its description: what it is, and which parts of it can be mapped.

import type { Region } from '@vfio/client';
import {
  infoCapHeader,
  RegionInfoCap,
  regionInfo,
  regionInfoCapSparseMmap,
  regionInfoCapType,
  regionSparseMmapArea,
} from '@vfio/core';
import type { RegionFile } from './region-files.js';

const version = 1;

/**
 * The capabilities of a region, one behind the other; none is empty.
 *
 * @param file - its memory, if the client gets that
 */
export function regionCaps(region: Region | undefined, file: RegionFile | undefined): Uint8Array {
  const caps: Uint8Array[] = [];
  const type = region?.type;
  if (type) {
    caps.push(regionInfoCapType.encode({ header: { id: RegionInfoCap.TYPE, version }, ...type }, 'little'));
  }
  if (file?.areas) {
    const header = { id: RegionInfoCap.SPARSE_MMAP, version };
    const head = regionInfoCapSparseMmap.encode({ header, nrAreas: file.areas.length }, 'little');
    caps.push(Buffer.concat([head, regionSparseMmapArea.encodeArray(file.areas, 'little')]));
  }
  return chained(caps);
}

/** Writes where the next one is into each but the last, counted from the start of the description. */
function chained(caps: readonly Uint8Array[]): Uint8Array {
  const bytes = Uint8Array.from(Buffer.concat(caps));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const cap of caps.slice(0, -1)) {
    const next = at + cap.length;
    view.setUint32(at + infoCapHeader.offsetOf('next'), regionInfo.size + next, true);
    at = next;
  }
  return bytes;
}
