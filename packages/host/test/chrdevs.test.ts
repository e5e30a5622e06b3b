import { describe, expect, it } from 'vitest';
import { CharDevices, createSeams } from '../src/index.js';
import { createLab, errno, TestFile } from './process-lab.js';

function setUp() {
  const seams = createSeams({ checked: true });
  return { seams, chrdevs: new CharDevices(seams) };
}

describe('CharDevices.registerMajor', () => {
  it('gives dynamic majors downwards, first below 245, then below 512', () => {
    const { chrdevs } = setUp();
    const given = Array.from({ length: 13 }, (_, i) => chrdevs.registerMajor(`driver${i}`));
    expect([given[0], given[10], given[11], given[12]]).toEqual([244, 234, 511, 510]);
    chrdevs.unregisterMajor(240);
    expect(chrdevs.registerMajor('again')).toBe(240);
  });

  it('is EBUSY for one that is taken, and when all are', () => {
    const { chrdevs } = setUp();
    expect(chrdevs.registerMajor('ttyMajor', 4)).toBe(4);
    expect(() => chrdevs.registerMajor('other', 4)).toThrow(errno('EBUSY'));
    for (let i = 0; i < 11 + 128; i++) chrdevs.registerMajor('many');
    expect(() => chrdevs.registerMajor('one more')).toThrow(errno('EBUSY'));
  });

  it('is ENOMEM on a fault', () => {
    const { seams, chrdevs } = setUp();
    seams.faults.failOn('__register_chrdev_region:major');
    expect(() => chrdevs.registerMajor('vfio')).toThrow(errno('ENOMEM'));
    expect(chrdevs.registerMajor('vfio')).toBe(244);
  });
});

describe('CharDevices.takeMisc', () => {
  it('gives a certain minor or a dynamic one', () => {
    const { chrdevs } = setUp();
    const vfio = chrdevs.takeMisc('vfio', 196);
    expect(vfio.minor).toBe(196);
    expect(() => chrdevs.takeMisc('other', 196)).toThrow(errno('EBUSY'));
    const first = chrdevs.takeMisc('iommu');
    expect([first.minor, chrdevs.takeMisc('b').minor]).toEqual([256, 257]);
    first.remove();
    vfio.remove();
    expect(chrdevs.takeMisc('c').minor).toBe(256);
    expect(chrdevs.takeMisc('vfio', 196).minor).toBe(196);
  });
});

describe('CharDevices.open', () => {
  it('prefers what was added last', async () => {
    const { init, chrdevs } = createLab();
    const label = async () => (await chrdevs.open(init, { major: 10, minor: 7 }, 0)).label;
    const all = chrdevs.add(10, 0, 256, () => new TestFile({}, { label: 'all' }));
    const one = chrdevs.add(10, 7, 1, () => new TestFile({}, { label: 'one' }));
    expect(await label()).toBe('one');
    one.remove();
    expect(await label()).toBe('all');
    all.remove();
    expect(() => chrdevs.open(init, { major: 10, minor: 7 }, 0)).toThrow(errno('ENXIO'));
  });
});

describe('/proc/devices and /proc/misc', () => {
  it('list what is registered', async () => {
    const { init, chrdevs } = createLab();
    chrdevs.registerMajor('vfio');
    chrdevs.takeMisc('vfio', 196);
    chrdevs.takeMisc('mtty', 7);
    expect(await init.readFile('/proc/devices')).toBe(
      'Character devices:\n  1 mem\n 10 misc\n244 vfio\n\nBlock devices:\n',
    );
    expect(await init.readFile('/proc/misc')).toBe('  7 mtty\n196 vfio\n');
  });
});
