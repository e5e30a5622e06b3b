// Whatever bytes a process passes, to whichever file: each request ends with a number or an errno, nothing of the kernel
// gives way, and when the process is gone nothing is left.

import { isSystemError, PAGE_SIZE, Prot } from '@vfio/host';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Request } from '../src/index.js';
import {
  allocIoas,
  bind,
  EmulatedDevice,
  mapAt,
  openCdev,
  openIommufd,
  PasidDevice,
  PhysicalDevice,
  registerAs,
} from './cdev-harness.js';
import { bench, openPath, type TestBench } from './harness.js';

/** Pages of memory that arguments lie in; behind them is nothing. */
const pages = 4;
/** Bytes of an argument. */
const argumentSize = 64;

/** Eight bytes of an argument: a number, a pair of smaller ones, or what they are to name. */
type Slot = bigint | readonly [number, number] | 'address' | 'fd';

/** A system call, its numbers still to be matched with what the process has. */
interface Call {
  readonly kind: 'ioctl' | 'close' | 'dup';
  readonly request: number;
  /** Which descriptor: one that knows the request, if there is one, or any. */
  readonly file: number;
  readonly fitting: boolean;
  /** Bytes from the end of the memory at which the argument begins. */
  readonly room: number;
  /** First word of the argument, which most structures have their size in, and the second. */
  readonly size: number;
  readonly second: number;
  readonly slots: readonly Slot[];
}

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
const small = fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 7, 8);
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const addresses = [0n, 0x1000n, 0x2000n, 0x1_0000n, 0x1_1000n, 0x20_0000n, 0xfee0_0000n, 1n << 47n];
const ends = [(1n << 63n) - 1n, 1n << 63n, (1n << 64n) - 0x1000n, (1n << 64n) - 1n];
const slot: fc.Arbitrary<Slot> = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...addresses) },
  { weight: 2, arbitrary: fc.constantFrom(...ends) },
  { weight: 4, arbitrary: fc.tuple(small, small) },
  { weight: 1, arbitrary: fc.tuple(u32, u32) },
  { weight: 3, arbitrary: fc.constant<Slot>('address') },
  { weight: 1, arbitrary: fc.constant<Slot>('fd') },
);
const request = fc.oneof(
  { weight: 20, arbitrary: fc.constantFrom(...range(0x3b64, 0x3b78), ...range(0x3b80, 0x3b94)) },
  { weight: 1, arbitrary: u32 },
);
const size = fc.constantFrom(0, 8, 12, 16, 20, 24, 32, 40, 48, 64, 4096, 0xffff_ffff);
const call: fc.Arbitrary<Call> = fc.record({
  kind: fc.oneof(
    { weight: 20, arbitrary: fc.constant<'ioctl'>('ioctl') },
    { weight: 1, arbitrary: fc.constantFrom<'close' | 'dup'>('close', 'dup') },
  ),
  request,
  file: fc.nat(40),
  fitting: fc.boolean(),
  room: fc.oneof({ weight: 4, arbitrary: fc.constant(pages * PAGE_SIZE) }, { weight: 1, arbitrary: size }),
  size: fc.oneof({ weight: 5, arbitrary: fc.constantFrom(24, 32, 40, 48) }, { weight: 1, arbitrary: size }),
  second: fc.oneof({ weight: 8, arbitrary: small }, { weight: 1, arbitrary: u32 }),
  slots: fc.array(slot, { minLength: argumentSize / 8 - 1, maxLength: argumentSize / 8 - 1 }),
});

/** Files that know a request, by their place in what `openAll` returns. */
function knows(request: number): readonly number[] {
  if (request >= 0x3b80 && request <= 0x3b94) return [3];
  if (request >= 0x3b67 && request <= 0x3b6a) return [1, 4, 10];
  if (request >= 0x3b6b && request <= 0x3b78) return [0, 2, 3, 5, 6, 7];
  return [0, 3, 9];
}

/** A process with a file of every kind, some of them in use. */
async function openAll(on: TestBench): Promise<number[]> {
  const { process } = on;
  const [inContainer, inGroup] = ['dev0', 'dev1'].map((name) => registerAs(on, PhysicalDevice, name));
  const devices = [await inContainer!, await inGroup!, await registerAs(on, PasidDevice, 'dev2')];
  devices.push(await registerAs(on, EmulatedDevice, 'dev3'), await registerAs(on, PhysicalDevice, 'dev4'));
  registered = devices;
  const path = await openPath(on, devices[0]!.device);
  const iommufd = await openIommufd(process);
  const group = await on.openGroup(devices[1]!.device);
  await on.setContainer(group, iommufd);
  const nodes = await Promise.all(devices.slice(2, 5).map(({ device }) => openCdev(device, process)));
  await bind(process, nodes[0]!, iommufd);
  await bind(process, nodes[1]!, iommufd);
  await mapAt(process, iommufd, await allocIoas(process, iommufd), 0x10000n, 2);
  const others = [process.eventfd(), await on.openContainer(), await on.openGroup(devices[4]!.device)];
  return [path.container, path.group, path.device, iommufd, group, ...nodes, ...others];
}

let registered: AsyncDisposable[] = [];

/** The argument of a call. */
function argument({ size, second, slots, file }: Call, fds: readonly number[], memory: bigint): Uint8Array {
  const bytes = new Uint8Array(argumentSize);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, size, true);
  view.setUint32(4, second, true);
  for (const [i, value] of slots.entries()) {
    const at = 8 + i * 8;
    if (value === 'address') view.setBigUint64(at, memory, true);
    else if (value === 'fd') view.setInt32(at, fds[(file + i) % fds.length] ?? -1, true);
    else if (typeof value === 'bigint') view.setBigUint64(at, value, true);
    else for (const [half, number] of value.entries()) view.setUint32(at + half * 4, number, true);
  }
  return bytes;
}

/** Makes a call; what it answered, or the errno. Anything else is thrown on. */
async function make(on: TestBench, fds: readonly number[], memory: bigint, its: Call): Promise<number | string> {
  const { process } = on;
  const fitting = knows(its.request);
  const place = its.fitting ? (fitting[its.file % fitting.length] ?? 0) : its.file % fds.length;
  const fd = fds[place] ?? -1;
  try {
    if (its.kind === 'close') await process.close(fd);
    if (its.kind === 'dup') return process.dup(fd);
    const room = Math.min(its.room, pages * PAGE_SIZE);
    const start = memory + BigInt(pages * PAGE_SIZE - room);
    process.mm.copyTo(start, argument(its, fds, memory).subarray(0, room));
    // some requests take a number
    const plain = its.request === Request.SET_IOMMU || its.request === Request.CHECK_EXTENSION;
    return await process.ioctl(fd, its.request, plain ? BigInt(its.second) : start);
  } catch (error) {
    if (isSystemError(error)) return error.code;
    throw error;
  }
}

it('keeps its feet, whatever a process asks for', async () => {
  const answers = new Set<string>();
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(call, { minLength: 1, maxLength: 3 }), { maxLength: 12 }), async (rounds) => {
      await using on = await bench({ iommufd: true, deviceCdev: true, pasids: 16 });
      const { process } = on;
      const fds = await openAll(on);
      const memory = process.mm.mmap({ length: pages * PAGE_SIZE, prot: Prot.READ | Prot.WRITE });
      try {
        for (const round of rounds) {
          // those of a round run at the same time
          for (const answer of await Promise.all(round.map((its) => make(on, fds, memory, its)))) {
            answers.add(typeof answer === 'number' ? 'done' : answer);
          }
        }
        expect(on.host.log.warnings()).toEqual([]);
      } finally {
        await process.exit(0);
        for (const one of registered.reverse()) await one[Symbol.asyncDispose]();
      }
    }),
    { numRuns: 60 },
  );
  // the calls get somewhere: not only to the first check
  for (const answer of ['done', 'EBADF', 'EINVAL', 'ENOTTY']) expect(answers).toContain(answer);
});
