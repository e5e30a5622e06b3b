import { describe, expect, it } from 'vitest';
import { Undo } from '../src/index.js';

describe('Undo', () => {
  it('takes back in reverse order, and waits for each step', async () => {
    const done: string[] = [];
    {
      await using undo = new Undo();
      undo.add(() => void done.push('first'));
      undo.add(async () => {
        await undefined;
        done.push('second');
      });
      undo.add(() => void done.push('third'));
    }
    expect(done).toEqual(['third', 'second', 'first']);
  });

  it('does nothing when all is kept, except for steps added after', async () => {
    const done: string[] = [];
    {
      await using undo = new Undo();
      undo.add(() => void done.push('before'));
      undo.keep();
      undo.add(() => void done.push('after'));
    }
    expect(done).toEqual(['after']);
  });

  it('goes on past a step that fails, and throws what it threw', async () => {
    const done: string[] = [];
    const undo = new Undo();
    const error = new Error('stuck');
    undo.add(() => void done.push('first'));
    undo.add(() => {
      throw error;
    });
    await expect(undo[Symbol.asyncDispose]()).rejects.toBe(error);
    expect(done).toEqual(['first']);
    await expect(undo[Symbol.asyncDispose]()).resolves.toBeUndefined();
  });

  it('throws all of them when several fail', async () => {
    const undo = new Undo();
    for (const name of ['a', 'b']) undo.add(() => Promise.reject(new Error(name)));
    const thrown = await undo[Symbol.asyncDispose]().catch((error: unknown) => error);
    expect(thrown).toBeInstanceOf(AggregateError);
    expect((thrown as AggregateError).errors.map(String)).toEqual(['Error: b', 'Error: a']);
  });

  it('leaves the error that began it all as it is', async () => {
    const error = new Error('open');
    const open = async () => {
      await using undo = new Undo();
      undo.add(() => {});
      throw error;
    };
    await expect(open()).rejects.toBe(error);
  });
});
