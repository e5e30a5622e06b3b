import { expect, it } from 'vitest';
import { Transcript } from '../src/transcript.js';

it('reads as what was asked and what was said, device by device', () => {
  const transcript = new Transcript('Linux 7.2 in QEMU 11.1');
  transcript.add({
    device: 'mtty',
    what: 'it is listed',
    command: 'lspci',
    output: '00:10.0\n\n\tmore\n',
    missing: [],
  });
  transcript.add({ device: 'mtty', what: 'it binds', command: 'readlink', output: '', missing: ['/serial/'] });
  transcript.add({ device: 'edu', what: 'it is listed', command: 'lspci', output: '00:11.0', missing: [] });
  expect([transcript.steps, transcript.failures.map(({ what }) => what)]).toEqual([3, ['it binds']]);
  expect(`${transcript}`).toBe(`# Linux 7.2 in QEMU 11.1

## mtty

ok: it is listed
$ lspci
  00:10.0

  \tmore

FAILED: it binds
$ readlink
missing: /serial/

## edu

ok: it is listed
$ lspci
  00:11.0
`);
});
