import { infoCapHeader, Request, type Request as RequestNumber, regionInfo } from '@vfio/core';
import type { ByteOrder } from '@vfio/host';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ProcessTransport, VfioClient } from '../src/index.js';
import { askInfo, capabilities } from '../src/info.js';
import { createLab } from './lab.js';

/** A chain behind a struct of `size` bytes: capability ids and the bytes of each, header included. */
function chain(size: number, caps: readonly (readonly [id: number, length: number])[], order: ByteOrder): Uint8Array {
  const total = caps.reduce((sum, [, length]) => sum + length, size);
  const bytes = new Uint8Array(total);
  let at = size;
  caps.forEach(([id, length], i) => {
    const next = i + 1 < caps.length ? at + length : 0;
    infoCapHeader.write(bytes.subarray(at), { id, version: 1, next }, order);
    bytes.fill(id, at + infoCapHeader.size, at + length);
    at += length;
  });
  return bytes;
}

describe('capabilities', () => {
  it('are found in the order of the chain, each with its own bytes', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.tuple(
            fc.integer({ min: 1, max: 255 }),
            fc.integer({ min: 1, max: 5 }).map((n) => n * 8),
          ),
          {
            minLength: 1,
            maxLength: 6,
          },
        ),
        fc.constantFrom<ByteOrder>('little', 'big'),
        (caps, order) => {
          const found = capabilities(chain(24, caps, order), 24, 24, order);
          expect(found.map(({ id, version, bytes }) => [id, version, bytes.length])).toEqual(
            caps.map(([id, length]) => [id, 1, length]),
          );
          for (const { id, bytes } of found) expect(bytes.subarray(8).every((byte) => byte === id)).toBe(true);
        },
      ),
    );
  });

  it('are none when the offset is 0', () => {
    expect(capabilities(new Uint8Array(24), 24, 0, 'little')).toEqual([]);
  });

  it.each<[string, (bytes: Uint8Array) => void, number]>([
    ['begins within the struct', () => {}, 16],
    ['begins past the end', () => {}, 64],
    ['begins where no header fits', () => {}, 36],
    ['goes back to its own start', (bytes) => setNext(bytes, 24, 24), 24],
    ['goes back into the struct', (bytes) => setNext(bytes, 24, 8), 24],
    ['goes on within its own header', (bytes) => setNext(bytes, 24, 28), 24],
    ['goes on past the end', (bytes) => setNext(bytes, 24, 4096), 24],
    ['goes on where no header fits', (bytes) => setNext(bytes, 24, 36), 24],
    ['goes on at 4 GiB', (bytes) => setNext(bytes, 24, 0xffff_fff8), 24],
  ])('refuses a chain that %s', (_, spoil, first) => {
    const bytes = chain(24, [[1, 16]], 'little');
    spoil(bytes);
    expect(() => capabilities(bytes, 24, first, 'little')).toThrow(RangeError);
  });

  it('never read past the answer nor go on for ever, whatever is in it', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 24, maxLength: 96 }), fc.nat(128), (bytes, first) => {
        try {
          const found = capabilities(bytes, 24, first, 'little');
          expect(found.length).toBeLessThanOrEqual((bytes.length - 24) / infoCapHeader.size);
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError);
        }
      }),
    );
  });
});

function setNext(bytes: Uint8Array, at: number, next: number): void {
  new DataView(bytes.buffer).setUint32(at + infoCapHeader.offsetOf('next'), next, true);
}

describe('asking', () => {
  const rooms: number[] = [];
  const answering = (...needed: readonly number[]) => {
    rooms.length = 0;
    return askInfo(
      16,
      'little',
      (bytes) => bytes.fill(7, 8),
      async (bytes) => {
        const view = new DataView(bytes.buffer);
        expect([bytes.length, bytes[8]]).toEqual([view.getUint32(0, true), 7]);
        rooms.push(bytes.length);
        view.setUint32(0, needed[rooms.length - 1] ?? bytes.length, true);
      },
    );
  };

  it('takes one request when the struct is enough', async () => {
    expect((await answering(16)).length).toBe(16);
    expect(rooms).toEqual([16]);
  });

  it('asks again with the size that the answer wants, as often as it grows', async () => {
    expect((await answering(40, 56, 56)).length).toBe(56);
    expect(rooms).toEqual([16, 40, 56]);
  });

  it('gives up on an answer that grows for ever', async () => {
    await expect(answering(...Array.from({ length: 100 }, (_, i) => 24 + 8 * i))).rejects.toThrow(RangeError);
    expect(rooms.length).toBe(8);
  });

  it('makes no buffer of gigabytes because somebody says so', async () => {
    await expect(answering(0xffff_fff0)).rejects.toThrow('an answer of 4294967280 bytes to a request of 16');
    expect(rooms).toEqual([16]);
  });
});

/** Changes the answer to a request, once it fits. */
class Forger extends ProcessTransport {
  forge: (request: RequestNumber, bytes: Uint8Array) => void = () => {};

  override async ioctl(fd: number, request: number, argument: number | bigint | Uint8Array): Promise<number> {
    const result = await super.ioctl(fd, request, argument);
    if (argument instanceof Uint8Array) this.forge(request as RequestNumber, argument);
    return result;
  }
}

describe('an answer that lies', () => {
  it('about its number of sparse areas is refused, whatever the number', async () => {
    await using lab = await createLab();
    const transport = new Forger(lab.host.spawn());
    await using device = await new VfioClient(transport).openDevice('model0');
    for (const [count, offset] of [
      [3, 32],
      [0xffff_ffff, 32],
      [2, 32],
    ] as const) {
      transport.forge = (request, bytes) => {
        if (request !== Request.DEVICE_GET_REGION_INFO || bytes.length === regionInfo.size) return;
        new DataView(bytes.buffer).setUint32(offset + 8, count, true);
      };
      const region = await device.region(0);
      if (count === 2) expect(region.sparseAreas?.length).toBe(2);
      else expect(() => region.sparseAreas).toThrow(`${count} of vfio_region_sparse_mmap_area`);
    }
  });

  it('about its number of IOVA ranges is refused', async () => {
    await using lab = await createLab();
    const transport = new Forger(lab.host.spawn());
    await using device = await new VfioClient(transport).openDevice('model0');
    expect((await device.container.info()).iovaRanges.length).toBe(2);
    transport.forge = (request, bytes) => {
      if (request !== Request.IOMMU_GET_INFO || bytes.length <= 24) return;
      // the second capability of the chain, as the kernel orders them
      const view = new DataView(bytes.buffer);
      for (let at = view.getUint32(16, true); at !== 0; at = view.getUint32(at + 4, true)) {
        if (view.getUint16(at, true) === 1) view.setUint32(at + 8, 0x4000_0000, true);
      }
    };
    await expect(device.container.info()).rejects.toThrow('1073741824 of vfio_iova_range');
  });

  it('about the start of its chain is refused', async () => {
    await using lab = await createLab();
    const transport = new Forger(lab.host.spawn());
    await using device = await new VfioClient(transport).openDevice('model0');
    transport.forge = (_, bytes) => {
      if (bytes.length > 16) new DataView(bytes.buffer).setUint32(16, 4, true);
    };
    await expect(device.info()).rejects.toThrow('a capability at 4, where 24 bytes are taken');
  });

  it('about the functions of a hot reset is refused', async () => {
    await using lab = await createLab();
    const transport = new Forger(lab.host.spawn());
    await using device = await new VfioClient(transport).openDevice('model0');
    transport.forge = (request, bytes) => {
      if (request === Request.DEVICE_GET_PCI_HOT_RESET_INFO) new DataView(bytes.buffer).setUint32(8, 9, true);
    };
    await expect(device.hotResetInfo()).rejects.toThrow('9 functions in an answer with room for 3');
  });
});
