// `vfio serve`: devices of a machine that is up are served by its process, those of a file and those that have a word by this
// one, on machines that are up for as long as that takes.

import { resolve } from 'node:path';
import type { SampleMachine } from '@vfio/core';
import { Machine, type MachineFile } from '@vfio/machine';
import { untilAborted } from '../abort.js';
import { listeningText, serveCommand } from '../commands/serve.js';
import { CommandError, Exit, UsageError } from '../errors.js';
import { driversOf, type Io } from '../io.js';
import type { Terminal } from '../output/terminal.js';
import { sampleOf, sampleWords, vfioDevice } from '../samples.js';
import { serveMachine } from '../serve.js';
import { bringUp, findMachine, reportLeaks, type TargetOptions } from '../target.js';
import { DeviceServers } from './device-servers.js';
import { type Door, doorText } from './door.js';

/** A device with its door. */
interface Asked {
  readonly device: string;
  readonly door: Door;
}

/** A command line of `vfio serve`. */
export interface ServeRequest {
  readonly devices: readonly string[];
  /** One for each device. */
  readonly doors: readonly Door[];
  readonly target: TargetOptions;
  readonly spinMs?: number;
}

/** A machine of this process, with what is served of it. */
interface Own {
  readonly machine: Machine;
  readonly asked: readonly Asked[];
}

/**
 * Serves devices until the signal is aborted.
 *
 * @returns the exit code: 0 when it was ended and nothing was left behind
 */
export async function serve(request: ServeRequest, terminal: Terminal, io: Io): Promise<number> {
  const { doors, target } = request;
  const asked = request.devices.map((device, i): Asked => {
    const door = doors[i];
    if (!door) throw new UsageError(`${device} has no socket: give it one with --socket-path or --fd`);
    return { device, door };
  });
  if (doors.length > asked.length) throw new UsageError(`${doors.length} sockets for ${asked.length} devices`);
  if (target.machine !== undefined) {
    if (target.name !== undefined || target.control !== undefined) {
      throw new UsageError('--machine makes a machine of its own: leave out --name and --control, or --machine');
    }
    const machine = await bringUp(target.machine, terminal, io);
    return await serveOwn([{ machine, asked }], request, terminal, io);
  }
  const isRemote = target.name !== undefined || target.control !== undefined;
  const drivers = isRemote ? [] : await driversOf(io);
  const samples = new Map<Asked, SampleMachine>();
  for (const one of asked) {
    const sample = sampleOf(drivers, one.device);
    if (sample) samples.set(one, sample);
  }
  const remote = asked.filter((one) => !samples.has(one));
  if (remote.length > 0 && samples.size > 0) {
    const [word] = [...samples.keys()].map(({ device }) => device);
    const [other] = remote.map(({ device }) => device);
    throw new UsageError(`${word} gets a machine of its own, ${other} is on one that is up: serve them apart`);
  }
  if (remote.length > 0) return await serveRemotely(remote, request, sampleWords(drivers), terminal, io);
  return await serveOwn(await machinesOf(samples, io), request, terminal, io);
}

/** Makes the machines; all or none. */
async function machinesOf(samples: ReadonlyMap<Asked, SampleMachine>, io: Io): Promise<Own[]> {
  const drivers = await driversOf(io);
  const made: Own[] = [];
  try {
    for (const [one, { file }] of samples) {
      const whole: MachineFile = { ...file, version: 1, name: one.device };
      made.push({ machine: await Machine.load(whole, { drivers }), asked: [one] });
    }
    return made;
  } catch (error) {
    for (const { machine } of made) await machine.shutdown();
    throw error;
  }
}

async function serveRemotely(
  asked: readonly Asked[],
  { target, spinMs }: ServeRequest,
  words: readonly string[],
  terminal: Terminal,
  io: Io,
): Promise<number> {
  const devices = asked.map(({ device, door }) => {
    if ('path' in door) return { device, path: resolve(door.path) };
    throw new UsageError(`descriptor ${door.fd} is not open in the process of the machine: give a --socket-path`);
  });
  if (spinMs !== undefined)
    throw new UsageError('--spin is for devices that this process serves, not that of a machine');
  const client = await findMachine({ name: target.name, control: target.control }, io).catch((error: unknown) => {
    if (!(error instanceof CommandError) || words.length === 0) throw error;
    throw new CommandError(`${error.message}; these have machines of their own: ${words.join(', ')}`, { cause: error });
  });
  try {
    const view = serveCommand.invoke([], {}).view(terminal);
    return view.result(await client.call(serveCommand.name, { devices }, view.event, io.signal));
  } finally {
    client.close();
  }
}

/** Serves devices of machines that end with this. */
async function serveOwn(own: readonly Own[], { spinMs }: ServeRequest, terminal: Terminal, io: Io): Promise<number> {
  const failed = new AbortController();
  const signal = AbortSignal.any([io.signal, failed.signal]);
  try {
    const onBug = (error: unknown) => terminal.note(`vfio: ${error instanceof Error ? error.message : String(error)}`);
    await using servers = await DeviceServers.start(onBug, spinMs === undefined ? {} : { spinMs });
    const codes = await Promise.allSettled(
      own.map(async (one) => {
        try {
          return await keepUp(one, servers, { ...io, signal }, terminal);
        } catch (error) {
          failed.abort();
          throw error;
        }
      }),
    );
    const broken = codes.find((code) => code.status === 'rejected');
    if (broken) throw broken.reason;
    return codes.some((code) => code.status === 'fulfilled' && code.value !== Exit.OK) ? Exit.FAILED : Exit.OK;
  } finally {
    for (const { machine } of own) await machine.shutdown();
  }
}

/** Serves what was asked for of one machine, which others can look at meanwhile; returns when it is down. */
async function keepUp({ machine, asked }: Own, servers: DeviceServers, io: Io, terminal: Terminal): Promise<number> {
  const open: { readonly over: Promise<void>; close(): Promise<void> }[] = [];
  const end = async () => {
    for (const one of open) await one.close();
  };
  try {
    for (const { device, door } of asked) {
      const address = await vfioDevice(machine, device, io.signal);
      open.push(servers.open(machine, address, door));
      terminal.note(listeningText({ device: address, machine: machine.name, where: doorText(door) }));
    }
    const gone = new AbortController();
    void Promise.all(open.map(({ over }) => over)).then(() => gone.abort());
    const leaks = await untilDown(machine, { ...io, signal: AbortSignal.any([io.signal, gone.signal]) }, terminal, end);
    return reportLeaks(leaks, machine.name, terminal) ? Exit.FAILED : Exit.OK;
  } finally {
    await end();
  }
}

/** With a control socket if there can be one: a second machine of a name has its process in its name. */
async function untilDown(machine: Machine, io: Io, terminal: Terminal, onStopping: () => Promise<void>) {
  const options = { env: io.env, signal: io.signal, onStopping };
  for (const name of [machine.name, `${machine.name}-${process.pid}`]) {
    let listens = false;
    try {
      const onListening = () => {
        listens = true;
      };
      return (await serveMachine(machine, { ...options, name, onListening })).leaks;
    } catch (error) {
      if (listens || !(error instanceof CommandError)) throw error;
    }
  }
  terminal.note(`vfio: ${machine.name} can not be looked at from elsewhere: there is no room for its control socket`);
  await untilAborted(io.signal);
  await onStopping();
  return await machine.shutdown();
}
