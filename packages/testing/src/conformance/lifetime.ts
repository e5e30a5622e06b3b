/* Open and close: who counts as a user, for how long, and what is left when an open fails. */
import type { Device } from '@vfio/client';
import { deviceInfo, Request } from '@vfio/core';
import type { Process } from '@vfio/host';
import { Baseline, describeLeaks } from '../baseline.js';
import { type FaultContext, FaultRunError, forEachFault } from '../faults.js';
import { migrates } from './features.js';
import type { DriverConformance } from './options.js';
import { ConformanceError, ends, keeps } from './promise.js';
import { type CaseSpec, INFO_MINIMUM, Subject } from './subject.js';
import { prepare } from './target.js';

const ROUNDS = 10;
/** Event loop turns in which an unregister that does not wait would be through. */
const TURNS = 20;

/** Insists on a number of open files. */
export function expectUsers(subject: Subject, expected: number, when: string): void {
  const { openCount } = subject;
  keeps(openCount === expected, `${when}, ${expected} files of the device are open`, String(openCount));
}

/** Asks something that any open device answers. */
function alive(process: Process, fd: number): () => Promise<number> {
  const info = deviceInfo.encode({ argsz: INFO_MINIMUM }, process.byteOrder);
  return () => process.ioctl(fd, Request.DEVICE_GET_INFO, info);
}

/** Closes what was opened to reach a device, and leaves the device itself open. */
async function closeAllBut(device: Device): Promise<void> {
  await device.group.close();
  await device.container.close();
}

const users: readonly CaseSpec[] = [
  {
    name: 'lifetime: opens and closes balance',
    async run(subject) {
      const before = new Baseline(subject.host);
      for (let round = 1; round <= ROUNDS; round++) {
        const device = await subject.open();
        expectUsers(subject, 1, `in round ${round}, after the open`);
        await device.close();
        expectUsers(subject, 0, `in round ${round}, after the close`);
        await before.settle();
        const left = before.newLeaks();
        keeps(left.length === 0, `round ${round} of open and close leaves nothing behind`, describeLeaks(left));
      }
    },
  },
  {
    name: 'lifetime: a second descriptor is a second user',
    async run(subject) {
      const first = await subject.open();
      const second = await first.group.getDevice(first.name);
      expectUsers(subject, 2, 'after GET_DEVICE_FD was called twice');
      await subject.process.close(first.fd);
      expectUsers(subject, 1, 'after one of two descriptors was closed');
      await ends(alive(subject.process, second.fd), 0, 'GET_INFO on the other descriptor');
      await second.close();
      expectUsers(subject, 0, 'after both descriptors were closed');
      await closeAllBut(first);
    },
  },
  {
    name: 'lifetime: the device stays open when group and container are closed before it',
    async run(subject) {
      const device = await subject.open();
      await closeAllBut(device);
      expectUsers(subject, 1, 'after group and container were closed');
      await ends(alive(subject.process, device.fd), 0, 'GET_INFO after group and container were closed');
      await device.close();
      expectUsers(subject, 0, 'after the device was closed too');
    },
  },
  {
    name: 'lifetime: a child inherits the device and holds it open',
    async run(subject) {
      const device = await subject.open();
      const child = subject.process.fork('child');
      await device.close();
      expectUsers(subject, 1, 'after the parent closed what its child has too');
      await ends(alive(child, device.fd), 0, 'GET_INFO of the child');
      await child.exit(0);
      expectUsers(subject, 0, 'after the child ended');
    },
  },
  {
    name: 'lifetime: the descriptor does not outlive an exec',
    async run(subject) {
      await subject.open();
      await subject.process.execClose();
      expectUsers(subject, 0, 'after an exec');
    },
  },
  {
    name: 'lifetime: a process that is killed gives everything back',
    async run(subject) {
      const before = new Baseline(subject.host);
      const process = subject.host.spawn({ comm: 'victim' });
      const victim = new Subject(subject.options, subject.target, process);
      const device = await victim.open();
      for (const irq of (await device.irqs()).filter(({ eventfd, count }) => eventfd && count > 0).slice(0, 1)) {
        await irq.setEventfds([device.transport.eventfd()]);
      }
      await process.kill();
      expectUsers(subject, 0, 'after the process was killed');
      await before.settle();
      const left = before.newLeaks();
      keeps(left.length === 0, 'a process that is killed leaves nothing behind', describeLeaks(left));
    },
  },
  {
    name: 'lifetime: a name that is not quite right is ENODEV',
    async run(subject) {
      await using device = await subject.open();
      const { address } = subject.target;
      for (const name of [`${address}x`, address.slice(0, -1), '']) {
        const promised = `GET_DEVICE_FD of '${name}', for a device named '${address}'`;
        await ends(() => device.group.getDevice(name).then(({ fd }) => fd), 'ENODEV', promised);
      }
      expectUsers(subject, 1, 'after names that are not quite right');
    },
  },
];

const departures: readonly CaseSpec[] = [
  {
    name: 'lifetime: the device goes when its last user has closed it, and not before',
    async run(subject) {
      const device = await subject.open();
      await closesBeforeUnbind(subject, async () => {
        await ends(alive(subject.process, device.fd), 0, 'GET_INFO while the driver waits to leave');
        const again = () => device.group.getDevice(device.name).then(({ fd }) => fd);
        await ends(again, 'ENODEV', 'GET_DEVICE_FD while the driver waits to leave');
        await device.close();
      });
    },
  },
  {
    name: 'lifetime: a failure at any step of an open leaves nothing behind',
    timeoutMs: 120_000,
    run: ({ options }) =>
      failEverywhere(options, async (subject) => {
        await using device = await subject.open();
        await device.regions();
        await device.irqs();
      }),
  },
  {
    name: 'lifetime: a failure at any step of connecting interrupts leaves nothing behind',
    when: ({ irqs }) => irqs > 0,
    timeoutMs: 120_000,
    run: ({ options }) =>
      failEverywhere(options, async (subject) => {
        await using device = await subject.open();
        const irq = (await device.irqs()).find(({ eventfd, count }) => eventfd && count > 0);
        if (!irq) return;
        const { transport } = device;
        const eventfd = transport.eventfd();
        try {
          await irq.setEventfds([eventfd]);
        } finally {
          await transport.close(eventfd);
        }
      }),
  },
  {
    name: 'lifetime: a failure at any step of a migration leaves nothing behind',
    when: migrates,
    timeoutMs: 120_000,
    run: ({ options }) =>
      failEverywhere(options, async (subject) => {
        await using device = await subject.open();
        await device.migration.load(await device.migration.save());
        await device.migration.setState('RUNNING');
      }),
  },
];

/** Runs something once for each step of it that can fail, on a target of its own. */
export async function failEverywhere(
  options: DriverConformance,
  use: (subject: Subject) => Promise<void>,
): Promise<void> {
  try {
    const { steps } = await forEachFault<FaultContext & { readonly subject: Subject }>({
      timeoutMs: 60_000,
      async prepare() {
        const { subject, dispose } = await prepare(options);
        return { host: subject.host, subject, [Symbol.asyncDispose]: dispose };
      },
      scenario: ({ subject }) => use(subject),
      check: ({ subject }, failed) => expectUsers(subject, 0, `after ${failed?.name ?? 'no step'} failed`),
    });
    keeps(steps.length > 0, 'it takes steps that can fail', 'none');
  } catch (error) {
    if (!(error instanceof FaultRunError) && !(error instanceof AggregateError)) throw error;
    throw new ConformanceError(`A step that fails is undone. Found: ${error.message}`, { cause: error });
  }
}

/**
 * Takes the device from its driver while it is open.
 *
 * @param close - closes it; given a function that tells whether the device is gone
 */
export async function closesBeforeUnbind(
  subject: Subject,
  close: (gone: () => Promise<boolean>) => Promise<void>,
): Promise<void> {
  let over = false;
  const unbound = subject.target.unbind().then(() => {
    over = true;
  });
  // whatever becomes of it is looked at below
  unbound.catch(() => {});
  const gone = async () => {
    for (let turn = 0; turn < TURNS; turn++) await nextTurn();
    return over;
  };
  keeps(!(await gone()), 'the driver can not leave a device that is open', 'it is gone');
  await close(gone);
  await unbound;
  keeps(subject.registered === undefined, 'a device that was unbound is not registered', 'it still is');
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** Open and close. */
export const lifetimeCases: readonly CaseSpec[] = [...users, ...departures];
