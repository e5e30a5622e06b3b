import { createSeams, SystemError, VirtualClock } from '@vfio/host';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InfoCap, writeInfo } from '../src/info-cap.js';
import {
  DeviceInfoFlag,
  deviceInfo,
  infoCapHeader,
  RegionInfoFlag,
  regionInfo,
  regionInfoCapSparseMmap,
  regionInfoCapType,
  regionSparseMmapArea,
} from '../src/uapi/vfio.js';

type Order = 'little' | 'big';

function seams() {
  return createSeams({ clock: new VirtualClock(), checked: true });
}

/** A caller's buffer: what an ioctl may write to, and what it wrote. */
function caller(length: number, order: Order = 'little') {
  const memory = new Uint8Array(length).fill(0xee);
  return {
    memory,
    order,
    copyOut(bytes: Uint8Array, offset = 0): void {
      if (offset + bytes.length > length) throw new SystemError('EFAULT', 'past the buffer');
      memory.set(bytes, offset);
    },
  };
}

function offsets(memory: Uint8Array, first: number, order: Order): number[] {
  const seen: number[] = [];
  for (let at = first; at !== 0; at = infoCapHeader.decode(memory.subarray(at), order).next) seen.push(at);
  return seen;
}

describe('InfoCap', () => {
  it('links capabilities in the order of their addition', () => {
    const caps = new InfoCap(seams(), 'little');
    caps.add(16, 7, 1);
    caps.add(24, 8, 2);
    caps.add(8, 9, 3);
    expect(caps.size).toBe(48);
    const headers = [0, 16, 40].map((at) => infoCapHeader.decode(caps.bytes.subarray(at), 'little'));
    expect(headers).toEqual([
      { id: 7, version: 1, next: 16 },
      { id: 8, version: 2, next: 40 },
      { id: 9, version: 3, next: 0 },
    ]);
  });

  it('CORE-122 (H37) pads a capability of 12 bytes so that the next header is aligned', () => {
    const caps = new InfoCap(seams(), 'little');
    caps.add(12, 3, 1).fill(0xff, 8);
    caps.add(8, 1, 1);
    expect(caps.size).toBe(24);
    expect(infoCapHeader.decode(caps.bytes, 'little').next).toBe(16);
    expect([...caps.bytes.subarray(12, 16)]).toEqual([0, 0, 0, 0]);
  });

  it('hands out the bytes of the capability, zero behind the header', () => {
    const caps = new InfoCap(seams(), 'big');
    const cap = caps.add(20, 0x0102, 0x0304);
    expect([...cap]).toEqual([1, 2, 3, 4, ...new Array(16).fill(0)]);
    cap[8] = 0xaa;
    expect(caps.bytes[8]).toBe(0xaa);
    expect(caps.size).toBe(24);
  });

  it('copies a complete capability and sets its next itself', () => {
    const caps = new InfoCap(seams(), 'big');
    const type = regionInfoCapType.encode({ header: { id: 2, version: 1, next: 99 }, type: 1, subtype: 1 }, 'big');
    caps.addCapability(type);
    caps.addCapability(type);
    expect(regionInfoCapType.decodeArray(caps.bytes, 'big')).toEqual([
      { header: { id: 2, version: 1, next: 16 }, type: 1, subtype: 1 },
      { header: { id: 2, version: 1, next: 0 }, type: 1, subtype: 1 },
    ]);
  });

  it('shift moves every next but the last', () => {
    const caps = new InfoCap(seams(), 'little');
    for (const size of [8, 12, 16]) caps.add(size, 1, 1);
    caps.shift(24);
    expect([0, 8, 24].map((at) => infoCapHeader.decode(caps.bytes.subarray(at), 'little').next)).toEqual([32, 48, 0]);
  });

  it('shift of an empty chain does nothing; an unaligned one warns and goes on', () => {
    const own = seams();
    const caps = new InfoCap(own, 'little');
    caps.shift(24);
    expect(caps.size).toBe(0);
    caps.add(8, 1, 1);
    caps.add(8, 2, 1);
    caps.shift(20);
    expect(own.log.warnings()).toHaveLength(1);
    expect(infoCapHeader.decode(caps.bytes, 'little').next).toBe(28);
  });

  it('drops the whole chain when there is no memory', () => {
    const own = seams();
    const caps = new InfoCap(own, 'little');
    caps.add(16, 1, 1);
    own.faults.failOn('vfio_info_cap_add:memory');
    expect(() => caps.add(16, 2, 1)).toThrow(expect.objectContaining({ code: 'ENOMEM' }));
    expect(caps.size).toBe(0);
    caps.add(16, 3, 1);
    expect(infoCapHeader.decode(caps.bytes, 'little')).toEqual({ id: 3, version: 1, next: 0 });
  });

  it('CORE-122 every next is aligned and the last is 0, whatever the sizes', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 8, max: 100 }), { minLength: 1, maxLength: 10 }),
        fc.constantFrom<Order>('little', 'big'),
        (sizes, order) => {
          const caps = new InfoCap(seams(), order);
          for (const [i, size] of sizes.entries()) caps.add(size, i, 1);
          caps.shift(32);
          const call = caller(32 + caps.size, order);
          call.copyOut(caps.bytes, 32);
          const at = offsets(call.memory, 32, order);
          expect(at).toHaveLength(sizes.length);
          expect(at.every((offset) => offset % 8 === 0)).toBe(true);
          expect(at.map((offset) => infoCapHeader.decode(call.memory.subarray(offset), order).id)).toEqual([
            ...sizes.keys(),
          ]);
        },
      ),
    );
  });
});

describe('writeInfo', () => {
  function sparseInfo(argsz: number, bufferLength = argsz, order: Order = 'little') {
    const caps = new InfoCap(seams(), order);
    const sparse = regionInfoCapSparseMmap.encode({ header: { id: 1, version: 1 }, nrAreas: 1 }, order);
    const area = regionSparseMmapArea.encode({ offset: 0x1000n, size: 0x2000n }, order);
    caps.addCapability(Uint8Array.of(...sparse, ...area));
    caps.add(8, 3, 1);
    const call = caller(bufferLength, order);
    const info = regionInfo.decode(new Uint8Array(0), order);
    Object.assign(info, { argsz, flags: RegionInfoFlag.READ, index: 2, size: 0x4000n });
    writeInfo(call, regionInfo, info, caps, RegionInfoFlag.CAPS);
    return { call, info };
  }

  it('CORE-122 writes the chain behind the struct when there is room for all of it', () => {
    for (const order of ['little', 'big'] as const) {
      const { call } = sparseInfo(72, 80, order);
      const written = regionInfo.decode(call.memory, order);
      expect(written).toMatchObject({ argsz: 72, flags: RegionInfoFlag.READ | RegionInfoFlag.CAPS, capOffset: 32 });
      expect(offsets(call.memory, written.capOffset, order)).toEqual([32, 64]);
      expect(regionSparseMmapArea.decode(call.memory.subarray(48), order)).toEqual({ offset: 0x1000n, size: 0x2000n });
      expect([...call.memory.subarray(72)]).toEqual(new Array(8).fill(0xee));
    }
  });

  it('CORE-121 with one byte too little: CAPS, argsz raised, no offset, nothing past the struct', () => {
    const { call } = sparseInfo(71, 80);
    expect(regionInfo.decode(call.memory, 'little')).toMatchObject({
      argsz: 72,
      flags: RegionInfoFlag.READ | RegionInfoFlag.CAPS,
      capOffset: 0,
      size: 0x4000n,
    });
    expect([...call.memory.subarray(32)]).toEqual(new Array(48).fill(0xee));
  });

  it('CORE-121 writes no byte past argsz, when that cuts the struct itself', () => {
    const caps = new InfoCap(seams(), 'little');
    caps.add(16, 5, 1);
    const call = caller(32);
    const info = { argsz: 16, flags: 0, numRegions: 9, numIrqs: 5, capOffset: 0, pad: 0 };
    writeInfo(call, deviceInfo, info, caps, DeviceInfoFlag.CAPS);
    expect([...call.memory.subarray(16)]).toEqual(new Array(16).fill(0xee));
    expect(deviceInfo.decode(call.memory.subarray(0, 16), 'little')).toMatchObject({
      argsz: 40,
      flags: DeviceInfoFlag.CAPS,
      numRegions: 9,
      numIrqs: 5,
    });
  });

  it('without capabilities: no flag, argsz as it was', () => {
    const call = caller(100);
    const info = { argsz: 100, flags: 1, numRegions: 9, numIrqs: 5, capOffset: 0, pad: 0 };
    writeInfo(call, deviceInfo, info, new InfoCap(seams(), 'little'), DeviceInfoFlag.CAPS);
    expect(deviceInfo.decode(call.memory, 'little')).toEqual({ ...info, flags: 1 });
    expect(call.memory[24]).toBe(0xee);
  });

  it('fails when the buffer is not writable', () => {
    expect(() => sparseInfo(72, 40)).toThrow(expect.objectContaining({ code: 'EFAULT' }));
  });
});
