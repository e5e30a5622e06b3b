import { describe, expect, it } from 'vitest';
import { answers, compare, intersect, memberName, program, snakeCase, structBody, table } from '../compare.mjs';

const source = `
struct vfio_device_info { __u32 argsz; __u32 flags; __u32 num_regions; __u32 num_irqs; };
struct vfio_nested { union { __u32 group_id; __u32 devid; }; struct { int x; } y; __u16 __reserved[3]; };
struct vfio_irq_set { __u32 argsz; __u8 data[]; };
struct vfio_buf { __u32 nr; struct range ranges[] __counted_by(nr); };
`;

const field = (offset, size, kind = 'u32') => ({ kind, offset, size });
const deviceInfo = {
  name: 'vfio_device_info',
  size: 24,
  fields: {
    argsz: field(0, 4),
    flags: field(4, 4),
    numRegions: field(8, 4),
    numIrqs: field(12, 4),
    capOffset: field(16, 4),
    hole: field(20, 4, 'pad'),
  },
};
const irqSet = { name: 'vfio_irq_set', size: 4, fields: { argsz: field(0, 4), data: field(4, 0, 'tail') } };
const newer = { name: 'vfio_newer', size: 4, fields: { argsz: field(0, 4) } };

describe('names', () => {
  it('turns ours into those of C', () => {
    expect(snakeCase('dma32WindowStart')).toBe('dma32_window_start');
    expect(snakeCase('xPos')).toBe('x_pos');
  });

  it('finds a struct with braces inside, and not one whose name begins the same', () => {
    expect(structBody(source, 'vfio_nested')).toContain('__reserved[3]');
    expect(structBody(source, 'vfio_device')).toBeUndefined();
    expect(structBody('struct open { int a;', 'open')).toBeUndefined();
  });

  it('finds members in unions, arrays, flexible ones with an attribute, and with underscores', () => {
    const body = structBody(source, 'vfio_nested');
    expect(memberName(body, 'devid')).toBe('devid');
    expect(memberName(body, 'reserved')).toBe('__reserved');
    expect(memberName(body, 'group')).toBeUndefined();
    expect(memberName(structBody(source, 'vfio_buf'), 'ranges')).toBe('ranges');
  });
});

describe('intersect', () => {
  it('leaves out structs that the header lacks, and the size of those that have grown', () => {
    const known = intersect([deviceInfo, irqSet, newer], source);
    expect(known.map(({ name, size, missing }) => [name, size, missing])).toEqual([
      ['vfio_device_info', undefined, 1],
      ['vfio_irq_set', 4, 0],
    ]);
    expect(known[0]?.members.map(({ cName }) => cName)).toEqual(['argsz', 'flags', 'num_regions', 'num_irqs']);
  });
});

describe('compare', () => {
  const known = intersect([deviceInfo, irqSet], source);
  const output = `sizeof vfio_device_info 16
offsetof vfio_device_info.argsz 0
sizeof vfio_device_info.argsz 4
offsetof vfio_device_info.flags 4
sizeof vfio_device_info.flags 4
offsetof vfio_device_info.num_regions 8
sizeof vfio_device_info.num_regions 4
offsetof vfio_device_info.num_irqs 12
sizeof vfio_device_info.num_irqs 4
sizeof vfio_irq_set 4
offsetof vfio_irq_set.argsz 0
sizeof vfio_irq_set.argsz 4
offsetof vfio_irq_set.data 4
value VFIO_SET_IOMMU 15206
`;

  it('asks for everything it compares', () => {
    const text = program(['linux/vfio.h'], known, ['VFIO_SET_IOMMU', 'VFIO_NEWER']);
    expect(text).toContain('#include <linux/vfio.h>');
    for (const what of answers(output).keys()) expect(text).toContain(`printf("${what} %`);
    expect(text).not.toContain('sizeof vfio_irq_set.data');
    expect(text).toContain('#ifdef VFIO_NEWER');
  });

  it('finds no difference where there is none', () => {
    const rows = compare(known, { VFIO_SET_IOMMU: 15206, VFIO_NEWER: 1 }, answers(output));
    expect(rows.flatMap(({ differences }) => differences)).toEqual([]);
    expect(table(rows)).toContain('same, but for 1 newer than the header');
  });

  it('finds a moved member, another size and another number', () => {
    const said = answers(output);
    said.set('offsetof vfio_device_info.flags', 8);
    said.set('sizeof vfio_irq_set', 8);
    const rows = compare(known, { VFIO_SET_IOMMU: 1 }, said);
    expect(rows.flatMap(({ differences }) => differences)).toEqual([
      'offsetof vfio_device_info.flags is 8, ours 4',
      'sizeof vfio_irq_set is 8, ours 4',
      'VFIO_SET_IOMMU is 15206, ours 1',
    ]);
    expect(table(rows).match(/DIFFERS/g)).toHaveLength(3);
  });
});
