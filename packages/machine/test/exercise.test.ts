import { Feature, VfioError } from '@vfio/core';
import { describe, expect, it } from 'vitest';
import { ModelDevice } from '../../client/test/model-device.js';
import { loadModel, stepsOf } from './lab.js';

/** What an exercise of a device says. */
async function said(
  options: Parameters<typeof loadModel>[0] = {},
  address = 'model0',
): Promise<Record<string, string>> {
  await using machine = await loadModel(options);
  const steps = await stepsOf(machine, address);
  return Object.fromEntries([...steps].map(([name, { ok, detail }]) => [name, `${ok ? '' : 'failed: '}${detail}`]));
}

describe('an exercise', () => {
  it('tries everything that a device has, in this order', async () => {
    const steps = await said();
    expect(Object.entries(steps)).toEqual([
      ['open', '/dev/vfio/0, vfio0'],
      ['info', 'reset, pci, caps; 4 regions, 3 interrupt indices'],
      ['regions', '2 with 12388 bytes'],
      ['irq 0', '1 of 1 signalled, masked itself'],
      ['irq 1', '4 of 4 signalled'],
      ['dma', 'mapped and unmapped 4096 bytes at 0x100000'],
      ['migration', 'stop-copy, p2p, pre-copy; saved and loaded 520 bytes, RUNNING'],
      ['reset', 'done'],
      ['own', 'model0 in exercise, ROM of model0'],
      ['close', '0 users left'],
    ]);
  });

  it('goes through the node of the device too, where there is one', async () => {
    const steps = await said({ file: { vfio: { iommufd: true, deviceCdev: true } } });
    const door = Object.entries(steps).filter(([name]) => name.startsWith('iommufd '));
    expect(door).toEqual([
      ['iommufd open', expect.stringMatching(/^\/dev\/vfio\/devices\/vfio0, device \d+ of an iommufd$/)],
      ['iommufd info', 'reset, pci, caps; 4 regions, 3 interrupt indices'],
      ['iommufd regions', '2 with 12388 bytes'],
      ['iommufd irq 0', '1 of 1 signalled, masked itself'],
      ['iommufd irq 1', '4 of 4 signalled'],
      ['iommufd dma', 'mapped and unmapped 4096 bytes at 0x100000'],
      ['iommufd migration', 'stop-copy, p2p, pre-copy; saved and loaded 520 bytes, RUNNING'],
      ['iommufd reset', 'done'],
      ['iommufd own', 'model0 in exercise, ROM of model0'],
      ['iommufd close', '0 users left'],
    ]);
    expect(Object.keys(steps).length).toBe(20);
  });

  it('takes the number of a device for its name', async () => {
    expect((await said({}, 'vfio0')).close).toBe('0 users left');
  });

  it('has one step for a device that is not there', async () => {
    expect(await said({}, 'model9')).toEqual({ open: "failed: no device 'model9': see vfio ls" });
  });

  it('ends with the open when that fails', async () => {
    class Closed extends ModelDevice {
      override openDevice(): void {
        throw new VfioError('EBUSY', 'the card has no power');
      }
    }
    expect(await said({ Model: Closed })).toEqual({
      open: "failed: EBUSY: the card has no power, VFIO_GROUP_GET_DEVICE_FD 'group 0'",
    });
  });

  it('goes on after a step that fails, and says why', async () => {
    class Deaf extends ModelDevice {
      override ioctl(...[call]: Parameters<ModelDevice['ioctl']>): Promise<number> {
        if (call.request === 0x3b6f) throw new VfioError('EIO', 'no reset today');
        return super.ioctl(call);
      }
    }
    const steps = await said({ Model: Deaf });
    expect(steps.reset).toBe("failed: EIO: no reset today, VFIO_DEVICE_RESET 'model0'");
    expect(steps.close).toBe('0 users left');
  });

  it('notices vectors that do not signal, and tries the next index', async () => {
    class Silent extends ModelDevice {
      override init(): void {
        super.init();
        this.irqs.raise = () => {};
      }
    }
    const steps = await said({ Model: Silent });
    expect(steps['irq 0']).toBe('failed: EIO: vector 0 did not signal, VFIO_DEVICE_SET_IRQS');
    expect(steps['irq 1']).toBe('failed: EIO: vector 0 did not signal, VFIO_DEVICE_SET_IRQS');
  });

  it('notices that there are fewer vectors than the device says', async () => {
    expect((await said({ vectors: 3 }))['irq 1']).toBe('failed: ENOSPC: 3 vectors of 4, VFIO_DEVICE_SET_IRQS');
  });

  it('says what a device does not support', async () => {
    class Plain extends ModelDevice {
      override async ioctl(...[call]: Parameters<ModelDevice['ioctl']>): Promise<number> {
        if (call.request === 0x3b6f) throw new VfioError('ENOTTY', 'no reset');
        const result = await super.ioctl(call);
        if (call.request === 0x3b6b) call.copyOut(Uint8Array.of(0x82), 4);
        return result;
      }
    }
    const steps = await said({ Model: Plain, migration: 0 });
    expect([steps.info, steps.migration, steps.reset]).toEqual([
      'pci, caps; 4 regions, 3 interrupt indices',
      'not supported',
      'not supported',
    ]);
  });

  it('maps nothing where there is no IOMMU', async () => {
    const noiommu = { name: 'vfio', parameters: { enable_unsafe_noiommu_mode: true } };
    const steps = await said({
      emulated: false,
      withoutIommu: true,
      file: { host: { iommu: 'none' }, vfio: { noiommu: true }, modules: [noiommu] },
    });
    expect([steps.open, steps.dma, steps.close]).toEqual([
      '/dev/vfio/noiommu-0, vfio0',
      'not supported: there is no IOMMU',
      '0 users left',
    ]);
  });

  it('maps where it may', async () => {
    const iommu = { reserved: [{ start: 0, end: 0x2f_ffff, type: 'reserved' as const }] };
    expect((await said({ file: { host: { iommu } } })).dma).toBe('mapped and unmapped 4096 bytes at 0x300000');
  });

  it('says when interrupts can not be asked for', async () => {
    class Broken extends ModelDevice {
      override ioctl(...[call]: Parameters<ModelDevice['ioctl']>): Promise<number> {
        if (call.request === 0x3b6d) throw new VfioError('EIO', 'no answer');
        return super.ioctl(call);
      }
    }
    const steps = await said({ Model: Broken });
    expect(steps.irqs).toBe("failed: EIO: no answer, VFIO_DEVICE_GET_IRQ_INFO 'model0'");
    expect(steps['irq 0']).toBeUndefined();
    expect(steps.close).toBe('0 users left');
  });

  it('ends its process, also when nobody waits for the rest of it', async () => {
    await using machine = await loadModel();
    const before = machine.host.processes.all().length;
    for await (const { name } of machine.exercise('model0')) if (name === 'info') break;
    expect(machine.host.processes.all().length).toBe(before);
    expect((await machine.devices())[0]?.users).toBe(0);
  });

  it('leaves the device as another user finds it', async () => {
    await using machine = await loadModel();
    await stepsOf(machine, 'model0');
    await using device = await machine.client().openDevice('model0');
    expect(await device.migration.state()).toBe('RUNNING');
    expect(await device.hasFeature(Feature.MIGRATION, 'get')).toBe(true);
  });
});
