/**
 * The devices that a guest has: on a socket, or QEMU's own of the same kind. The latter show that the steps are right,
 * and what the guest says of hardware that it knows well.
 */

/** Kinds of devices for which there are steps. */
export const kinds = ['serial', 'display', 'picture', 'edu', 'ioat', 'testdev', 'any'] as const;
export type Kind = (typeof kinds)[number];

/** A device of the guest's. */
export interface Device {
  /** Its name in the transcript; words of the command line. */
  readonly name: string;
  readonly kind: Kind;
  /** Where it is served; undefined for a device of QEMU's own. */
  readonly socket?: string;
  /** A line of the shell that writes its screen to the file named behind it. */
  readonly screenshot?: string;
  /** Its slot on the root bus. */
  readonly slot: number;
  /** Its address in the guest, `0000:00:10.0` for example. */
  readonly address: string;
}

/** What each device that `vfio serve` knows is to a guest. */
const kindOf: Readonly<Record<string, Kind>> = {
  mtty: 'serial',
  mbochs: 'display',
  mdpy: 'picture',
  edu: 'edu',
  ioat: 'ioat',
  testdev: 'testdev',
};

/** The first slot that a q35 leaves to others, with some room. */
const firstSlot = 0x10;

/** QEMU's own devices, and the words that it makes them with. */
const standIns: readonly { kind: Kind; driver: string; properties: Record<string, string | boolean> }[] = [
  { kind: 'serial', driver: 'pci-serial', properties: { chardev: 'wire' } },
  // without the firmware's console the kernel's is the first to draw
  { kind: 'display', driver: 'bochs-display', properties: { id: 'screen', romfile: '' } },
  { kind: 'edu', driver: 'edu', properties: {} },
];

/**
 * The devices on sockets, in the order in which they were named.
 *
 * @param words - `NAME=PATH` or `NAME:KIND=PATH` each
 * @param screenshots - `NAME=COMMAND` each
 * @throws TypeError - a word of another form, or a kind for which there are no steps
 */
export function socketDevices(words: readonly string[], screenshots: readonly string[]): Device[] {
  const commands = new Map(screenshots.map((word) => splitOnce(word)));
  return words.map((word, index) => {
    const parts = /^([^:=]+)(?::([^=]+))?=(.+)$/.exec(word);
    if (!parts) throw new TypeError(`${word} is not NAME=PATH or NAME:KIND=PATH`);
    const [, name = '', wanted, socket = ''] = parts;
    const kind = kinds.find((each) => each === (wanted ?? kindOf[name] ?? 'any'));
    if (!kind) throw new TypeError(`there are no steps for ${wanted}: ${kinds.join(', ')}`);
    const screenshot = commands.get(name);
    return { name, kind, socket, ...(screenshot === undefined ? {} : { screenshot }), ...place(index) };
  });
}

/** QEMU's own devices, one of each kind that it has. */
export function standInDevices(): Device[] {
  return standIns.map(({ kind, driver }, index) => ({ name: driver, kind, ...place(index) }));
}

/**
 * The words that QEMU makes a device with.
 *
 * @param device - on a socket or of QEMU's own
 */
export function deviceArguments({ name, socket, slot }: Device): string[] {
  const addr = slot.toString(16);
  if (socket !== undefined) {
    const json = { driver: 'vfio-user-pci', id: name, bus: 'pcie.0', addr, socket: { type: 'unix', path: socket } };
    return ['-device', JSON.stringify(json)];
  }
  const properties = standIns.find(({ driver }) => driver === name)?.properties;
  return ['-device', JSON.stringify({ driver: name, bus: 'pcie.0', addr, ...properties })];
}

/** The words before and behind the first `=`. */
function splitOnce(word: string): [string, string] {
  const at = word.indexOf('=');
  if (at <= 0) throw new TypeError(`${word} is not NAME=COMMAND`);
  return [word.slice(0, at), word.slice(at + 1)];
}

function place(index: number): { slot: number; address: string } {
  const slot = firstSlot + index;
  return { slot, address: `0000:00:${slot.toString(16)}.0` };
}
