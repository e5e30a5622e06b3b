import { describe, expect, it } from 'vitest';
import type { Device, Irq } from '../src/index.js';
import { createLab, failureOf, type Lab, type LabOptions } from './lab.js';

interface Wired {
  readonly lab: Lab;
  readonly device: Device;
  readonly intx: Irq;
  readonly msi: Irq;
  /** A new eventfd. */
  eventfd(): number;
  /** What was signalled since the last time, of each eventfd. */
  events(): bigint[];
}

async function wired(run: (on: Wired) => Promise<void>, options: LabOptions = {}): Promise<void> {
  await using lab = await createLab(options);
  {
    await using device = await lab.client.openDevice('model0');
    const { transport } = device;
    const eventfds: number[] = [];
    const eventfd = () => {
      const fd = transport.eventfd();
      eventfds.push(fd);
      return fd;
    };
    const events = () => eventfds.map((fd) => transport.takeEvents(fd));
    await run({ lab, device, intx: await device.irq(0), msi: await device.irq(1), eventfd, events });
    for (const fd of eventfds) await transport.close(fd);
  }
  expect(lab.host.tracker.count('eventfd')).toBe(0);
}

describe('an interrupt index', () => {
  it('tells what it is', () =>
    wired(async ({ intx, msi }) => {
      const words = ({ eventfd, maskable, automasked, noresize }: Irq) => [eventfd, maskable, automasked, noresize];
      expect([intx.index, intx.count, ...words(intx)]).toEqual([0, 1, true, true, true, false]);
      expect([msi.index, msi.count, ...words(msi)]).toEqual([1, 4, true, false, false, true]);
    }));

  it.each(['little', 'big'] as const)('signals its eventfds, of a %s-endian program', (byteOrder) =>
    wired(
      async ({ lab, msi, eventfd, events }) => {
        expect(await msi.setEventfds([eventfd(), undefined, eventfd()])).toBe(0);
        lab.model().irqs.raise(1, 2);
        lab.model().irqs.raise(1, 1);
        expect(events()).toEqual([0n, 1n]);
        expect(await msi.setEventfds([eventfd()], 1)).toBe(0);
        lab.model().irqs.raise(1, 1);
        expect(events()).toEqual([0n, 0n, 1n]);
        expect(await msi.setEventfds([undefined], 2)).toBe(0);
        lab.model().irqs.raise(1, 2);
        expect(events()).toEqual([0n, 0n, 0n]);
      },
      { host: { byteOrder } },
    ),
  );

  it('says how many vectors there are when there are fewer', () =>
    wired(
      async ({ msi, eventfd }) => {
        const eventfds = [eventfd(), eventfd(), eventfd()];
        expect(await msi.setEventfds(eventfds)).toBe(2);
        expect(await failureOf(msi.trigger())).toMatchObject({ code: 'EINVAL' });
        expect(await msi.setEventfds(eventfds.slice(0, 2))).toBe(0);
      },
      { vectors: 2 },
    ));

  it('is triggered by its user, all of a range or some of it', () =>
    wired(async ({ msi, eventfd, events }) => {
      await msi.setEventfds([eventfd(), eventfd(), eventfd(), eventfd()]);
      await msi.trigger(1, 2);
      expect(events()).toEqual([0n, 1n, 1n, 0n]);
      await msi.triggerWhere([true, false, true], 1);
      expect(events()).toEqual([0n, 1n, 0n, 1n]);
      await msi.trigger();
      expect(events()).toEqual([1n, 0n, 0n, 0n]);
    }));

  it('is masked and unmasked', () =>
    wired(async ({ lab, intx, eventfd, events }) => {
      await intx.setEventfds([eventfd()]);
      await intx.mask();
      lab.model().irqs.raise(0);
      expect(events()).toEqual([0n]);
      await intx.unmask();
      lab.model().irqs.raise(0);
      lab.model().irqs.raise(0); // it has masked itself
      expect(events()).toEqual([1n]);
    }));

  it('listens to eventfds that mask and unmask it', () =>
    wired(async ({ lab, device, intx, eventfd, events }) => {
      const [trigger, mask, unmask] = [eventfd(), eventfd(), eventfd()];
      const signal = (fd: number) => device.transport.write(fd, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
      await intx.setEventfds([trigger]);
      await intx.setMaskEventfds([mask]);
      await intx.setUnmaskEventfds([unmask]);
      expect(await failureOf(intx.setUnmaskEventfds([unmask]))).toMatchObject({ code: 'EBUSY' });
      await signal(mask);
      expect(lab.model().irqs.masked).toBe(true);
      await signal(unmask);
      expect(lab.model().irqs.masked).toBe(false);
      await intx.setMaskEventfds([undefined]);
      await signal(mask);
      expect(lab.model().irqs.masked).toBe(false);
      events();
    }));

  it('is disabled', () =>
    wired(async ({ lab, msi, eventfd, events }) => {
      await msi.setEventfds([eventfd()]);
      await msi.disable();
      lab.model().irqs.raise(1);
      expect(events()).toEqual([0n]);
      expect(await failureOf(msi.trigger())).toMatchObject({ code: 'EINVAL', syscall: 'VFIO_DEVICE_SET_IRQS' });
    }));

  it('passes on what the kernel says of bad eventfds and ranges', () =>
    wired(async ({ device, msi, intx }) => {
      expect(await failureOf(msi.setEventfds([999]))).toMatchObject({ code: 'EBADF', subject: 'model0' });
      expect(await failureOf(msi.setEventfds([device.fd]))).toMatchObject({ code: 'EINVAL' });
      expect(await failureOf(msi.trigger(4))).toMatchObject({ code: 'EINVAL' });
      expect(await failureOf(msi.mask())).toMatchObject({ code: 'ENOTTY' });
      expect(await failureOf(intx.unmask())).toMatchObject({ code: 'EINVAL' });
    }));

  it('lets go of its eventfds when the device is closed', async () => {
    await using lab = await createLab();
    const device = await lab.client.openDevice('model0');
    const eventfd = device.transport.eventfd();
    await (await device.irq(0)).setEventfds([eventfd]);
    await device.close();
    await device.transport.close(eventfd);
    expect(lab.host.tracker.count('eventfd')).toBe(0);
  });
});
