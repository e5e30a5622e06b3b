import { deviceIoeventfd, IoeventfdFlag, Request, regionStart } from '@vfio/core';
import { describe, expect, it } from 'vitest';
import { type IrqLab, irqLab, TABLE_AT } from './irq-lab.js';

const code = (errno: string) => expect.objectContaining({ code: errno });
const signal = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0);
const { WIDTH_8, WIDTH_16, WIDTH_32, WIDTH_64 } = IoeventfdFlag;

interface Wanted {
  readonly bar?: number;
  readonly offset?: number;
  readonly data?: bigint;
  readonly flags?: number;
  readonly fd: number;
  readonly argsz?: number;
}

function ask({ process, fd: device }: IrqLab, { bar = 0, offset = 0, data = 1n, flags = WIDTH_32, fd, argsz }: Wanted) {
  const bytes = deviceIoeventfd.encode(
    { argsz: argsz ?? deviceIoeventfd.size, flags, offset: regionStart(bar) + BigInt(offset), data, fd },
    process.byteOrder,
  );
  return (async () => process.ioctl(device, Request.DEVICE_IOEVENTFD, bytes))();
}

const register = ({ fn }: IrqLab, bar: number, offset: number) => fn.readBar(bar, offset, 4);

describe('ioeventfd', () => {
  it('writes its value with each signal, in its width', async () => {
    await using lab = await irqLab();
    const [a, b] = [lab.eventfd(), lab.eventfd()];
    await ask(lab, { offset: 0x10, data: 0x1122_3344n, fd: a });
    await ask(lab, { offset: 0x20, data: 0xaabb_ccddn, flags: WIDTH_16, fd: b });
    await lab.process.write(a, signal);
    await lab.process.write(b, signal);
    expect([register(lab, 0, 0x10), register(lab, 0, 0x20)]).toEqual([0x1122_3344, 0xccdd]);
  });

  it('PCI-145 CORE-138 is refused in this order', async () => {
    await using lab = await irqLab();
    const fd = lab.eventfd();
    await expect(ask(lab, { fd, argsz: 27 })).rejects.toThrow(code('EINVAL'));
    for (const flags of [0, WIDTH_8 | WIDTH_16, 0x10, 0x14]) {
      await expect(ask(lab, { fd, flags })).rejects.toThrow(code('EINVAL'));
    }
    await expect(ask(lab, { fd: -2 })).rejects.toThrow(code('EINVAL'));
    for (const bar of [6, 7, 9]) await expect(ask(lab, { fd, bar })).rejects.toThrow(code('EINVAL'));
    await expect(ask(lab, { fd, offset: 0xfffd })).rejects.toThrow(code('EINVAL'));
    await expect(ask(lab, { fd, bar: 3 })).rejects.toThrow(code('EINVAL'));
    await expect(ask(lab, { fd, bar: 1, offset: TABLE_AT + 8 })).rejects.toThrow(code('EINVAL'));
    await expect(ask(lab, { fd, bar: 1, offset: TABLE_AT - 2 })).rejects.toThrow(code('EINVAL'));
    await expect(ask(lab, { fd, flags: WIDTH_64 })).rejects.toThrow(code('EINVAL'));
    await expect(ask(lab, { fd: -1 })).rejects.toThrow(code('ENODEV'));
    await expect(ask(lab, { fd: 999 })).rejects.toThrow(code('EBADF'));
    await expect(ask(lab, { fd: lab.fd })).rejects.toThrow(code('EINVAL'));
    await ask(lab, { fd, argsz: 28 });
    await expect(ask(lab, { fd })).rejects.toThrow(code('EEXIST'));
    await expect(ask(lab, { fd: lab.eventfd() })).rejects.toThrow(code('EEXIST'));
    await ask(lab, { fd, bar: 1, offset: TABLE_AT - 4 });
    expect(lab.device.ioeventfds.size).toBe(2);
    await ask(lab, { fd: -1 });
    expect(lab.device.ioeventfds.size).toBe(1);
  });

  it('PCI-145 there are 1000 at most', async () => {
    await using lab = await irqLab();
    const fd = lab.eventfd();
    for (let i = 0; i < 1000; i++) await ask(lab, { fd, offset: 4 * i });
    await expect(ask(lab, { fd, offset: 4000 })).rejects.toThrow(code('ENOSPC'));
  });

  it('PCI-146 writes nothing while memory is off; ports do not care', async () => {
    await using lab = await irqLab();
    const [memory, port] = [lab.eventfd(), lab.eventfd()];
    await ask(lab, { offset: 0x10, data: 7n, fd: memory });
    await ask(lab, { bar: 2, offset: 4, data: 7n, fd: port });
    lab.device.plain.commandMemory = false;
    await lab.process.write(memory, signal);
    await lab.process.write(port, signal);
    expect([register(lab, 0, 0x10), register(lab, 2, 4)]).toEqual([0, 7]);
  });

  it('waits in a work item for whoever changes what the function decodes', async () => {
    await using lab = await irqLab();
    const fd = lab.eventfd();
    await ask(lab, { offset: 0x10, data: 7n, fd });
    const held = await lab.device.memoryLock.write();
    await lab.process.write(fd, signal);
    expect(register(lab, 0, 0x10)).toBe(0);
    held.release();
    await ask(lab, { offset: 0x10, data: 7n, fd: -1 });
    expect(register(lab, 0, 0x10)).toBe(7);
  });
});
