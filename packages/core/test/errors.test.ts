import { SystemError } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { isVfioError, VfioError } from '../src/errors.js';

describe('VfioError', () => {
  const error = new VfioError('EBUSY', 'group has 2 open devices', {
    syscall: 'VFIO_GROUP_UNSET_CONTAINER',
    subject: 'group 26',
  });

  it('has the shape of a system error of Node', () => {
    expect(error).toMatchObject({
      name: 'VfioError',
      code: 'EBUSY',
      errno: -16,
      syscall: 'VFIO_GROUP_UNSET_CONTAINER',
    });
    expect(error.message).toBe("EBUSY: group has 2 open devices, VFIO_GROUP_UNSET_CONTAINER 'group 26'");
  });

  it('is told from other errors, and by its code', () => {
    expect(isVfioError(error)).toBe(true);
    expect(isVfioError(error, 'EBUSY')).toBe(true);
    expect(isVfioError(error, 'EINVAL')).toBe(false);
    expect(isVfioError(new SystemError('EBUSY', 'no VFIO'))).toBe(false);
    expect(isVfioError(new Error('EBUSY'))).toBe(false);
    expect(isVfioError(undefined)).toBe(false);
  });

  it('is told from another copy of the class by its mark', () => {
    const copy = Object.assign(new Error('EPERM: a copy'), {
      code: 'EPERM',
      [Symbol.for('vfio.SystemError')]: true,
      [Symbol.for('vfio.VfioError')]: true,
    });
    expect(isVfioError(copy, 'EPERM')).toBe(true);
  });
});
