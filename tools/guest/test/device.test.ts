import { describe, expect, it } from 'vitest';
import { deviceArguments, socketDevices, standInDevices } from '../src/device.js';

describe('socketDevices', () => {
  it('knows what the devices of vfio serve are, and gives each a slot', () => {
    expect(socketDevices(['mtty=/run/a.sock', 'mbochs=/run/b.sock'], ['mbochs=vfio screenshot mbochs'])).toEqual([
      { name: 'mtty', kind: 'serial', socket: '/run/a.sock', slot: 0x10, address: '0000:00:10.0' },
      {
        name: 'mbochs',
        kind: 'display',
        socket: '/run/b.sock',
        screenshot: 'vfio screenshot mbochs',
        slot: 0x11,
        address: '0000:00:11.0',
      },
    ]);
  });

  it('takes the kind from the word, and any for a name that says nothing', () => {
    const kinds = socketDevices(['card:serial=/a=b', 'other=/c'], []).map(({ kind, socket }) => [kind, socket]);
    expect(kinds).toEqual([
      ['serial', '/a=b'],
      ['any', '/c'],
    ]);
  });

  it.each(['/run/a.sock', '=x', 'mtty:teapot=/a', 'mtty='])('refuses %s', (word) => {
    expect(() => socketDevices([word], [])).toThrow(TypeError);
  });

  it('refuses a command for pictures that names no device', () => {
    expect(() => socketDevices(['mtty=/a'], ['vfio screenshot'])).toThrow(TypeError);
  });
});

describe('deviceArguments', () => {
  it('attaches a socket as QEMU documents it', () => {
    const [device] = socketDevices(['mtty=/run/a.sock'], []);
    expect(device && deviceArguments(device)).toEqual([
      '-device',
      '{"driver":"vfio-user-pci","id":"mtty","bus":"pcie.0","addr":"10","socket":{"type":"unix","path":"/run/a.sock"}}',
    ]);
  });

  it("makes QEMU's own devices of the same kinds", () => {
    const drivers = standInDevices().map((device) => JSON.parse(deviceArguments(device)[1] ?? '').driver);
    expect(drivers).toEqual(['pci-serial', 'bochs-display', 'edu']);
  });
});
