import { Feature, FeatureFlag, MigState, precopyInfo, Request } from '@vfio/core';
import { Seek } from '@vfio/host';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Uart16550 } from '../src/hardware/index.js';
import type { SerialPortState } from '../src/index.js';
import { MttyMigration } from '../src/mtty/migration.js';
import { decodePort, encodePort, portRecord, streamHeader, streamSize } from '../src/mtty/uapi.js';
import { type Card, type CardType, Lab, OTHER_UUID } from './lab.js';

const { ERROR, STOP, RUNNING, STOP_COPY, RESUMING, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P } = MigState;
const [DATA, FCR, LSR, SCR] = [0, 2, 5, 7];
const { GET, SET } = FeatureFlag;

function failing(code: string) {
  return expect.objectContaining({ code });
}

async function withCard(type: CardType, fn: (card: Card, lab: Lab) => Promise<void>): Promise<void> {
  await using lab = await Lab.create();
  await fn(await lab.card(type), lab);
}

async function stateOf(card: Card): Promise<number> {
  return (await card.state()).deviceState;
}

/** A card with two bytes in its ring and a scratch value, and its stream. */
async function savedStream(card: Card): Promise<Uint8Array> {
  await card.out(FCR, 1);
  await card.out(SCR, 0x5a);
  await card.out(DATA, 0x41);
  await card.out(DATA, 0x42);
  const fd = await card.setState(STOP_COPY);
  const stream = await card.readStream(fd, 4096);
  await card.process.close(fd);
  await card.setState(RUNNING);
  return stream;
}

describe('features', () => {
  it.each([
    ['mtty-1', 60n],
    ['mtty-2', 96n],
  ] as const)('MTTY-049 of %s: all three flags, %d bytes to stop', (type, size) =>
    withCard(type, async (card) => {
      const u64 = async (feature: number) =>
        new DataView((await card.feature(feature | GET, new Uint8Array(8))).slice().buffer).getBigUint64(0, true);
      expect(await u64(Feature.MIGRATION)).toBe(7n);
      expect(await u64(Feature.MIG_DATA_SIZE)).toBe(size);
      await expect(card.feature(Feature.MIGRATION | SET, new Uint8Array(8))).rejects.toThrow(failing('EINVAL'));
    }),
  );

  it('begin in RUNNING, without a data file', () =>
    withCard('mtty-1', async (card) => {
      expect(await card.state()).toEqual({ deviceState: RUNNING, dataFd: -1 });
    }));

  it('MTTY-061 logging of DMA succeeds and finds no page', () =>
    withCard('mtty-1', async (card) => {
      const { mm } = card.process;
      const memory = mm.mmap({ length: 4096, prot: 3 });
      const range = new Uint8Array(16);
      new DataView(range.buffer).setBigUint64(8, 0x10_0000n, true);
      mm.copyTo(memory, range);
      const control = new DataView(new ArrayBuffer(24));
      control.setBigUint64(0, 4096n, true);
      control.setUint32(8, 1, true);
      control.setBigUint64(16, memory, true);
      const answer = await card.feature(Feature.DMA_LOGGING_START | SET, new Uint8Array(control.buffer));
      expect(new DataView(answer.slice().buffer).getBigUint64(0, true)).toBe(4096n);

      const bitmap = memory + 512n;
      mm.copyTo(bitmap, new Uint8Array(32).fill(0x55));
      const report = new DataView(new ArrayBuffer(32));
      [0n, 0x10_0000n, 4096n, bitmap].forEach((value, i) => {
        report.setBigUint64(8 * i, value, true);
      });
      await card.feature(Feature.DMA_LOGGING_REPORT | GET, new Uint8Array(report.buffer));
      expect(mm.copyFrom(bitmap, 32)).toEqual(new Uint8Array(32).fill(0x55));
      await card.feature(Feature.DMA_LOGGING_STOP | SET);
    }));
});

describe('saving', () => {
  it.each([
    ['mtty-1', 60],
    ['mtty-2', 96],
  ] as const)('MTTY-050 %s from RUNNING to STOP_COPY gives %d bytes, then the end', (type, size) =>
    withCard(type, async (card) => {
      const fd = await card.setState(STOP_COPY);
      expect(card.process.readlink(`/proc/self/fd/${fd}`)).toBe('anon_inode:mtty_mig');
      expect(await card.readStream(fd, 7)).toHaveLength(7);
      expect(await card.readStream(fd, 4096)).toHaveLength(size - 7);
      expect(await card.readStream(fd, 4096)).toHaveLength(0);
    }),
  );

  it('MTTY-051 in PRE_COPY there are 24 bytes, and fewer as they are read', () =>
    withCard('mtty-1', async (card) => {
      const fd = await card.setState(PRE_COPY);
      expect(await card.precopy(fd)).toMatchObject({ initialBytes: 24n, dirtyBytes: 0n });
      expect(Buffer.from(await card.readStream(fd, 10)).toString('hex')).toBe('4e2c3e8c89099d7e0100');
      expect((await card.precopy(fd)).initialBytes).toBe(14n);
      expect(await card.readStream(fd, 100)).toHaveLength(14);
      expect((await card.precopy(fd)).initialBytes).toBe(0n);
      expect(await card.readStream(fd, 100)).toHaveLength(0);
      expect(await card.setState(PRE_COPY_P2P)).toBe(-1);
      expect((await card.precopy(fd)).initialBytes).toBe(0n);
    }));

  it('leaves the flags of that to the caller, until it opts for the second version', () =>
    withCard('mtty-1', async (card) => {
      const fd = await card.setState(PRE_COPY);
      expect((await card.precopy(fd, { flags: 0xff })).flags).toBe(0xff);
      await card.feature(Feature.MIG_PRECOPY_INFOv2 | SET);
      expect((await card.precopy(fd, { flags: 0xff })).flags).toBe(0);
    }));

  it('MTTY-052 from PRE_COPY to STOP_COPY the same file yields the rest', () =>
    withCard('mtty-2', async (card) => {
      const fd = await card.setState(PRE_COPY);
      const head = await card.readStream(fd, 4096);
      expect(await card.setState(STOP_COPY)).toBe(-1);
      await expect(card.precopy(fd)).rejects.toThrow(failing('EINVAL'));
      const tail = await card.readStream(fd, 4096);
      expect([head.length, tail.length]).toEqual([24, 72]);
      expect(await card.readStream(fd, 1)).toHaveLength(0);
    }));

  it('MTTY-053 back in RUNNING the file is dead', () =>
    withCard('mtty-1', async (card) => {
      const fd = await card.setState(PRE_COPY);
      await card.setState(RUNNING);
      await expect(card.readStream(fd, 1)).rejects.toThrow(failing('ENODEV'));
      await expect(card.precopy(fd)).rejects.toThrow(failing('EINVAL')); // the state is looked at first
      const next = await card.setState(PRE_COPY);
      await expect(card.precopy(fd)).rejects.toThrow(failing('ENODEV'));
      expect((await card.precopy(next)).initialBytes).toBe(24n);
      await card.setState(RUNNING_P2P);
      await expect(card.readStream(next, 1)).rejects.toThrow(failing('ENODEV'));
    }));

  it('MTTY-060 has no positions', () =>
    withCard('mtty-1', async (card) => {
      const fd = await card.setState(STOP_COPY);
      const { process } = card;
      await expect((async () => process.pread(fd, new Uint8Array(8), 0))()).rejects.toThrow(failing('ESPIPE'));
      expect(() => process.lseek(fd, 0, Seek.SET)).toThrow(failing('ESPIPE'));
      await expect(card.writeStream(fd, Uint8Array.of(0))).rejects.toThrow(failing('EBADF'));
      await card.setState(STOP);
      const write = await card.setState(RESUMING);
      await expect((async () => process.pwrite(write, new Uint8Array(8), 0))()).rejects.toThrow(failing('ESPIPE'));
      await expect(card.readStream(write, 1)).rejects.toThrow(failing('EBADF'));
    }));

  it('answers no other request, and looks at its argument', () =>
    withCard('mtty-1', async (card) => {
      const fd = await card.setState(PRE_COPY);
      const ask = (request: number, bytes: Uint8Array) => card.process.ioctl(fd, request, bytes);
      await expect(ask(0x3b00, new Uint8Array(24))).rejects.toThrow(failing('ENOTTY'));
      await expect(card.precopy(fd, { argsz: 23 })).rejects.toThrow(failing('EINVAL'));
      const short = precopyInfo.encode({ argsz: 24 }, 'little').subarray(0, 16);
      await expect(ask(Request.MIG_GET_PRECOPY_INFO, short)).rejects.toThrow(failing('EFAULT'));
      await card.setState(RUNNING);
      const write = await card.setState(RESUMING);
      await expect(card.precopy(write)).rejects.toThrow(failing('ENOTTY'));
    }));

  it('leaves the position where it was when the buffer can not take the bytes', () =>
    withCard('mtty-1', async (card) => {
      const fd = await card.setState(PRE_COPY);
      const page = card.process.mm.mmap({ length: 4096, prot: 3 });
      const beyond = async () => card.process.read(fd, { addr: page + 4090n, length: 24 });
      await expect(beyond()).rejects.toThrow(failing('EFAULT'));
      expect(await card.readStream(fd, 100)).toHaveLength(24);
    }));

  it('closes its descriptors on exec', () =>
    withCard('mtty-1', async (card) => {
      const fd = await card.setState(STOP_COPY);
      const child = card.process.fork();
      await child.execClose();
      expect(() => child.files.get(fd)).toThrow(failing('EBADF'));
      await child.exit();
    }));
});

describe('resuming', () => {
  it('MTTY-054 gives another card what the ring had', () =>
    withCard('mtty-1', async (card, lab) => {
      const stream = await savedStream(card);
      const other = await lab.card('mtty-1', OTHER_UUID);
      const fd = await other.setState(RESUMING);
      expect(await other.writeStream(fd, stream)).toBe(60);
      await other.setState(RUNNING);
      expect(await other.in(SCR)).toBe(0x5a);
      expect([await other.in(LSR), await other.in(DATA), await other.in(DATA)]).toEqual([0x01, 0x41, 0x42]);
      await expect(other.writeStream(fd, Uint8Array.of(0))).rejects.toThrow(failing('ENODEV'));
    }));

  it('MTTY-054 gives both ports of a card theirs', () =>
    withCard('mtty-2', async (card, lab) => {
      await card.out(SCR, 0x11, 0);
      await card.out(SCR, 0x22, 1);
      const stream = await card.readStream(await card.setState(STOP_COPY), 4096);
      const other = await lab.card('mtty-2', OTHER_UUID);
      await other.writeStream(await other.setState(RESUMING), stream);
      await other.setState(RUNNING);
      expect([await other.in(SCR, 0), await other.in(SCR, 1)]).toEqual([0x11, 0x22]);
    }));

  it('takes the stream in any pieces', () =>
    withCard('mtty-1', async (card) => {
      const stream = await savedStream(card);
      const fd = await card.setState(RESUMING);
      for (const [from, to] of [
        [0, 7],
        [7, 8],
        [8, 24],
        [24, 60],
      ]) {
        expect(await card.writeStream(fd, stream.slice(from, to))).toBe(to! - from!);
      }
      await card.setState(STOP);
    }));

  it('MTTY-055 is refused with one byte missing, and stays', () =>
    withCard('mtty-1', async (card) => {
      const stream = await savedStream(card);
      const fd = await card.setState(RESUMING);
      await card.writeStream(fd, stream.slice(0, 59));
      await expect(card.setState(STOP)).rejects.toThrow(failing('EINVAL'));
      await expect(card.setState(RUNNING)).rejects.toThrow(failing('EINVAL'));
      expect(await stateOf(card)).toBe(RESUMING);
      await card.writeStream(fd, stream.slice(59));
      await card.setState(STOP);
    }));

  it.each([
    ['magic', 0],
    ['major version', 8],
    ['minor version', 12],
    ['number of ports', 16],
    ['flags', 20],
  ])('MTTY-056 refuses a wrong %s at the write that completes the header', (_, offset) =>
    withCard('mtty-1', async (card) => {
      const stream = await savedStream(card);
      const wrong = stream.slice();
      wrong[offset]! ^= 0x80;
      const fd = await card.setState(RESUMING);
      expect(await card.writeStream(fd, wrong.slice(0, 23))).toBe(23);
      await expect(card.writeStream(fd, wrong.slice(23, 24))).rejects.toThrow(failing('EFAULT'));
      // the bytes count, and nobody looks at the header again
      expect(await card.writeStream(fd, wrong.slice(24))).toBe(36);
      await card.setState(STOP);
    }),
  );

  it('MTTY-056 refuses the stream of the other type', () =>
    withCard('mtty-1', async (card, lab) => {
      const stream = await savedStream(card);
      const other = await lab.card('mtty-2', OTHER_UUID);
      const fd = await other.setState(RESUMING);
      await expect(other.writeStream(fd, stream)).rejects.toThrow(failing('EFAULT'));
    }));

  it('MTTY-057 takes no byte beyond the full size', () =>
    withCard('mtty-1', async (card) => {
      const stream = await savedStream(card);
      const fd = await card.setState(RESUMING);
      await expect(card.writeStream(fd, Uint8Array.of(...stream, 0))).rejects.toThrow(failing('ENOMEM'));
      expect(await card.writeStream(fd, stream)).toBe(60);
      await expect(card.writeStream(fd, Uint8Array.of(0))).rejects.toThrow(failing('ENOMEM'));
      await card.setState(STOP);
      await expect(card.writeStream(fd, new Uint8Array(61))).rejects.toThrow(failing('ENOMEM'));
      await expect(card.writeStream(fd, new Uint8Array(60))).rejects.toThrow(failing('ENODEV'));
    }));

  it('consumes nothing when the buffer can not be read', () =>
    withCard('mtty-1', async (card) => {
      const stream = await savedStream(card);
      const fd = await card.setState(RESUMING);
      const page = card.process.mm.mmap({ length: 4096, prot: 3 });
      const beyond = async () => card.process.write(fd, { addr: page + 4090n, length: 24 });
      await expect(beyond()).rejects.toThrow(failing('EFAULT'));
      expect(await card.writeStream(fd, stream)).toBe(60);
    }));
});

describe('states', () => {
  it('MTTY-058 ERROR can not be asked for, nor can a state that is none, nor PRE_COPY from STOP_COPY', () =>
    withCard('mtty-1', async (card) => {
      for (const state of [ERROR, 8, 0xffff_ffff]) {
        await expect(card.setState(state)).rejects.toThrow(failing('EINVAL'));
      }
      await card.setState(STOP_COPY);
      for (const state of [PRE_COPY, PRE_COPY_P2P, ERROR]) {
        await expect(card.setState(state)).rejects.toThrow(failing('EINVAL'));
      }
      expect(await stateOf(card)).toBe(STOP_COPY);
      expect(await card.setState(STOP_COPY)).toBe(-1); // where it is already
    }));

  it('MTTY-059 reset leads from RESUMING to RUNNING and ends the file', () =>
    withCard('mtty-1', async (card) => {
      const fd = await card.setState(RESUMING);
      await card.ioctl(Request.DEVICE_RESET);
      expect(await stateOf(card)).toBe(RUNNING);
      await expect(card.writeStream(fd, Uint8Array.of(0))).rejects.toThrow(failing('ENODEV'));
    }));

  it('MTTY-059 a reset that comes during a change of state takes effect at its end', async () => {
    let whileSaving = () => {};
    const createPort = () => {
      const uart = new Uart16550(() => {});
      return {
        read: (offset: number) => uart.read(offset),
        write: (offset: number, value: number) => uart.write(offset, value),
        load: (state: SerialPortState) => uart.load(state),
        save: () => {
          whileSaving();
          return uart.save();
        },
      };
    };
    await using lab = await Lab.create({ mtty: { createPort } });
    const card = await lab.card();
    const { migOps } = lab.vfio.groups[0]!.devices[0]!;
    if (!(migOps instanceof MttyMigration)) throw new Error('not the migration of mtty');
    const order: string[] = [];
    whileSaving = () => {
      void migOps.reset().then(() => order.push('reset returned'));
    };
    const fd = await card.setState(STOP_COPY);
    order.push('change returned');
    expect(order).toEqual(['reset returned', 'change returned']); // it does not wait
    expect(await stateOf(card)).toBe(RUNNING);
    await expect(card.readStream(fd, 1)).rejects.toThrow(failing('ENODEV'));
  });

  it('close leaves the state, and ends the file', () =>
    withCard('mtty-1', async (card) => {
      const fd = await card.setState(PRE_COPY);
      await card.reopen();
      expect(await stateOf(card)).toBe(PRE_COPY);
      await expect(card.readStream(fd, 1)).rejects.toThrow(failing('ENODEV'));
      await expect(card.precopy(fd)).rejects.toThrow(failing('ENODEV'));
      // there is no file left that STOP_COPY could go on with: a new one begins
      const next = await card.setState(STOP_COPY);
      expect(await card.readStream(next, 4096)).toHaveLength(60);
    }));

  it('a descriptor may outlive its card', () =>
    withCard('mtty-1', async (card, lab) => {
      const fd = await card.setState(PRE_COPY);
      await card.close();
      await lab.remove();
      await expect(card.readStream(fd, 1)).rejects.toThrow(failing('ENODEV'));
      await expect(card.precopy(fd)).rejects.toThrow(failing('ENODEV'));
    }));

  it('a failing step of a change leaves no file behind', async () => {
    for (const step of ['mtty_save_device_data:memory', 'mtty_save_device_data:file']) {
      await withCard('mtty-1', async (card, lab) => {
        using fault = lab.host.faults.failOn(step);
        await expect(card.setState(STOP_COPY)).rejects.toThrow(failing('ENOMEM'));
        expect(fault.fired).toBe(true);
        expect(await stateOf(card)).toBe(STOP);
        expect(await card.readStream(await card.setState(STOP_COPY), 100)).toHaveLength(60);
      });
    }
    await withCard('mtty-1', async (card, lab) => {
      using _fault = lab.host.faults.failOn('mtty_resume_device_data:file');
      await expect(card.setState(RESUMING)).rejects.toThrow(failing('ENOMEM'));
      expect(await stateOf(card)).toBe(STOP);
    });
  });

  it('are reached by every walk, unless it is refused and stays where it was', async () => {
    await using lab = await Lab.create();
    const card = await lab.card();
    const stream = await savedStream(card);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 8 }), { maxLength: 8 }), async (targets) => {
        await card.ioctl(Request.DEVICE_RESET);
        for (const target of targets) {
          const before = await stateOf(card);
          try {
            const fd = await card.setState(target);
            expect(await stateOf(card)).toBe(target);
            if (target === RESUMING && fd >= 0) await card.writeStream(fd, stream);
            if (fd >= 0) await card.process.close(fd);
          } catch (error) {
            expect(error).toEqual(failing('EINVAL'));
            const refusedAtOnce = target === ERROR || target === 8 || before === STOP_COPY;
            expect(refusedAtOnce).toBe(true);
            expect(await stateOf(card)).toBe(before);
          }
        }
      }),
      { numRuns: 60 },
    );
  });
});

describe('the stream', () => {
  it('has records of 36 bytes behind a header of 24', () => {
    expect([streamHeader.size, portRecord.size, streamSize(1), streamSize(2)]).toEqual([24, 36, 60, 96]);
  });

  it('reads back what was written of a port', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 36, maxLength: 36 }), (bytes) => {
        const record = bytes.slice();
        // what has no value is not kept: padding, and truth values other than 0 and 1
        record[29] = 0;
        record[35] = 0;
        record[27]! &= 1;
        record[28]! &= 1;
        expect(encodePort(decodePort(record))).toEqual(record);
      }),
    );
  });

  it('is that of Linux, byte by byte', () => {
    const uart = new Uart16550(() => {});
    uart.write(FCR, 0x01);
    uart.write(3, 0x03);
    uart.write(SCR, 0x5a);
    uart.write(DATA, 0x41);
    uart.write(DATA, 0x42);
    expect(Buffer.from(encodePort(uart.save())).toString('hex')).toBe(
      '000000030000005a41420000000000000000000000000000020002000000000001100100',
    );
  });
});
