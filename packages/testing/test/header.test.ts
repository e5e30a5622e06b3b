import { describe, expect, it } from 'vitest';
import { modulesNeeded, parseHeader, usesIommufd } from '../src/script/header.js';

describe('parseHeader', () => {
  it('reads family, machine and modules with their parameters', () => {
    const text =
      '# About\n#@ family platform\n#@ machine arm64\n#@ modules vfio:enable_unsafe_noiommu_mode=1 vfio-pci:ids=,disable_vga\n\nnote x\n';
    expect(parseHeader(text)).toEqual({
      family: 'platform',
      machine: 'arm64',
      modules: [
        { name: 'vfio', parameters: { enable_unsafe_noiommu_mode: '1' } },
        { name: 'vfio_pci', parameters: { ids: '', disable_vga: '1' } },
      ],
    });
  });

  it('knows a script that says nothing', () => {
    expect(parseHeader('note x\n')).toEqual({ modules: [] });
  });

  it('does not take a plain comment or a command for a header', () => {
    expect(parseHeader('# machine pci\nnote #@ machine mdev\n')).toEqual({ modules: [] });
  });
});

describe('modulesNeeded', () => {
  it('names each module once, in order, with all of its parameters', () => {
    const header = parseHeader('#@ modules mtty vfio:a=1\n#@ modules vfio:b=2 mtty\n');
    expect(modulesNeeded(header)).toEqual([
      { name: 'mtty', parameters: {} },
      { name: 'vfio', parameters: { a: '1', b: '2' } },
    ]);
  });
});

describe('usesIommufd', () => {
  it('is about the modules line', () => {
    expect(usesIommufd(parseHeader('#@ modules iommufd vfio-pci'))).toBe(true);
    expect(usesIommufd(parseHeader('#@ modules vfio_iommu_type1 vfio-pci'))).toBe(false);
  });
});
