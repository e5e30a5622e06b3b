import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createSeams, type Held, RwLock } from '../src/index.js';

const setUp = (checked = true) => new RwLock(createSeams({ checked }), 'memory_lock');

/** Long enough for any lock that can be granted to be granted. */
async function settle(): Promise<void> {
  for (let i = 0; i < 8; i++) await undefined;
}

describe('RwLock', () => {
  it('is shared by readers and not by writers', async () => {
    const lock = setUp();
    const readers = [await lock.read(), await lock.read()];
    expect([lock.readers, lock.writing]).toEqual([2, false]);
    expect(lock.tryWrite()).toBeUndefined();
    for (const held of readers) held.release();
    const writer = await lock.write();
    expect([lock.tryRead(), lock.tryWrite()]).toEqual([undefined, undefined]);
    writer.release();
    expect(lock.locked).toBe(false);
  });

  it('does not let readers pass a writer that waits', async () => {
    const lock = setUp();
    const order: string[] = [];
    const enter = async (name: string, granted: Promise<Held>) => {
      const held = await granted;
      order.push(name);
      return held;
    };
    const reader = await lock.read();
    const writer = enter('writer', lock.write());
    const late = enter('late reader', lock.read());
    await settle();
    expect(lock.tryRead()).toBeUndefined();
    expect(order).toEqual([]);
    reader.release();
    (await writer).release();
    (await late).release();
    expect(order).toEqual(['writer', 'late reader']);
  });

  it('lets readers in when the writer before them gives up', async () => {
    const lock = setUp();
    const abort = new AbortController();
    const reader = await lock.read();
    const writer = lock.write({ signal: abort.signal });
    const late = lock.read();
    await settle();
    abort.abort();
    await expect(writer).rejects.toThrow(expect.objectContaining({ code: 'EINTR' }));
    (await late).release();
    reader.release();
  });

  it('agrees with a plain line of readers and writers under random commands', async () => {
    const commands = fc.array(fc.tuple(fc.constantFrom('read', 'write', 'release', 'abort'), fc.nat(5)), {
      maxLength: 40,
    });
    await fc.assert(
      fc.asyncProperty(commands, async (list) => {
        const lock = setUp(false);
        const line: { id: number; mode: string; abort: AbortController }[] = [];
        const inside = new Map<number, string>();
        const real = new Map<number, Held>();
        const admit = () => {
          for (let first = line[0]; first; first = line[0]) {
            const modes = [...inside.values()];
            if (modes.includes('write') || (first.mode === 'write' && modes.length > 0)) break;
            inside.set(first.id, first.mode);
            line.shift();
          }
        };
        for (const [id, [command, pick]] of list.entries()) {
          if (command === 'release') {
            const chosen = [...inside.keys()][pick % Math.max(inside.size, 1)];
            if (chosen === undefined) continue;
            real.get(chosen)!.release();
            real.delete(chosen);
            inside.delete(chosen);
          } else if (command === 'abort') {
            line.splice(pick % Math.max(line.length, 1), 1)[0]?.abort.abort();
          } else {
            const abort = new AbortController();
            const options = { signal: abort.signal };
            (command === 'read' ? lock.read(options) : lock.write(options)).then(
              (held) => real.set(id, held),
              () => {},
            );
            line.push({ id, mode: command, abort });
          }
          admit();
          await settle();
          expect([...real.keys()].sort()).toEqual([...inside.keys()].sort());
          expect(lock.readers).toBe([...inside.values()].filter((mode) => mode === 'read').length);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('can be asserted, for reading and for writing', async () => {
    const lock = setUp();
    expect(() => lock.assertHeld()).toThrow(expect.objectContaining({ kind: 'lock' }));
    {
      using _held = await lock.read();
      lock.assertHeld();
      expect(() => lock.assertHeldWrite()).toThrow("'memory_lock' is not held for writing");
    }
    using _held = await lock.write();
    lock.assertHeld();
    lock.assertHeldWrite();
  });
});
