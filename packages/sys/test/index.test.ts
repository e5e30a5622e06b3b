import { expect, it } from 'vitest';
import * as api from '../src/index.js';

it('has these public names', () => {
  expect(Object.keys(api).sort()).toMatchInlineSnapshot(`
    [
      "Epoll",
      "EventCalls",
      "Fcntl",
      "Fd",
      "Linux",
      "MapProt",
      "NOT_NOW",
      "NativeMemory",
      "OpenFlag",
      "PollEvent",
      "Reactor",
      "SCM_MAX_FD",
      "Seal",
      "Shut",
      "Transfer",
      "UnixListener",
      "UnixSocket",
      "accessOf",
      "adoptListener",
      "adoptSocket",
      "connectUnix",
      "dup",
      "eventfd",
      "fstat",
      "isShrinkSealed",
      "listenUnix",
      "memfd",
      "pidfdGetfd",
      "pidfdOpen",
      "socketPair",
    ]
  `);
});
