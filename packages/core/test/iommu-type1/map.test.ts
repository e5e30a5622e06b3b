import { PAGE_SIZE, Prot } from '@vfio/host';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DmaMapFlag, Request } from '../../src/uapi/vfio.js';
import { type Container, error, Machine, P, RW, U64_MAX, type User } from './harness.js';

describe('MAP_DMA in a container of emulated devices', () => {
  let machine: Machine;
  let user: User;
  let memory: bigint;

  beforeEach(async () => {
    machine = await Machine.create();
    const container = await machine.container([await machine.emulated('mtty')]);
    user = container.user();
    memory = user.anon(64);
  });
  afterEach(() => machine[Symbol.asyncDispose]());

  it('CORE-156 refuses size 0, argsz below 32 and unknown flags, takes a larger argsz', async () => {
    await expect(user.map(0n, memory, 0n)).rejects.toEqual(error.EINVAL);
    for (const argsz of [0, 8, 31]) {
      await expect(user.map(0n, memory, P, RW, argsz)).rejects.toEqual(error.EINVAL);
    }
    await expect(user.map(0n, memory, P, RW | 8)).rejects.toEqual(error.EINVAL);
    await expect(user.map(0n, memory, P, 0x8000_0001)).rejects.toEqual(error.EINVAL);
    await user.map(0n, memory, P, RW, 4096);
  });

  it('CORE-156 refuses an iova, vaddr or size that is not a multiple of the smallest page', async () => {
    for (const off of [1n, 0x10n, 0x800n, 0xfffn]) {
      await expect(user.map(0x1000_0000n + off, memory, P)).rejects.toEqual(error.EINVAL);
      await expect(user.map(0x1000_0000n, memory + off, P)).rejects.toEqual(error.EINVAL);
      await expect(user.map(0x1000_0000n, memory, P + off)).rejects.toEqual(error.EINVAL);
    }
    expect(await user.unmapAll()).toBe(0n);
  });

  it('CORE-156 takes READ, WRITE or both, and VADDR only alone', async () => {
    await expect(user.map(0n, memory, P, 0)).rejects.toEqual(error.EINVAL);
    await user.map(1n * P, memory, P, DmaMapFlag.READ);
    await user.map(2n * P, memory, P, DmaMapFlag.WRITE);
    await user.map(3n * P, memory, P, RW);
    await expect(user.map(4n * P, memory, P, DmaMapFlag.VADDR)).rejects.toEqual(error.ENOENT);
    for (const access of [DmaMapFlag.READ, DmaMapFlag.WRITE, RW]) {
      await expect(user.map(4n * P, memory, P, access | DmaMapFlag.VADDR)).rejects.toEqual(error.EINVAL);
    }
  });

  it('CORE-157 refuses an overlap of one page or more, and takes neighbours', async () => {
    await user.map(0x10n * P, memory, 4n * P);
    for (const first of [14n, 15n, 16n, 17n, 19n, 20n]) {
      for (const pages of [1n, 2n, 4n, 6n, 8n]) {
        const attempt = user.map(first * P, memory, pages * P, DmaMapFlag.READ);
        if (first + pages <= 16n || first >= 20n) {
          await attempt;
          expect(await user.unmap(first * P, pages * P)).toBe(pages * P);
        } else {
          await expect(attempt).rejects.toEqual(error.EEXIST);
        }
      }
    }
    expect(await user.unmapAll()).toBe(4n * P);
  });

  it('CORE-158 takes the last page of the address space and refuses to go past it', async () => {
    await user.map(U64_MAX - P + 1n, memory, P);
    await expect(user.map(U64_MAX - P + 1n, memory, 2n * P)).rejects.toEqual(error.EOVERFLOW);
    await expect(user.map(U64_MAX - 2n * P + 1n, memory, 2n * P)).rejects.toEqual(error.EEXIST);
    await user.map(U64_MAX - 3n * P + 1n, memory, 2n * P);
    await expect(user.map(0n, memory, U64_MAX - P + 1n)).rejects.toEqual(error.EOVERFLOW);
    await expect(user.map(3n * P, U64_MAX - P + 1n, 2n * P)).rejects.toEqual(error.EOVERFLOW);
    expect(await user.unmapAll()).toBe(3n * P);
  });

  it('CORE-159 restricts nothing while no hardware is there', async () => {
    await user.map(2n ** 63n, memory, P);
    await user.map(0xfee0_0000n, memory, P);
    expect(await user.unmapAll()).toBe(2n * P);
  });

  it('CORE-163 pins and charges nothing, whatever the address', async () => {
    await user.map(0n, 0n, P);
    await user.map(P, 0x1000n, P);
    await user.map(2n * P, memory, 64n * P);
    expect(user.lockedVm).toBe(0);
    expect(machine.host.tracker.count('pin')).toBe(0);
  });

  it('reads its arguments or fails with EFAULT', async () => {
    await expect(user.process.ioctl(user.fd, Request.IOMMU_MAP_DMA, 0n)).rejects.toEqual(error.EFAULT);
    await expect(user.process.ioctl(user.fd, Request.IOMMU_MAP_DMA, new Uint8Array(31))).rejects.toEqual(error.EFAULT);
  });

  it('reads them in the byte order of the caller', async () => {
    const big = machine.host.spawn({ byteOrder: 'big' });
    const container = await machine.container([await machine.emulated('other')]);
    const other = container.user(big);
    await other.map(0x10_0000n, 0n, P);
    expect(await other.unmap(0x10_0000n, P)).toBe(P);
  });
});

describe('the number of mappings', () => {
  it('CORE-160 is 65535; each unmap frees one, and GET_INFO says what is left', async () => {
    // unchecked: 65535 stacks of where they were made would be all that this test waits for
    await using machine = await Machine.create({ host: { checked: false } });
    const user = (await machine.container([await machine.emulated('mtty')])).user();
    for (let i = 0n; i < 65535n; i++) await user.map(2n * i * P, 0n, P);
    expect((await user.info()).avail).toBe(0);
    await expect(user.map(1n * P, 0n, P)).rejects.toEqual(error.ENOSPC);
    expect(await user.unmap(8n * P, P)).toBe(P);
    expect((await user.info()).avail).toBe(1);
    await user.map(1n * P, 0n, P);
    await expect(user.map(3n * P, 0n, P)).rejects.toEqual(error.ENOSPC);
    expect(await user.unmapAll()).toBe(65535n * P);
    expect((await user.info()).avail).toBe(65535);
  });

  it('CORE-160 is fixed when the container chooses type1', async () => {
    await using machine = await Machine.create();
    await machine.setParameter('dma_entry_limit', '2');
    const user = (await machine.container([await machine.emulated('mtty')])).user();
    await user.map(0n, 0n, P);
    await user.map(P, 0n, P);
    await expect(user.map(2n * P, 0n, P)).rejects.toEqual(error.ENOSPC);
    await machine.setParameter('dma_entry_limit', '100');
    await expect(user.map(2n * P, 0n, P)).rejects.toEqual(error.ENOSPC);
  });

  it('CORE-160 an overlap is found before the lack of mappings, and that before the windows', async () => {
    await using machine = await Machine.create({ parameters: { dma_entry_limit: '1' } });
    const user = (await machine.container([await machine.hardware('0000:00:02.0')])).user();
    const memory = user.anon(1);
    await user.map(0n, memory, P);
    await expect(user.map(0n, memory, P)).rejects.toEqual(error.EEXIST);
    await expect(user.map(0xfee0_0000n, memory, P)).rejects.toEqual(error.ENOSPC);
  });
});

describe('MAP_DMA with hardware', () => {
  let machine: Machine;
  let container: Container;
  let user: User;

  beforeEach(async () => {
    machine = await Machine.create();
    container = await machine.container([await machine.hardware('0000:00:02.0')]);
    user = container.user();
  });
  afterEach(() => machine[Symbol.asyncDispose]());

  it('CORE-159 refuses what is outside of the windows or crosses a hole', async () => {
    const memory = user.anon(2);
    for (const iova of [0xfee0_0000n, 0xfeef_f000n, 2n ** 48n, U64_MAX - P + 1n]) {
      await expect(user.map(iova, memory, P)).rejects.toEqual(error.EINVAL);
    }
    await expect(user.map(0xfedf_f000n, memory, 2n * P)).rejects.toEqual(error.EINVAL);
    await user.map(0xfedf_f000n, memory, P);
    await user.map(0xfef0_0000n, memory, P);
    await user.map(2n ** 48n - P, memory, P);
    expect((await user.info()).avail).toBe(65532);
  });

  it('shows the memory to the device, for the access that was asked for', async () => {
    const memory = user.anon(4);
    user.process.mm.store(memory + 8n, 8, 0x1234n);
    await user.map(0x10_0000n, memory, 4n * P, DmaMapFlag.READ);
    const domain = machine.host.iommu.groups.get(0)!.domain!;
    const { phys, prot } = domain.translate(0x10_0008n, 8)!;
    const bytes = new Uint8Array(8);
    machine.host.memory.read(phys, bytes);
    expect(new DataView(bytes.buffer).getBigUint64(0, true)).toBe(0x1234n);
    expect(prot & 3).toBe(DmaMapFlag.READ);
    expect(domain.translate(0x10_4000n, 1)).toBeUndefined();
  });

  it('CORE-162 refuses memory that is not there or not for this access, and leaves no entry', async () => {
    const readOnly = user.anon(4, Prot.READ);
    const none = user.anon(4, Prot.NONE);
    const short = user.anon(3);
    const hole = user.anon(4);
    user.process.mm.munmap(hole + 2n * P, PAGE_SIZE);
    await expect(user.map(0x10_0000n, 0x1000n, P)).rejects.toEqual(error.EFAULT);
    await expect(user.map(0x10_0000n, 0n, P)).rejects.toEqual(error.EFAULT);
    await expect(user.map(0x10_0000n, 2n ** 63n, P)).rejects.toEqual(error.EFAULT);
    for (const flags of [DmaMapFlag.WRITE, RW]) {
      await expect(user.map(0x10_0000n, readOnly, P, flags)).rejects.toEqual(error.EFAULT);
    }
    for (const flags of [DmaMapFlag.READ, RW]) {
      await expect(user.map(0x10_0000n, none, P, flags)).rejects.toEqual(error.EFAULT);
    }
    await expect(user.map(0x10_0000n, hole, 4n * P)).rejects.toEqual(error.EFAULT);
    expect(user.lockedVm).toBe(0);
    expect(machine.host.tracker.count('pin')).toBe(0);
    expect(machine.host.iommu.groups.get(0)!.domain!.mappings).toBe(0);
    await user.map(0x10_0000n, readOnly, P, DmaMapFlag.READ);
    await user.map(0x20_0000n, short, 3n * P);
    expect(user.lockedVm).toBe(4);
    expect((await user.info()).avail).toBe(65533);
  });

  it('keeps the memory although its owner unmaps it', async () => {
    const memory = user.anon(1);
    user.process.mm.store(memory, 4, 77n);
    await user.map(0n, memory, P);
    user.process.mm.munmap(memory, PAGE_SIZE);
    const { phys } = machine.host.iommu.groups.get(0)!.domain!.translate(0n, 4)!;
    const bytes = new Uint8Array(4);
    machine.host.memory.read(phys, bytes);
    expect(bytes[0]).toBe(77);
    expect(await user.unmap(0n, P)).toBe(P);
    expect(user.lockedVm).toBe(0);
  });

  it('maps memory that is in pieces, run by run', async () => {
    const pieces = [user.anon(3), user.anon(1), user.anon(2)];
    const at = pieces[0]! - 0x1000_0000n;
    let next = at;
    for (const [i, pages] of [3, 1, 2].entries()) {
      user.process.mm.mmap({ addr: next, length: pages * PAGE_SIZE, prot: Prot.READ | Prot.WRITE, fixed: true });
      user.process.mm.store(next, 1, BigInt(i + 1));
      next += BigInt(pages) * P;
      // something between them in physical memory
      user.anon(1);
    }
    await user.map(0n, at, 6n * P);
    const domain = machine.host.iommu.groups.get(0)!.domain!;
    const byteAt = (iova: bigint) => {
      const byte = new Uint8Array(1);
      machine.host.memory.read(domain.translate(iova, 1)!.phys, byte);
      return byte[0];
    };
    expect([byteAt(0n), byteAt(3n * P), byteAt(4n * P)]).toEqual([1, 2, 3]);
    expect(user.lockedVm).toBe(6);
    expect(await user.unmap(0n, 6n * P)).toBe(6n * P);
    expect(domain.mappings).toBe(0);
  });

  it('takes 64 GiB at once', async () => {
    const gib64 = 64n << 30n;
    const memory = user.process.mm.mmap({ length: gib64, prot: Prot.READ | Prot.WRITE });
    await user.map(2n ** 32n, memory, gib64);
    expect(user.lockedVm).toBe(2 ** 24);
    await user.startTracking();
    const data = user.anon(2 ** 9);
    await user.getBitmap(2n ** 32n, gib64, { data });
    expect(user.process.mm.copyFrom(data, 2 ** 21).every((byte) => byte === 0xff)).toBe(true);
    expect(await user.unmapAll()).toBe(gib64);
    expect(user.lockedVm).toBe(0);
  });

  it('maps page by page while huge pages are disabled', async () => {
    await machine.setParameter('disable_hugepages', '1');
    await user.map(0n, user.anon(5), 5n * P);
    expect(machine.host.iommu.groups.get(0)!.domain!.mappings).toBe(5);
    expect(await user.unmap(0n, 5n * P)).toBe(5n * P);
  });
});

describe('locked memory', () => {
  async function limited(pages: bigint) {
    const machine = await Machine.create();
    const container = await machine.container([await machine.hardware('0000:00:02.0')]);
    const limit = { soft: pages * P, hard: pages * P };
    const process = machine.host.spawn({ comm: 'user', uid: 1000, limits: { memlock: limit } });
    return { machine, container, user: container.user(process) };
  }

  it('CORE-161 ends at RLIMIT_MEMLOCK, and a refused mapping charges nothing', async () => {
    const { machine, user } = await limited(16n);
    await using _machine = machine;
    const memory = user.anon(64);
    await user.map(0x10_0000n, memory, 8n * P);
    await user.map(0x20_0000n, memory + 8n * P, 8n * P);
    expect(user.lockedVm).toBe(16);
    await expect(user.map(0x30_0000n, memory + 16n * P, P)).rejects.toEqual(error.ENOMEM);
    // the same page twice is charged twice
    await expect(user.map(0x40_0000n, memory, P)).rejects.toEqual(error.ENOMEM);
    expect(user.lockedVm).toBe(16);
    await user.unmap(0x20_0000n, 8n * P);
    await user.map(0x30_0000n, memory + 16n * P, 4n * P);
    await expect(user.map(0x50_0000n, memory + 32n * P, 5n * P)).rejects.toEqual(error.ENOMEM);
    await user.map(0x50_0000n, memory + 32n * P, 4n * P);
    expect(user.lockedVm).toBe(16);
    expect(machine.host.log.entries.at(-1)?.text).toBe('vfio_pin_pages_remote: RLIMIT_MEMLOCK (65536) exceeded');
  });

  it('CORE-161 has no limit with CAP_IPC_LOCK when the mapping is made', async () => {
    const { machine, user } = await limited(0n);
    await using _machine = machine;
    const memory = user.anon(4);
    await expect(user.map(0n, memory, P)).rejects.toEqual(error.ENOMEM);
    user.process.credentials.capabilities.add('IPC_LOCK');
    await user.map(0n, memory, 4n * P);
    user.process.credentials.capabilities.delete('IPC_LOCK');
    expect(user.lockedVm).toBe(4);
    expect(await user.unmap(0n, 4n * P)).toBe(4n * P);
    expect(user.lockedVm).toBe(0);
  });

  it('CORE-161 is over the limit before the memory ends, or the other way round', async () => {
    const { machine, user } = await limited(2n);
    await using _machine = machine;
    const three = user.anon(3);
    await expect(user.map(0n, three, 8n * P)).rejects.toEqual(error.ENOMEM);
    const one = user.anon(3);
    user.process.mm.munmap(one + P, PAGE_SIZE);
    await expect(user.map(0n, one, 3n * P)).rejects.toEqual(error.EFAULT);
    expect(user.lockedVm).toBe(0);
  });

  it('is given back with the process long gone', async () => {
    const { machine, container, user } = await limited(16n);
    await using _machine = machine;
    await user.map(0n, user.anon(4), 4n * P);
    await user.process.exit();
    const other = container.user();
    expect(await other.unmap(0n, 4n * P)).toBe(4n * P);
    expect(machine.host.tracker.count('pin')).toBe(0);
  });
});
