import { constants } from 'node:os';
import { describe, expect, it } from 'vitest';
import { canonicalErrno, Errno, errnoName, isErrnoCode } from '../src/index.js';

describe('Errno', () => {
  it.runIf(process.platform === 'linux')('agrees with the system it runs on', () => {
    for (const [code, value] of Object.entries(constants.errno))
      expect([code, Errno[code as 'EIO']]).toEqual([code, value]);
  });

  it('has the numbers that Node lacks', () => {
    expect(Errno).toMatchObject({ EUSERS: 87, EBADFD: 77, EHWPOISON: 133 });
  });

  it('has the numbers that stay inside the kernel', () => {
    expect(Errno).toMatchObject({ ENOTSUPP: 524, EPROBE_DEFER: 517, ENOIOCTLCMD: 515, ERESTARTSYS: 512 });
  });

  it('has every number from 1 to 133 but the two that Linux leaves out', () => {
    const missing = Array.from({ length: 133 }, (_, i) => i + 1).filter((n) => errnoName(n) === undefined);
    expect(missing).toEqual([41, 58]);
  });
});

describe('errnoName', () => {
  it('knows a number of either sign', () => {
    expect(errnoName(16)).toBe('EBUSY');
    expect(errnoName(-16)).toBe('EBUSY');
  });

  it('answers with the usual name where there are two', () => {
    expect([11, 35, 95].map(errnoName)).toEqual(['EAGAIN', 'EDEADLK', 'EOPNOTSUPP']);
  });

  it('is undefined for what is no error', () => {
    expect([0, 41, 58, 134, 1.5].map(errnoName)).toEqual([undefined, undefined, undefined, undefined, undefined]);
  });

  it('is the other way of the table', () => {
    for (const code of Object.keys(Errno).filter(isErrnoCode))
      expect(errnoName(Errno[code])).toBe(canonicalErrno(code));
  });
});

describe('isErrnoCode', () => {
  it('knows names, and nothing that objects inherit', () => {
    expect(['EIO', 'EWOULDBLOCK', 'EFOO', 'toString', ''].map(isErrnoCode)).toEqual([true, true, false, false, false]);
  });
});
