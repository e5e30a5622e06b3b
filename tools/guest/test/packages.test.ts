import { describe, expect, it } from 'vitest';
import { mirrorOf } from '../src/apt.js';
import { neededBy } from '../src/initramfs.js';
import { isEnough } from '../src/system.js';

describe('mirrorOf', () => {
  it("is where the system's apt has its Debian from", () => {
    const listing = [
      'https://packages.example/node/|Node|Node',
      'https://mirror.example/debian-security/|Debian|Debian-Security',
      'https://mirror.example/debian/|Debian|Debian',
    ].join('\n');
    expect(mirrorOf(listing)).toBe('https://mirror.example/debian');
  });

  it("is Debian's own for another system", () => {
    expect(mirrorOf('https://mirror.example/ubuntu/|Ubuntu|Ubuntu\n')).toBe('http://deb.debian.org/debian');
    expect(mirrorOf('')).toBe('http://deb.debian.org/debian');
  });
});

describe('isEnough', () => {
  it.each(['1:10.1.0+ds-1', '10.2.0', '1:11.0.0~rc2+ds-1'])('takes %s', (version) => {
    expect(isEnough(version)).toBe(true);
  });

  it.each([undefined, '', '1:7.2+dfsg-7+deb12u18', '1:10.0.9+ds-1', '(none)'])('does not take %s', (version) => {
    expect(isEnough(version)).toBe(false);
  });
});

describe('neededBy', () => {
  const section = (text: string) => Buffer.from(`\x7fELF ... license=GPL\0${text}\0name=some\0`, 'latin1');

  it('reads the list in the module', () => {
    expect(neededBy(section('depends=drm,drm_kms_helper'))).toEqual(['drm', 'drm_kms_helper']);
  });

  it('is empty for a module that needs none, and for one that does not say', () => {
    expect(neededBy(section('depends='))).toEqual([]);
    expect(neededBy(section('alias=pci:some'))).toEqual([]);
  });
});
