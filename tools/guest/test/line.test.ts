import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Line, TimedOut } from '../src/line.js';

let dir: string;
let server: Server;
let line: Line;
let peer: Socket;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'vfio-guest-test-'));
  const path = join(dir, 'socket');
  server = createServer();
  const connected = new Promise<Socket>((resolve) => server.once('connection', resolve));
  server.listen(path);
  line = await Line.open(path);
  peer = await connected;
});

afterEach(async () => {
  line[Symbol.dispose]();
  peer.destroy();
  server.close();
  await rm(dir, { recursive: true });
});

describe('Line', () => {
  it('gives what came before a match, and keeps what came behind it', async () => {
    peer.write('one\n\x1e1 0\ntwo\n');
    peer.write('\x1e2 3\n');
    const pattern = new RegExp(`${String.fromCharCode(0o36)}(\\d+) (\\d+)\\n`);
    expect((await line.until(pattern, 5_000)).before).toBe('one\n');
    const second = await line.until(pattern, 5_000);
    expect([second.before, second.match[1], second.match[2]]).toEqual(['two\n', '2', '3']);
  });

  it('says what came instead', async () => {
    peer.end('something else');
    await expect(line.until(/never/, 5_000)).rejects.toThrow(TimedOut);
    await expect(line.until(/never/, 5_000)).rejects.toThrow(/the other end is gone.*something else/);
  });

  it('does not wait for longer than it was told', async () => {
    await expect(line.until(/never/, 1)).rejects.toThrow(TimedOut);
  });
});
