import { IrqInfoFlag, IrqSetFlag, irqInfo, PciIrqIndex, Request } from '@vfio/core';
import { describe, expect, it } from 'vitest';
import { Command, Msi, Reg } from '../../src/bus/regs.js';
import { type IrqLab, irqLab, VECTORS } from './irq-lab.js';

const { DATA_NONE, DATA_BOOL, DATA_EVENTFD, ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER } = IrqSetFlag;
const { INTX, MSI, MSIX, ERR, REQ } = PciIrqIndex;
const code = (errno: string) => expect.objectContaining({ code: errno });
const intxDisabled = ({ pdev }: IrqLab) => (pdev.hw.readConfig(Reg.COMMAND, 2) & Command.INTX_DISABLE) !== 0;

/** Connects eventfds to an index, from a vector on. */
function connect({ setIrqs }: IrqLab, index: number, fds: readonly number[], start = 0): Promise<number> {
  return setIrqs({ flags: DATA_EVENTFD | ACTION_TRIGGER, index, start, count: fds.length, data: fds });
}

/** Disables an index. */
const disable = ({ setIrqs }: IrqLab, index: number) => setIrqs({ flags: DATA_NONE | ACTION_TRIGGER, index, count: 0 });

async function info(lab: IrqLab, index: number) {
  const { process, fd } = lab;
  const bytes = irqInfo.encode({ argsz: irqInfo.size, index }, process.byteOrder);
  await process.ioctl(fd, Request.DEVICE_GET_IRQ_INFO, bytes);
  return irqInfo.decode(bytes, process.byteOrder);
}

describe('GET_IRQ_INFO', () => {
  it('PCI-131 tells flags and counts of each index; errors are for PCI Express only', async () => {
    await using lab = await irqLab();
    const { EVENTFD, MASKABLE, AUTOMASKED, NORESIZE } = IrqInfoFlag;
    expect(await info(lab, INTX)).toMatchObject({ flags: EVENTFD | MASKABLE | AUTOMASKED, count: 1 });
    expect(await info(lab, MSI)).toMatchObject({ flags: EVENTFD | NORESIZE, count: VECTORS });
    expect(await info(lab, REQ)).toMatchObject({ flags: EVENTFD | NORESIZE, count: 1 });
    for (const dynamic of [true, false]) {
      lab.device.hasDynMsix = dynamic;
      expect(await info(lab, MSIX)).toMatchObject({ flags: dynamic ? EVENTFD : EVENTFD | NORESIZE, count: VECTORS });
    }
    await expect(info(lab, ERR)).rejects.toThrow(code('EINVAL'));
    await expect(info(lab, 5)).rejects.toThrow(code('EINVAL'));
  });
});

describe('SET_IRQS', () => {
  it('PCI-132 CORE-125 is refused for an index without interrupts, also to disable it', async () => {
    await using lab = await irqLab();
    lab.device.plain.interruptPin = 0;
    await expect(disable(lab, INTX)).rejects.toThrow(code('EINVAL'));
    await expect(disable(lab, ERR)).rejects.toThrow(code('EINVAL'));
  });

  it('PCI-133 CORE-124 wants one kind of data and one action', async () => {
    await using lab = await irqLab();
    const set = (flags: number) => lab.setIrqs({ flags, index: MSI, count: 1, data: [0, 0, 0, 0] });
    await expect(set(ACTION_TRIGGER)).rejects.toThrow(code('EINVAL'));
    await expect(set(DATA_NONE | DATA_BOOL | ACTION_TRIGGER)).rejects.toThrow(code('EINVAL'));
    await expect(set(DATA_NONE)).rejects.toThrow(code('ENOTTY'));
    await expect(set(DATA_NONE | ACTION_MASK | ACTION_TRIGGER)).rejects.toThrow(code('ENOTTY'));
  });

  it('PCI-134 does not count past the end of 32 bits', async () => {
    await using lab = await irqLab();
    const flags = DATA_NONE | ACTION_TRIGGER;
    await expect(lab.setIrqs({ flags, index: MSI, count: 0xffff_ffff })).rejects.toThrow(code('EINVAL'));
    await expect(lab.setIrqs({ flags, index: MSI, start: 0xffff_ffff, count: 1 })).rejects.toThrow(code('EINVAL'));
  });
});

describe('interrupt pin', () => {
  it('PCI-136 fires once for each assertion, is masked then, and fires again when it is unmasked while asserted', async () => {
    await using lab = await irqLab();
    const event = lab.eventfd();
    await connect(lab, INTX, [event]);
    lab.fn.setPin(true);
    expect([lab.take(event), intxDisabled(lab)]).toEqual([1n, true]);
    lab.fn.setPin(true);
    expect(lab.take(event)).toBe(0n);
    await lab.setIrqs({ flags: DATA_NONE | ACTION_UNMASK, index: INTX, count: 1 });
    expect([lab.take(event), intxDisabled(lab)]).toEqual([1n, true]);
    lab.fn.setPin(false);
    await lab.setIrqs({ flags: DATA_NONE | ACTION_UNMASK, index: INTX, count: 1 });
    expect([lab.take(event), intxDisabled(lab)]).toEqual([0n, false]);
    lab.fn.setPin(true);
    expect(lab.take(event)).toBe(1n);
    lab.fn.setPin(false);
  });

  it('is masked and unmasked by request, with booleans where they are true', async () => {
    await using lab = await irqLab();
    const event = lab.eventfd();
    await connect(lab, INTX, [event]);
    await lab.setIrqs({ flags: DATA_BOOL | ACTION_MASK, index: INTX, count: 1, data: [0] });
    expect(intxDisabled(lab)).toBe(false);
    await lab.setIrqs({ flags: DATA_BOOL | ACTION_MASK, index: INTX, count: 1, data: [1] });
    lab.fn.setPin(true);
    expect([lab.take(event), intxDisabled(lab)]).toEqual([0n, true]);
    await lab.setIrqs({ flags: DATA_BOOL | ACTION_UNMASK, index: INTX, count: 1, data: [0] });
    expect(lab.take(event)).toBe(0n);
    await lab.setIrqs({ flags: DATA_BOOL | ACTION_UNMASK, index: INTX, count: 1, data: [1] });
    expect(lab.take(event)).toBe(1n);
    lab.fn.setPin(false);
  });

  it('PCI-135 CORE-129 CORE-131 is unmasked by one eventfd, and masked by none', async () => {
    await using lab = await irqLab();
    const [event, unmask] = [lab.eventfd(), lab.eventfd()];
    await expect(lab.setIrqs({ flags: DATA_NONE | ACTION_MASK, index: INTX, count: 1 })).rejects.toThrow(
      code('EINVAL'),
    );
    await connect(lab, INTX, [event]);
    const by = (flags: number, fd: number) =>
      lab.setIrqs({ flags: DATA_EVENTFD | flags, index: INTX, count: 1, data: [fd] });
    await expect(by(ACTION_MASK, unmask)).rejects.toThrow(code('ENOTTY'));
    await by(ACTION_UNMASK, unmask);
    await expect(by(ACTION_UNMASK, lab.eventfd())).rejects.toThrow(code('EBUSY'));
    lab.fn.setPin(true);
    expect(lab.take(event)).toBe(1n);
    lab.fn.setPin(false);
    await lab.process.write(unmask, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
    expect(intxDisabled(lab)).toBe(false);
    await by(ACTION_UNMASK, -1);
    await by(ACTION_UNMASK, unmask);
    await by(ACTION_UNMASK, -1);
  });

  it('PCI-137 stays in use without an eventfd, until it is disabled', async () => {
    await using lab = await irqLab();
    const event = lab.eventfd();
    await connect(lab, INTX, [event]);
    await connect(lab, INTX, [-1]);
    expect(lab.device.irqs.type).toBe('intx');
    lab.fn.setPin(true);
    expect([lab.take(event), intxDisabled(lab)]).toEqual([0n, true]);
    lab.fn.setPin(false);
    await disable(lab, INTX);
    expect(lab.device.irqs.type).toBe('none');
  });

  it('is not signalled while the user has disabled it, nor by a loopback', async () => {
    await using lab = await irqLab();
    const event = lab.eventfd();
    await connect(lab, INTX, [event]);
    const fire = () => lab.setIrqs({ flags: DATA_NONE | ACTION_TRIGGER, index: INTX, count: 1 });
    await fire();
    expect(lab.take(event)).toBe(1n);
    lab.device.virqDisabled = true;
    await fire();
    expect(lab.take(event)).toBe(0n);
  });

  it('begins masked when the user has disabled it', async () => {
    await using lab = await irqLab();
    lab.device.virqDisabled = true;
    await connect(lab, INTX, [lab.eventfd()]);
    expect([intxDisabled(lab), lab.device.irqs.intx.masked]).toEqual([true, true]);
  });

  it('uses an exclusive line that is disabled when the function can not mask, and asks for it enabled only unmasked', async () => {
    await using lab = await irqLab();
    lab.device.pci23 = false;
    const event = lab.eventfd();
    await connect(lab, INTX, [event]);
    const line = lab.pdev.irqLine;
    lab.fn.setPin(true);
    expect([lab.take(event), line?.disabled, intxDisabled(lab)]).toEqual([1n, true, false]);
    lab.fn.setPin(false);
    await lab.setIrqs({ flags: DATA_NONE | ACTION_UNMASK, index: INTX, count: 1 });
    expect(line?.disabled).toBe(false);
    await disable(lab, INTX);
    lab.device.virqDisabled = true;
    await connect(lab, INTX, [event]);
    expect(line?.disabled).toBe(true);
  });

  it('gives everything back when the line is taken', async () => {
    await using lab = await irqLab();
    lab.device.pci23 = false;
    const action = lab.pdev.irqLine?.request('somebody', () => 'none');
    await expect(connect(lab, INTX, [lab.eventfd()])).rejects.toThrow(code('EBUSY'));
    expect(lab.device.irqs.type).toBe('none');
    if (action) lab.pdev.irqLine?.free(action);
  });
});

describe('MSI and MSI-X', () => {
  it('PCI-138 CORE-130 only one kind of interrupt is in use at a time', async () => {
    await using lab = await irqLab();
    const event = lab.eventfd();
    const kinds = [INTX, MSI, MSIX];
    for (const used of kinds) {
      await connect(lab, used, [event]);
      for (const other of kinds.filter((kind) => kind !== used)) {
        await expect(connect(lab, other, [event])).rejects.toThrow(code('EINVAL'));
        await expect(lab.setIrqs({ flags: DATA_NONE | ACTION_TRIGGER, index: other, count: 1 })).rejects.toThrow(
          code('EINVAL'),
        );
      }
      await disable(lab, used);
    }
  });

  it('CORE-131 can not be masked', async () => {
    await using lab = await irqLab();
    await connect(lab, MSI, [lab.eventfd()]);
    for (const flags of [ACTION_MASK, ACTION_UNMASK]) {
      await expect(lab.setIrqs({ flags: DATA_NONE | flags, index: MSI, count: 1 })).rejects.toThrow(code('ENOTTY'));
    }
  });

  it('reach the eventfd of their vector', async () => {
    await using lab = await irqLab();
    const events = [lab.eventfd(), lab.eventfd(), lab.eventfd(), lab.eventfd()];
    for (const [index, send] of [
      [MSI, (vector: number) => lab.fn.sendMsi(vector)],
      [MSIX, (vector: number) => lab.fn.sendMsix(vector)],
    ] as const) {
      await connect(lab, index, events);
      send(2);
      expect(events.map((event) => lab.take(event))).toEqual([0n, 0n, 1n, 0n]);
      await connect(lab, index, [-1], 2);
      send(2);
      expect(events.map((event) => lab.take(event))).toEqual([0n, 0n, 0n, 0n]);
      await disable(lab, index);
    }
  });

  it('PCI-142 CORE-127 CORE-128 fire on request where there is an eventfd', async () => {
    await using lab = await irqLab();
    const [a, b] = [lab.eventfd(), lab.eventfd()];
    await connect(lab, MSI, [a, -1, b]);
    await lab.setIrqs({ flags: DATA_NONE | ACTION_TRIGGER, index: MSI, count: 3 });
    expect([lab.take(a), lab.take(b)]).toEqual([1n, 1n]);
    await lab.setIrqs({ flags: DATA_BOOL | ACTION_TRIGGER, index: MSI, count: 3, data: [0, 1, 1] });
    expect([lab.take(a), lab.take(b)]).toEqual([0n, 1n]);
  });

  it('PCI-139 says how many vectors there are when there are fewer, and enables none', async () => {
    await using lab = await irqLab();
    const taken = lab.host.irq.allocVectors({ min: 1, max: lab.host.irq.freeVectors - 2 });
    expect(await connect(lab, MSIX, [-1, -1, -1])).toBe(2);
    expect(lab.device.irqs.type).toBe('none');
    lab.host.irq.freeVectorsOf(taken);
    expect(lab.pdev.msi).toBeUndefined();
  });

  it('refuses to enable no vector at all', async () => {
    await using lab = await irqLab();
    await expect(lab.setIrqs({ flags: DATA_EVENTFD | ACTION_TRIGGER, index: MSI, count: 0 })).rejects.toThrow(
      code('ERANGE'),
    );
  });

  it('PCI-140 a bad eventfd takes the vectors before it along, and the first ones undo the index', async () => {
    await using lab = await irqLab();
    const [a, b] = [lab.eventfd(), lab.eventfd()];
    await expect(connect(lab, MSI, [a, 999])).rejects.toThrow(code('EBADF'));
    expect([lab.device.irqs.type, lab.pdev.msi]).toEqual(['none', undefined]);
    await connect(lab, MSI, [a, b, a, b]);
    await expect(connect(lab, MSI, [a, 999], 1)).rejects.toThrow(code('EBADF'));
    expect(lab.device.irqs.type).toBe('msi');
    await lab.setIrqs({ flags: DATA_NONE | ACTION_TRIGGER, index: MSI, count: 4 });
    expect([lab.take(a), lab.take(b)]).toEqual([1n, 1n]); // vectors 0 and 3
  });

  it('PCI-141 a vector that is not allocated comes with dynamic MSI-X, and is refused without', async () => {
    await using lab = await irqLab();
    const event = lab.eventfd();
    await connect(lab, MSIX, [event]);
    await connect(lab, MSIX, [event], 3);
    lab.fn.sendMsix(3);
    expect(lab.take(event)).toBe(1n);
    await disable(lab, MSIX);
    lab.device.hasDynMsix = false;
    await connect(lab, MSIX, [event]);
    await expect(connect(lab, MSIX, [event], 3)).rejects.toThrow(code('EINVAL'));
    await disable(lab, MSIX);
    await connect(lab, MSI, [event]);
    await expect(connect(lab, MSI, [event], 3)).rejects.toThrow(code('EINVAL'));
  });

  it('PCI-121 bounds what the user may choose in the capability by what there is', async () => {
    await using lab = await irqLab();
    await connect(lab, MSI, [lab.eventfd(), lab.eventfd(), lab.eventfd()]);
    expect(lab.device.plain.msiQmax).toBe(2);
  });

  it('PCI-144 a function whose pin must not be used keeps it disabled', async () => {
    await using lab = await irqLab();
    lab.device.nointx = true;
    await connect(lab, MSI, [lab.eventfd()]);
    await disable(lab, MSI);
    expect(intxDisabled(lab)).toBe(true);
    expect(lab.pdev.hw.readConfig(0x40 + Msi.FLAGS, 2) & Msi.FLAGS_ENABLE).toBe(0);
  });

  it('reaches the table although the user has switched memory off', async () => {
    await using lab = await irqLab();
    lab.pdev.hw.writeConfig(Reg.COMMAND, 2, Command.MASTER);
    const event = lab.eventfd();
    await connect(lab, MSIX, [event]);
    expect(lab.pdev.hw.readConfig(Reg.COMMAND, 2) & Command.MEMORY).toBe(0);
    lab.fn.sendMsix(0);
    expect(lab.take(event)).toBe(1n);
    await disable(lab, MSIX);
  });
});

describe('error and request', () => {
  it('PCI-143 fire and leave only when connected; a descriptor below -1 is refused', async () => {
    await using lab = await irqLab();
    const event = lab.eventfd();
    const set = (flags: number, count: number, data: readonly number[] = []) =>
      lab.setIrqs({ flags, index: REQ, count, data });
    await expect(set(DATA_NONE | ACTION_TRIGGER, 1)).rejects.toThrow(code('EINVAL'));
    expect(await set(DATA_BOOL | ACTION_TRIGGER, 1, [1])).toBe(0);
    await connect(lab, REQ, [event]);
    await set(DATA_NONE | ACTION_TRIGGER, 1);
    await set(DATA_BOOL | ACTION_TRIGGER, 1, [1]);
    await set(DATA_BOOL | ACTION_TRIGGER, 1, [0]);
    expect(lab.take(event)).toBe(2n);
    await expect(connect(lab, REQ, [-2])).rejects.toThrow(code('EINVAL'));
    await expect(connect(lab, REQ, [999])).rejects.toThrow(code('EBADF'));
    expect(lab.device.irqs.req.connected).toBe(true);
    for (const flags of [DATA_BOOL, DATA_EVENTFD])
      await expect(set(flags | ACTION_TRIGGER, 0)).rejects.toThrow(code('EINVAL'));
    await expect(set(DATA_NONE | ACTION_MASK, 1)).rejects.toThrow(code('ENOTTY'));
    await set(DATA_NONE | ACTION_TRIGGER, 0);
    expect(lab.device.irqs.req.connected).toBe(false);
    await connect(lab, REQ, [event]);
    await connect(lab, REQ, [-1]);
    expect(lab.device.irqs.req.connected).toBe(false);
  });

  it('PCI-053 close drops what is connected', async () => {
    await using lab = await irqLab();
    await connect(lab, REQ, [lab.eventfd()]);
    await connect(lab, MSIX, [lab.eventfd()]);
    await lab.close();
    expect([lab.device.irqs.req.connected, lab.device.irqs.type]).toEqual([false, 'none']);
  });
});
