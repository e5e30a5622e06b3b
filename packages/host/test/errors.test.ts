import { existsSync, openSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { isKernelBug, isSystemError, KernelBug, SystemError } from '../src/index.js';

describe('SystemError', () => {
  it('says what, in which call, on what', () => {
    const error = new SystemError('EBUSY', 'group has 2 open devices', {
      syscall: 'VFIO_GROUP_UNSET_CONTAINER',
      subject: 'group 26',
    });
    expect(error.message).toBe("EBUSY: group has 2 open devices, VFIO_GROUP_UNSET_CONTAINER 'group 26'");
    expect(error).toMatchObject({
      code: 'EBUSY',
      errno: -16,
      syscall: 'VFIO_GROUP_UNSET_CONTAINER',
      subject: 'group 26',
    });
    expect(error.stack).toContain('SystemError: EBUSY: group has 2 open devices');
  });

  it('has the shape of the errors of Node', () => {
    const path = '/nonexistent-file';
    expect(existsSync(path)).toBe(false);
    let nodes: unknown;
    try {
      openSync(path, 'r');
    } catch (error) {
      nodes = error;
    }
    const ours = new SystemError('ENOENT', 'no such file or directory', { syscall: 'open', subject: path });
    expect(nodes).toMatchObject({ message: ours.message, code: ours.code, errno: ours.errno, syscall: ours.syscall });
  });

  it('leaves out what is not known', () => {
    const error = new SystemError('EINVAL', 'argsz 4 is below 24');
    expect(error.message).toBe('EINVAL: argsz 4 is below 24');
    expect('syscall' in error).toBe(false);
    expect('cause' in error).toBe(false);
    expect(new SystemError('EIO', 'x', { subject: 'y' }).message).toBe("EIO: x, 'y'");
  });

  it('keeps its cause', () => {
    const cause = new Error('below');
    expect(new SystemError('EIO', 'x', { cause }).cause).toBe(cause);
  });

  it('replaces an alias', () => {
    expect(new SystemError('EWOULDBLOCK', 'x')).toMatchObject({ code: 'EAGAIN', errno: -11, message: 'EAGAIN: x' });
  });

  it('learns its call once', () => {
    const error = new SystemError('EFAULT', 'no mapping at 0x1000', { subject: '0x1000' });
    expect(error.inSyscall('ioctl', '3')).toBe(error);
    expect(error.inSyscall('read', '4').message).toBe("EFAULT: no mapping at 0x1000, ioctl '0x1000'");
    expect(new SystemError('EIO', 'x').inSyscall('read', '4')).toMatchObject({ syscall: 'read', subject: '4' });
  });
});

describe('isSystemError', () => {
  it('looks at the code when asked to', () => {
    const error = new SystemError('EAGAIN', 'x');
    expect(isSystemError(error)).toBe(true);
    expect(isSystemError(error, 'EWOULDBLOCK')).toBe(true);
    expect(isSystemError(error, 'EIO')).toBe(false);
  });

  it('knows an error of another copy of the package by its mark', () => {
    const other = Object.assign(new Error('EIO: x'), { code: 'EIO', [Symbol.for('vfio.SystemError')]: true });
    expect(isSystemError(other, 'EIO')).toBe(true);
  });

  it('does not know anything else', () => {
    const look = Object.assign(new Error('EIO: x'), { code: 'EIO' });
    for (const thing of [look, new KernelBug('driver', 'x'), 'EIO', null, undefined, { code: 'EIO' }]) {
      expect(isSystemError(thing)).toBe(false);
    }
  });
});

describe('KernelBug', () => {
  it('has a kind and an origin, and no errno', () => {
    const bug = new KernelBug('refcount', 'group 3', { origin: 'at here' });
    expect(bug).toMatchObject({ kind: 'refcount', message: 'refcount: group 3', origin: 'at here' });
    expect('code' in bug).toBe(false);
    expect(isKernelBug(bug, 'refcount')).toBe(true);
    expect(isKernelBug(bug, 'lock')).toBe(false);
    expect(isKernelBug(new SystemError('EIO', 'x'))).toBe(false);
  });
});
