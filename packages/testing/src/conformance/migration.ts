/* Migration: the states and the ways between them, the data files, and the image that they carry. */
import type { Device } from '@vfio/client';
import {
  deviceFeatureMigDataSize,
  deviceFeatureMigration,
  deviceFeatureMigState,
  Feature,
  FeatureFlag,
  MIG_STATE_NR,
  MigrationFlag,
  MigState,
  migGetNextState,
  migStateName,
  precopyInfo,
  Request,
} from '@vfio/core';
import { isSystemError } from '@vfio/host';
import { migrates } from './features.js';
import { ends, keeps, type Outcome, outcomeOf } from './promise.js';
import { resets } from './reset.js';
import type { CaseSpec, Subject } from './subject.js';

const { GET, SET } = FeatureFlag;
const { ERROR, STOP, RUNNING, STOP_COPY, RESUMING, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P } = MigState;
const NO_FD = -1;
/** What stands in the place of a descriptor that the kernel has not written. */
const UNTOUCHED = 0x5555;

/** The arcs on which a data file begins: those that end in the key, by where they start. */
const beginnings: ReadonlyMap<number, readonly number[]> = new Map([
  [STOP_COPY, [STOP]],
  [RESUMING, [STOP]],
  [PRE_COPY, [RUNNING]],
  [PRE_COPY_P2P, [RUNNING_P2P]],
]);

/** What came of MIG_DEVICE_STATE. */
interface StateAnswer {
  readonly outcome: Outcome;
  readonly state: number;
  readonly fd: number;
}

/** A device that migrates, its descriptors closed at the end. */
class Migrating implements AsyncDisposable {
  readonly subject: Subject;
  readonly device: Device;
  /** MigrationFlag bits. */
  readonly flags: number;
  /** A whole image of the device, to leave RESUMING with. */
  readonly image: Uint8Array;
  readonly #files = new Set<number>();

  private constructor(subject: Subject, device: Device, flags: number, image: Uint8Array) {
    this.subject = subject;
    this.device = device;
    this.flags = flags;
    this.image = image;
  }

  /** Opens the device and takes an image of it; it is in RUNNING then. */
  static async open(subject: Subject): Promise<Migrating> {
    const device = await subject.open();
    const bytes = await device.getFeature(Feature.MIGRATION, deviceFeatureMigration.size);
    const flags = Number(deviceFeatureMigration.decode(bytes, subject.order).flags);
    const image = await device.migration.save();
    await device.migration.setState('RUNNING');
    return new Migrating(subject, device, flags, image);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const fd of this.#files) await this.subject.process.close(fd);
    await this.device.close();
  }

  /** Names a state in a message. */
  static nameOf(state: number): string {
    return migStateName(state) ?? String(state);
  }

  /** States that the device has. */
  get states(): number[] {
    const all = [STOP, RUNNING, STOP_COPY, RESUMING, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P];
    return all.filter((state) => this.next(state, state) !== undefined);
  }

  /** The next state on a way, undefined when there is none. */
  next(from: number, to: number): number | undefined {
    try {
      return migGetNextState({ migrationFlags: this.flags, vfio: { host: { log: silent } } }, from, to);
    } catch (error) {
      if (isSystemError(error)) return undefined;
      throw error;
    }
  }

  /** The states on a way, without the first; undefined when the way is refused. */
  way(from: number, to: number): number[] | undefined {
    const states: number[] = [];
    for (let at = from; at !== to; ) {
      const next = this.next(at, to);
      if (next === undefined) return undefined;
      states.push(next);
      at = next;
    }
    return this.next(to, to) === undefined ? undefined : states;
  }

  /** MIG_DEVICE_STATE in either direction. A data file that it began is closed at the end. */
  async ask(flag: number, state = 0): Promise<StateAnswer> {
    const { subject, device } = this;
    const data = deviceFeatureMigState.encode({ deviceState: state, dataFd: UNTOUCHED }, subject.order);
    const bytes = subject.feature(flag | Feature.MIG_DEVICE_STATE, data);
    const outcome = await outcomeOf(() => subject.ioctl(device, Request.DEVICE_FEATURE, bytes));
    const { deviceState, dataFd } = deviceFeatureMigState.decode(bytes.subarray(8), subject.order);
    if (outcome === 0 && flag === SET && subject.process.files.has(dataFd)) this.#files.add(dataFd);
    return { outcome, state: deviceState, fd: dataFd };
  }

  /** Closes a data file. */
  async close(fd: number): Promise<void> {
    this.#files.delete(fd);
    await this.subject.process.close(fd);
  }

  async state(): Promise<number> {
    const { outcome, state } = await this.ask(GET);
    keeps(outcome === 0, 'MIG_DEVICE_STATE can always be read', String(outcome));
    return state;
  }

  /** Goes to a state that the device has, by way of RUNNING; returns the last data file on the way. */
  async go(to: number): Promise<number> {
    const current = await this.state();
    if (current === to) return NO_FD;
    if (this.way(current, to) === undefined) await this.set(RUNNING);
    return await this.set(to);
  }

  /** One request for a state that is reachable. On arrival in RESUMING the image is written, so that it can be left. */
  async set(to: number): Promise<number> {
    const { outcome, fd } = await this.ask(SET, to);
    keeps(outcome === 0, `a device that migrates goes to ${Migrating.nameOf(to)}`, String(outcome));
    if (to === RESUMING && fd >= 0) await this.write(fd, this.image);
    return fd;
  }

  async write(fd: number, bytes: Uint8Array, piece = bytes.length): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const part = bytes.subarray(done, Math.min(done + piece, bytes.length));
      const count = await outcomeOf(() => this.subject.process.write(fd, part));
      const taken = typeof count === 'number' && count > 0;
      keeps(taken, 'the data file of RESUMING takes the image', `${count} after ${done} of ${bytes.length} bytes`);
      done += count;
    }
  }

  /** All that a data file has to read, in pieces. */
  async read(fd: number, piece: number): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    for (;;) {
      const part = new Uint8Array(piece);
      const count = await outcomeOf(() => this.subject.process.read(fd, part));
      keeps(typeof count === 'number', 'the data file of STOP_COPY is read to its end', String(count));
      if (count === 0) return Buffer.concat(parts);
      parts.push(part.subarray(0, count));
    }
  }
}

/** What a walk of the table would warn of is no news here. */
const silent = { warnOn: (condition: boolean) => condition };

/** Tries the way from a state to each other one, and to numbers that are none. */
async function tryAllFrom(on: Migrating, from: number): Promise<void> {
  for (let to = 0; to <= MIG_STATE_NR; to++) {
    await on.go(from);
    const { outcome, fd } = await on.ask(SET, to);
    const names = `${Migrating.nameOf(from)} to ${Migrating.nameOf(to)}`;
    const way = on.way(from, to);
    if (way === undefined) {
      keeps(outcome === 'EINVAL', `${names} is refused: EINVAL`, String(outcome));
      keeps(fd === NO_FD, `${names} is refused, and data_fd is -1`, String(fd));
      continue;
    }
    keeps(
      outcome === 0,
      `${names} goes by way of ${way.map(Migrating.nameOf).join(', ') || 'nothing'}`,
      String(outcome),
    );
    const state = await on.state();
    keeps(state === to, `${names} ends there`, Migrating.nameOf(state));
    const last = way.at(-1);
    const before = way.at(-2) ?? from;
    const begins = last !== undefined && beginnings.get(last)?.includes(before) === true;
    if (begins) keeps(fd >= 0, `${names} begins a data file`, `data_fd ${fd}`);
    else keeps(fd === NO_FD, `${names} begins no data file: data_fd is -1`, `data_fd ${fd}`);
    if (begins && to === RESUMING) await on.write(fd, on.image);
  }
}

/** States. */
const states: readonly CaseSpec[] = [
  {
    name: 'migration: its flags are what they should be',
    when: migrates,
    async run(subject) {
      await using on = await Migrating.open(subject);
      const known = MigrationFlag.STOP_COPY | MigrationFlag.P2P | MigrationFlag.PRE_COPY;
      const valid = (on.flags & MigrationFlag.STOP_COPY) !== 0 && (on.flags & ~known) === 0;
      keeps(valid, 'MIGRATION tells STOP_COPY at least, and nothing unknown', `flags ${on.flags}`);
      const { migration } = subject.options;
      if (typeof migration !== 'number') return;
      keeps(on.flags === migration, `MIGRATION tells flags ${migration}`, String(on.flags));
    },
  },
  {
    name: 'migration: a device that is opened is RUNNING, and reading its state gives no descriptor',
    when: migrates,
    async run(subject) {
      const device = await subject.open();
      const bytes = await device.getFeature(Feature.MIG_DEVICE_STATE, deviceFeatureMigState.size);
      const { deviceState, dataFd } = deviceFeatureMigState.decode(bytes, subject.order);
      await device.close();
      keeps(deviceState === RUNNING, 'a device that was just opened is RUNNING', Migrating.nameOf(deviceState));
      keeps(dataFd === NO_FD, 'GET of MIG_DEVICE_STATE has data_fd -1', String(dataFd));
    },
  },
  {
    name: 'migration: every change of state ends where the table says',
    when: migrates,
    async run(subject) {
      await using on = await Migrating.open(subject);
      for (const from of on.states) await tryAllFrom(on, from);
    },
    timeoutMs: 60_000,
  },
  {
    name: 'migration: a state that is none is EINVAL, and data_fd -1',
    when: migrates,
    async run(subject) {
      await using on = await Migrating.open(subject);
      for (const state of [ERROR, MIG_STATE_NR, 0xffff_ffff]) {
        const { outcome, fd } = await on.ask(SET, state);
        keeps(outcome === 'EINVAL', `state ${state} can not be set: EINVAL`, String(outcome));
        keeps(fd === NO_FD, `data_fd is -1 when state ${state} is refused`, String(fd));
      }
      const state = await on.state();
      keeps(state === RUNNING, 'a refused state leaves the one before', Migrating.nameOf(state));
    },
  },
  {
    name: 'migration: RESET returns to RUNNING, from wherever',
    when: (options) => migrates(options) && options.reset !== false,
    async run(subject) {
      await using on = await Migrating.open(subject);
      if (!(await resets(subject, on.device))) return;
      for (const from of on.states) {
        await on.go(from);
        await ends(() => subject.ioctl(on.device, Request.DEVICE_RESET), 0, `RESET in ${Migrating.nameOf(from)}`);
        const state = await on.state();
        keeps(state === RUNNING, `RESET in ${Migrating.nameOf(from)} returns to RUNNING`, Migrating.nameOf(state));
      }
    },
  },
  {
    name: 'migration: MIG_DATA_SIZE answers in every state',
    when: migrates,
    async run(subject) {
      await using on = await Migrating.open(subject);
      for (const state of on.states) {
        await on.go(state);
        const bytes = subject.feature(GET | Feature.MIG_DATA_SIZE, new Uint8Array(deviceFeatureMigDataSize.size));
        const promised = `MIG_DATA_SIZE in ${Migrating.nameOf(state)}`;
        await ends(() => subject.ioctl(on.device, Request.DEVICE_FEATURE, bytes), 0, promised);
      }
    },
  },
];

/** Data files. */
const files: readonly CaseSpec[] = [
  {
    name: 'migration: data descriptors are close-on-exec',
    when: migrates,
    async run(subject) {
      await using on = await Migrating.open(subject);
      for (const state of on.states.filter((one) => beginnings.has(one))) {
        await on.go(RUNNING);
        const fd = await on.go(state);
        const kept = subject.process.files.isCloexec(fd);
        keeps(kept, `the data descriptor of ${Migrating.nameOf(state)} is close-on-exec`, 'it outlives an exec');
      }
    },
  },
  {
    name: 'migration: what was saved loads, and saves the same',
    when: migrates,
    async run(subject) {
      await using on = await Migrating.open(subject);
      const { image } = on;
      keeps(image.length > 0, 'a saved state has bytes', 'none');
      for (const piece of [image.length, Math.max(1, Math.ceil(image.length / 7))]) {
        await on.go(STOP);
        const resuming = await on.ask(SET, RESUMING);
        keeps(resuming.fd >= 0, 'STOP to RESUMING begins a data file', `data_fd ${resuming.fd}`);
        await on.write(resuming.fd, image, piece);
        const loaded = await on.ask(SET, STOP);
        keeps(loaded.outcome === 0, `an image written ${piece} bytes at a time is taken`, String(loaded.outcome));
        const again = await on.read(await on.set(STOP_COPY), piece);
        const same = Buffer.compare(again, image) === 0;
        keeps(same, 'a state that was loaded saves the same bytes', `${again.length} bytes that differ`);
      }
    },
  },
  {
    name: 'migration: a data file that has ended is ENODEV',
    when: migrates,
    async run(subject) {
      await using on = await Migrating.open(subject);
      const saved = await on.go(STOP_COPY);
      await on.set(STOP);
      const read = () => subject.process.read(saved, new Uint8Array(8));
      await ends(read, 'ENODEV', 'the data file of STOP_COPY, after the device has left it');
      const resumed = await on.set(RESUMING);
      await on.set(STOP);
      const write = () => subject.process.write(resumed, new Uint8Array(1));
      await ends(write, 'any error', 'the data file of RESUMING, after the device has left it');
      const open = await on.set(STOP_COPY);
      await on.device.close();
      await ends(() => subject.process.read(open, new Uint8Array(8)), 'ENODEV', 'a data file, after the last close');
    },
  },
  {
    name: 'migration: a data file can be closed in the middle',
    when: migrates,
    async run(subject) {
      await using on = await Migrating.open(subject);
      for (const state of on.states.filter((one) => beginnings.has(one))) {
        await on.go(RUNNING);
        const { outcome, fd } = await on.ask(SET, state);
        keeps(outcome === 0 && fd >= 0, `${Migrating.nameOf(state)} begins a data file`, `${outcome}, data_fd ${fd}`);
        await on.close(fd);
        const now = await on.state();
        keeps(now === state, 'closing a data file leaves the state as it is', Migrating.nameOf(now));
        // RESUMING can only be left with an image
        if (state === RESUMING) break;
      }
    },
  },
  {
    name: 'migration: no descriptor is given away when it can not be told of',
    when: migrates,
    async run(subject) {
      await using on = await Migrating.open(subject);
      await on.go(STOP);
      const { process } = subject;
      const before = process.files.descriptors().length;
      const data = deviceFeatureMigState.encode({ deviceState: STOP_COPY, dataFd: UNTOUCHED }, subject.order);
      using memory = subject.readOnly(subject.feature(SET | Feature.MIG_DEVICE_STATE, data));
      const unwritable = () => process.ioctl(on.device.fd, Request.DEVICE_FEATURE, memory.address);
      await ends(unwritable, 'EFAULT', 'MIG_DEVICE_STATE whose answer can not be written');
      const after = process.files.descriptors().length;
      keeps(
        after === before,
        'a data file that the caller can not be told of is closed',
        `${after - before} descriptors more`,
      );
    },
  },
  {
    name: 'migration: a full descriptor table is EMFILE',
    when: migrates,
    async run(subject) {
      await using on = await Migrating.open(subject);
      await on.go(STOP);
      const { process } = subject;
      process.setrlimit('nofile', process.files.descriptors().length);
      const { outcome } = await on.ask(SET, STOP_COPY);
      keeps(outcome === 'EMFILE', 'a data file for which there is no descriptor: EMFILE', String(outcome));
    },
  },
  {
    name: 'migration: pre-copy information is given in pre-copy, and checks its struct',
    when: migrates,
    async run(subject) {
      await using on = await Migrating.open(subject);
      const { process, order } = subject;
      const info =
        (fd: number, argsz = precopyInfo.size) =>
        () =>
          process.ioctl(fd, Request.MIG_GET_PRECOPY_INFO, precopyInfo.encode({ argsz }, order));
      const saving = await on.go(STOP_COPY);
      const refusedCodes: readonly Outcome[] =
        (on.flags & MigrationFlag.PRE_COPY) === 0 ? ['EINVAL', 'ENOTTY'] : ['EINVAL'];
      await ends(info(saving), refusedCodes, 'MIG_GET_PRECOPY_INFO in STOP_COPY');
      if ((on.flags & MigrationFlag.PRE_COPY) === 0) return;
      await on.go(RUNNING);
      const copying = await on.go(PRE_COPY);
      await ends(info(copying), 0, 'MIG_GET_PRECOPY_INFO in PRE_COPY');
      await ends(info(copying, precopyInfo.size - 1), 'EINVAL', 'MIG_GET_PRECOPY_INFO with argsz 23');
      await ends(
        () => process.ioctl(copying, Request.MIG_GET_PRECOPY_INFO, 0n),
        'EFAULT',
        'MIG_GET_PRECOPY_INFO of a null pointer',
      );
      await ends(() => process.ioctl(copying, Request.DEVICE_GET_INFO, 0n), 'ENOTTY', 'GET_INFO on a data file');
      await on.go(RUNNING);
      await ends(info(copying), 'any error', 'MIG_GET_PRECOPY_INFO on a data file that has ended');
    },
  },
];

/** Migration. */
export const migrationCases: readonly CaseSpec[] = [...states, ...files];
