import { SystemError } from '@vfio/host';
import { MachineFileError } from '@vfio/machine';
import { describe, expect, it } from 'vitest';
import { CommandError, explain, failureOf, InterruptedError, UsageError } from '../src/errors.js';

describe('failureOf', () => {
  it.each([
    [new CommandError('no'), 'no', 1],
    [new UsageError('what?'), 'what?', 2],
    [new InterruptedError(), 'interrupted', 130],
    [new SystemError('EBUSY', 'in use', { syscall: 'open' }), 'EBUSY: in use, open', 1],
    [new MachineFileError('lab.yaml', 'modules', 'is 1', { line: 2, column: 3 }), 'lab.yaml:2:3: modules: is 1', 1],
    [Object.assign(new Error('ENOENT: no such file'), { code: 'ENOENT', syscall: 'open' }), 'ENOENT: no such file', 1],
    ['thrown', 'thrown', 1],
  ])('says of a mistake in one line what it is: %s', (error, message, exitCode) => {
    expect(failureOf(error)).toMatchObject({ message, exitCode });
  });

  it('says of a bug that it is one', () => {
    expect(failureOf(new TypeError('x is not a function'))).toMatchObject({
      message: 'TypeError: x is not a function (this is a bug: VFIO_DEBUG=1 shows where)',
      exitCode: 1,
    });
  });
});

describe('explain', () => {
  it('shows where an error came from, with its causes, only when asked', () => {
    const failure = failureOf(new CommandError('outer', { cause: new Error('inner') }));
    expect(explain(failure, false)).toBe('vfio: outer');
    expect(explain(failure, true)).toMatch(/^vfio: outer\n.*errors\.test.*caused by Error: inner\n/s);
  });
});
