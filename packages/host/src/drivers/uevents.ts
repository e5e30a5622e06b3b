/*
 * What the kernel tells user space about its objects: one message for each that comes, goes, changes, or gets or loses
 * its driver. Here they are kept for whoever wants to look, and handed to whoever listens.
 */
import { SystemError } from '../errors.js';
import type { Seams } from '../seams.js';

/** What happened to an object. */
export const ueventActions = ['add', 'remove', 'change', 'move', 'online', 'offline', 'bind', 'unbind'] as const;

/** One of {@link ueventActions}. */
export type UeventAction = (typeof ueventActions)[number];

/** A message. */
export interface Uevent {
  readonly action: UeventAction;
  /** The object's directory, without `/sys`. */
  readonly devpath: string;
  /** Its bus or class; for other objects the collection they are in (`module`, `drivers`). */
  readonly subsystem: string;
  /** All variables, in the order of the message: ACTION, DEVPATH, SUBSYSTEM first, SEQNUM last. */
  readonly env: Readonly<Record<string, string>>;
  /** Counts from 1. */
  readonly seqnum: number;
}

/** Messages that are kept. */
const CAPACITY = 256;
/** Variables in a message, and bytes of their texts with the NULs. Source: include/linux/kobject.h */
const MAX_VARIABLES = 64;
const MAX_BYTES = 2048;

/** The variables of a message that is being written. */
export class UeventEnv {
  readonly #variables: [string, string][] = [];
  readonly #seams: Seams;
  #bytes = 0;

  constructor(seams: Seams) {
    this.#seams = seams;
  }

  /**
   * Adds a variable.
   *
   * @throws ENOMEM - too many of them, or too long
   * @source lib/kobject_uevent.c add_uevent_var()
   */
  addUeventVar(key: string, value: string | number): void {
    const text = String(value);
    this.#bytes += key.length + text.length + 2;
    const full = this.#variables.length >= MAX_VARIABLES || this.#bytes > MAX_BYTES;
    if (full && this.#seams.log.warnOn(full, 'add_uevent_var: buffer size too small')) {
      throw new SystemError('ENOMEM', `no room for ${key}=${text}`);
    }
    this.#variables.push([key, text]);
  }

  /** The variables so far. */
  get variables(): readonly (readonly [string, string])[] {
    return this.#variables;
  }
}

/** The uevents of a host. */
export class Uevents {
  readonly #seams: Seams;
  readonly #subscribers = new Set<(event: Uevent) => void>();
  #emitted: Uevent[] = [];
  #seqnum = 0;

  constructor(seams: Seams) {
    this.#seams = seams;
  }

  /** The last messages, oldest first: 256 at most; who wants all subscribes. */
  get emitted(): readonly Uevent[] {
    return this.#emitted.slice(-CAPACITY);
  }

  /** Number of the last message, as /sys/kernel/uevent_seqnum has it. */
  get seqnum(): number {
    return this.#seqnum;
  }

  /** Calls `fn` with every message from now on, until disposed of. */
  subscribe(fn: (event: Uevent) => void): Disposable {
    const subscriber = (event: Uevent) => fn(event);
    this.#subscribers.add(subscriber);
    return {
      [Symbol.dispose]: () => {
        this.#subscribers.delete(subscriber);
      },
    };
  }

  /**
   * Sends a message.
   *
   * @param fill - adds the variables between the first three and SEQNUM
   * @throws ENOMEM - the variables do not fit
   * @source lib/kobject_uevent.c kobject_uevent_env()
   */
  emit(
    action: UeventAction,
    object: { readonly devpath: string; readonly subsystem: string },
    fill: (env: UeventEnv) => void = () => {},
  ): void {
    const { devpath, subsystem } = object;
    const env = new UeventEnv(this.#seams);
    env.addUeventVar('ACTION', action);
    env.addUeventVar('DEVPATH', devpath);
    env.addUeventVar('SUBSYSTEM', subsystem);
    fill(env);
    const seqnum = ++this.#seqnum;
    env.addUeventVar('SEQNUM', seqnum);
    const told: Record<string, string> = {};
    for (const [key, value] of env.variables) {
      // A driver leaves: who listens must not load it again because of its device's modalias.
      if (action !== 'unbind' || key !== 'MODALIAS') told[key] = value;
    }
    const event = { action, devpath, subsystem, env: told, seqnum };
    this.#emitted.push(event);
    if (this.#emitted.length >= 2 * CAPACITY) this.#emitted = this.#emitted.slice(-CAPACITY);
    if (this.#subscribers.size > 0) for (const subscriber of [...this.#subscribers]) subscriber(event);
  }
}
