import { type IommuGroup, PAGE_SIZE, Prot } from '@vfio/host';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DmaMapFlag, Extension } from '../../src/uapi/vfio.js';
import { type Container, error, Machine, P, RW, U64_MAX, type User } from './harness.js';
import { IoFile } from './io-file.js';

describe('pins of an emulated device', () => {
  let machine: Machine;
  let group: IommuGroup;
  let container: Container;
  let user: User;
  let memory: bigint;

  const pin = (page: bigint, npage: number, prot: number = RW) =>
    container.backend.pinPages(group, page * P, npage, prot);
  const unpin = (page: bigint, npage: number) => container.backend.unpinPages(page * P, npage);

  beforeEach(async () => {
    machine = await Machine.create();
    group = await machine.emulated('mtty');
    container = await machine.container([group]);
    await container.listen();
    user = container.user();
    memory = user.anon(16);
    await user.map(0x10n * P, memory, 16n * P);
  });
  afterEach(() => machine[Symbol.asyncDispose]());

  it('are the memory itself', async () => {
    user.process.mm.store(memory + P, 4, 0xabcdn);
    const pages = await pin(0x11n, 2);
    expect(pages.map(({ iova }) => iova)).toEqual([0x11n * P, 0x12n * P]);
    expect(pages[0]!.bytes.length).toBe(PAGE_SIZE);
    expect([...pages[0]!.bytes.subarray(0, 2)]).toEqual([0xcd, 0xab]);
    pages[0]!.bytes[0] = 0x77;
    expect(user.process.mm.load(memory + P, 1)).toBe(0x77n);
    expect(pages[1]!.pfn).toBe(pages[0]!.pfn + 1);
    await unpin(0x11n, 2);
  });

  it('ignore the offset in the first page', async () => {
    const [page] = await container.backend.pinPages(group, 0x11n * P + 0x123n, 1, RW);
    expect(page!.iova).toBe(0x11n * P);
    await container.backend.unpinPages(0x11n * P + 0xfffn, 1);
    expect(machine.host.tracker.count('pin')).toBe(0);
  });

  it('CORE-163 are charged one page each, when they are made, and credited when the last one goes', async () => {
    expect(user.lockedVm).toBe(0);
    await pin(0x10n, 4);
    expect(user.lockedVm).toBe(4);
    await pin(0x12n, 4);
    expect(user.lockedVm).toBe(6);
    await unpin(0x10n, 4);
    expect(user.lockedVm).toBe(4);
    await unpin(0x12n, 4);
    expect(user.lockedVm).toBe(0);
  });

  it('CORE-178 count per page: two pins need two unpins', async () => {
    await pin(0x10n, 1);
    await pin(0x10n, 1);
    expect(machine.host.tracker.count('pin')).toBe(1);
    await unpin(0x10n, 1);
    expect(machine.host.tracker.count('pin')).toBe(1);
    await unpin(0x10n, 1);
    expect(machine.host.tracker.count('pin')).toBe(0);
    // one too many is ignored
    await unpin(0x10n, 1);
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('CORE-178 stop at a hole when they are dropped, with a warning', async () => {
    await user.map(0x22n * P, memory, P);
    await user.map(0x20n * P, memory, P);
    await pin(0x20n, 1);
    await pin(0x22n, 1);
    await unpin(0x20n, 3);
    expect(machine.host.log.warnings().length).toBe(1);
    // the page behind the hole is still held
    expect(machine.host.tracker.count('pin')).toBe(1);
    await unpin(0x22n, 1);
  });

  it('CORE-178 warn of calls that can mean nothing', async () => {
    await unpin(0x10n, 0);
    await unpin(0x10n, -1);
    await container.backend.unpinPages(U64_MAX, 2);
    expect(machine.host.log.warnings().length).toBe(3);
  });

  it('CORE-177 need a mapping under every page, and leave nothing when one is missing', async () => {
    await expect(pin(0x0fn, 1)).rejects.toEqual(error.EINVAL);
    await expect(pin(0x1en, 4)).rejects.toEqual(error.EINVAL);
    await expect(pin(0x10n, 0)).rejects.toEqual(error.EINVAL);
    await expect(pin(0x10n, -1)).rejects.toEqual(error.EINVAL);
    await expect(container.backend.pinPages(group, U64_MAX - P + 1n, 2, RW)).rejects.toEqual(error.EOVERFLOW);
    expect(machine.host.tracker.count('pin')).toBe(0);
    expect(user.lockedVm).toBe(0);
  });

  it('CORE-177 keep what was held before when a later page fails', async () => {
    await pin(0x1fn, 1);
    await expect(pin(0x1en, 4)).rejects.toEqual(error.EINVAL);
    expect(machine.host.tracker.count('pin')).toBe(1);
    expect(user.lockedVm).toBe(1);
    await unpin(0x1fn, 1);
    expect(user.lockedVm).toBe(0);
  });

  it('CORE-177 need the access that they ask for in the mapping', async () => {
    await user.map(0x40n * P, memory, P, DmaMapFlag.READ);
    await user.map(0x41n * P, memory, P, DmaMapFlag.WRITE);
    await pin(0x40n, 1, Prot.READ);
    await expect(pin(0x40n, 1, Prot.WRITE)).rejects.toEqual(error.EPERM);
    await expect(pin(0x40n, 1, RW)).rejects.toEqual(error.EPERM);
    await pin(0x41n, 1, Prot.WRITE);
    await expect(pin(0x41n, 1, Prot.READ)).rejects.toEqual(error.EPERM);
    await unpin(0x40n, 2);
  });

  it('CORE-177 need memory that is there, for the access of the mapping', async () => {
    const readOnly = user.anon(1, Prot.READ);
    await user.map(0x40n * P, readOnly, P, DmaMapFlag.READ);
    await user.map(0x41n * P, readOnly, P, RW);
    await user.map(0x42n * P, 0x1000n, P, RW);
    await pin(0x40n, 1, Prot.READ);
    // the mapping may write, so the pin does, whatever the device asks for
    await expect(pin(0x41n, 1, Prot.READ)).rejects.toEqual(error.EFAULT);
    await expect(pin(0x42n, 1)).rejects.toEqual(error.EFAULT);
    await unpin(0x40n, 1);
  });

  it('CORE-177 need a device that hears of unmaps', async () => {
    const other = await machine.container([await machine.emulated('deaf')]);
    // a device without the operation does not count
    await other.listen({});
    const deaf = machine.host.iommu.groups.get(1)!;
    await other.user().map(0n, memory, P);
    await expect(other.backend.pinPages(deaf, 0n, 1, RW)).rejects.toEqual(error.EINVAL);
  });

  it('CORE-177 stay below the limit of the owner, whoever runs', async () => {
    const poor = container.user(
      machine.host.spawn({ comm: 'poor', uid: 1000, limits: { memlock: { soft: 2n * P, hard: 2n * P } } }),
    );
    await poor.map(0x40n * P, poor.anon(4), 4n * P);
    await expect(pin(0x40n, 3)).rejects.toEqual(error.ENOMEM);
    expect(poor.lockedVm).toBe(0);
    await pin(0x40n, 2);
    expect(poor.lockedVm).toBe(2);
    await unpin(0x40n, 2);
  });

  it('CORE-177 fail with ENODEV when the owner of the memory is gone, and those held stay good', async () => {
    const owner = container.user();
    const at = owner.anon(4);
    owner.process.mm.store(at, 1, 9n);
    await owner.map(0x40n * P, at, 4n * P);
    const [page] = await pin(0x40n, 1);
    await owner.process.exit();
    await expect(pin(0x41n, 1)).rejects.toEqual(error.ENODEV);
    expect(page!.bytes[0]).toBe(9);
    await unpin(0x40n, 1);
    expect(machine.host.tracker.count('pin')).toBe(0);
  });

  it('CORE-177 refuse frames that are not memory', async () => {
    // the frames of another device's registers, mapped by the user
    const window = { kind: 'io' as const, pfn: (index: number) => 0xf_0000 + index, load: () => 0n };
    const file = new IoFile(window);
    const fd = user.process.files.add(file);
    const at = await user.process.mmap(fd, {
      length: 2 * PAGE_SIZE,
      prot: Prot.READ | Prot.WRITE,
      shared: true,
      offset: 0,
    });
    await user.map(0x40n * P, at, 2n * P);
    await expect(pin(0x40n, 1)).rejects.toEqual(error.EINVAL);
    expect(machine.host.tracker.count('pin')).toBe(0);
    // hardware may reach them, at no charge
    const hardware = (await machine.container([await machine.hardware('0000:00:02.0')])).user(user.process);
    await hardware.map(0n, at, 2n * P);
    expect(user.lockedVm).toBe(0);
    expect(await hardware.unmap(0n, 2n * P)).toBe(2n * P);
  });

  it('CORE-177 do not exist in version 1', async () => {
    const first = await machine.container([await machine.emulated('old')], Extension.TYPE1_IOMMU);
    await first.listen();
    await expect(first.backend.pinPages(machine.host.iommu.groups.get(1)!, 0n, 1, RW)).rejects.toEqual(error.EACCES);
    await first.backend.unpinPages(0n, 1);
    expect(machine.host.log.warnings().length).toBe(1);
  });
});

describe('dmaRw', () => {
  let machine: Machine;
  let container: Container;
  let user: User;

  beforeEach(async () => {
    machine = await Machine.create();
    container = await machine.container([await machine.emulated('mtty')]);
    user = container.user();
  });
  afterEach(() => machine[Symbol.asyncDispose]());

  it('CORE-179 goes across mappings that follow each other', async () => {
    const { dmaRw } = container.backend;
    const copy = dmaRw.bind(container.backend);
    await user.map(0n, user.anon(1), P);
    const other = user.anon(1);
    await user.map(P, other, P);
    await copy(P - 2n, new Uint8Array([1, 2, 3, 4]), true, user.process.mm);
    expect(user.process.mm.load(other, 2)).toBe(0x0403n);
    const back = new Uint8Array(4);
    await copy(P - 2n, back, false, user.process.mm);
    expect([...back]).toEqual([1, 2, 3, 4]);
  });

  it('CORE-179 keeps what was copied before a hole', async () => {
    const memory = user.anon(1);
    await user.map(0n, memory, P);
    await expect(container.backend.dmaRw(P - 2n, new Uint8Array([1, 2, 3]), true)).rejects.toEqual(error.EINVAL);
    expect(user.process.mm.load(memory + P - 2n, 2)).toBe(0x0201n);
  });

  it('CORE-179 writes only where the mapping reads and writes, and reads where it reads', async () => {
    const memory = user.anon(1);
    await user.map(0n, memory, P, DmaMapFlag.WRITE);
    await user.map(P, memory, P, DmaMapFlag.READ);
    const byte = new Uint8Array(1);
    await expect(container.backend.dmaRw(0n, byte, true)).rejects.toEqual(error.EPERM);
    await expect(container.backend.dmaRw(0n, byte, false)).rejects.toEqual(error.EPERM);
    await expect(container.backend.dmaRw(P, byte, true)).rejects.toEqual(error.EPERM);
    await container.backend.dmaRw(P, byte, false);
  });

  it('CORE-179 belongs to the owner of the memory, and to kernel threads', async () => {
    await user.map(0n, user.anon(1), P);
    const other = machine.host.spawn({ comm: 'other' });
    const byte = new Uint8Array(1);
    await expect(container.backend.dmaRw(0n, byte, false, other.mm)).rejects.toEqual(error.EFAULT);
    await container.backend.dmaRw(0n, byte, false);
    await user.process.exit();
    await expect(container.backend.dmaRw(0n, byte, false)).rejects.toEqual(error.EPERM);
  });

  it('CORE-179 needs memory that the owner could access itself', async () => {
    const readOnly = user.anon(1, Prot.READ);
    await user.map(0n, readOnly, P);
    await user.map(P, 0x1000n, P);
    const byte = new Uint8Array(1);
    await container.backend.dmaRw(0n, byte, false);
    await expect(container.backend.dmaRw(0n, byte, true)).rejects.toEqual(error.EFAULT);
    await expect(container.backend.dmaRw(P, byte, false)).rejects.toEqual(error.EFAULT);
  });

  it('CORE-179 pins nothing', async () => {
    await user.map(0n, user.anon(1), P);
    await container.backend.dmaRw(0n, new Uint8Array(16), true);
    expect(machine.host.tracker.count('pin')).toBe(0);
    expect(user.lockedVm).toBe(0);
  });
});
