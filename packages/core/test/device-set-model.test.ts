// Device sets under any sequence of calls, beside a model that is a list of members for each key.

import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  allocDevice,
  assignDeviceSet,
  type DeviceSet,
  putDevice,
  registerGroupDev,
  type SetId,
  unregisterGroupDev,
  VfioDevice,
  VfioError,
} from '../src/index.js';
import { bench, closePath, type OpenPath, openPath, type TestBench } from './harness.js';

const slots = 5;
const keys: readonly SetId[] = ['bus', 7n, Symbol('slot'), {}];

type Command =
  | { readonly do: 'alloc'; readonly slot: number; readonly key: number | undefined; readonly fails: boolean }
  | { readonly do: 'assign'; readonly slot: number; readonly key: number; readonly memory: boolean }
  | { readonly do: 'register' | 'open' | 'close' | 'release'; readonly slot: number };

const slot = fc.nat(slots - 1);
const key = fc.nat(keys.length - 1);
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('alloc' as const),
      slot,
      key: fc.option(key, { nil: undefined }),
      fails: fc.nat(4).map((n) => n === 0),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('assign' as const), slot, key, memory: fc.nat(4).map((n) => n > 0) }),
  },
  {
    weight: 7,
    arbitrary: fc.record({ do: fc.constantFrom('register', 'open', 'close', 'release'), slot }),
  },
);

/** Joins a set in its init, if it is told to, and may fail after that. */
class Joins extends VfioDevice {
  readonly #key: SetId | undefined;
  readonly #fails: boolean;

  constructor({ key, fails }: { key: SetId | undefined; fails: boolean }) {
    super();
    this.#key = key;
    this.#fails = fails;
  }

  override async init(): Promise<void> {
    if (this.#key !== undefined) await assignDeviceSet(this, this.#key);
    if (this.#fails) throw new VfioError('EIO', 'init was told to fail');
  }
}

/** A device, and what is known of it without asking it. */
interface Member {
  readonly device: Joins;
  key: SetId | undefined;
  registered: boolean;
  readonly paths: OpenPath[];
}

class Player {
  readonly #on: TestBench;
  readonly #members: (Member | undefined)[] = new Array(slots).fill(undefined);
  /** Members of each set, oldest first. */
  readonly #sets = new Map<SetId, Member[]>();
  /** The object that stands for each set as long as it has members, and those that are gone. */
  readonly #objects = new Map<SetId, DeviceSet>();
  readonly #gone = new Set<DeviceSet>();
  #warnings = 0;

  constructor(on: TestBench) {
    this.#on = on;
  }

  async play(action: Command): Promise<void> {
    const member = this.#members[action.slot];
    switch (action.do) {
      case 'alloc':
        if (!member)
          await this.#alloc(action.slot, action.key === undefined ? undefined : keys[action.key], action.fails);
        return;
      case 'assign':
        if (member) await this.#assign(member, keys[action.key]!, action.memory);
        return;
      case 'register':
        if (!member || member.registered) return;
        await registerGroupDev(member.device);
        member.registered = true;
        // one without a set gets its own
        if (member.key === undefined) this.#join(member, member.device);
        return;
      case 'open':
        // a group has one file
        if (member?.registered && member.paths.length === 0) member.paths.push(await openPath(this.#on, member.device));
        return;
      case 'close':
        for (const path of member?.paths.splice(0) ?? []) await closePath(this.#on, path);
        return;
      case 'release':
        if (member) await this.#release(action.slot, member);
    }
  }

  async #alloc(at: number, set: SetId | undefined, fails: boolean): Promise<void> {
    const parent = await this.#on.addParent(`dev${at}-${this.#on.host.uevents.emitted.length}`);
    const made = allocDevice(this.#on.vfio, Joins, parent, { key: set, fails });
    if (fails) {
      await expect(made).rejects.toMatchObject({ code: 'EIO' });
      // whom it would have joined stays, a set of its own is gone
      return;
    }
    const member: Member = { device: await made, key: undefined, registered: false, paths: [] };
    this.#members[at] = member;
    if (set !== undefined) this.#join(member, set);
  }

  async #assign(member: Member, set: SetId, memory: boolean): Promise<void> {
    using fault = memory ? undefined : this.#on.host.faults.failOn('vfio_assign_device_set:set');
    const attempt = assignDeviceSet(member.device, set);
    if (member.key !== undefined) {
      this.#warnings++;
      await expect(attempt).rejects.toMatchObject({ code: 'EINVAL' });
    } else if (fault && !this.#sets.has(set)) {
      await expect(attempt).rejects.toMatchObject({ code: 'ENOMEM' });
    } else {
      await attempt;
      this.#join(member, set);
    }
  }

  #join(member: Member, set: SetId): void {
    member.key = set;
    this.#sets.set(set, [...(this.#sets.get(set) ?? []), member]);
  }

  async #release(at: number, member: Member): Promise<void> {
    await this.play({ do: 'close', slot: at });
    if (member.registered) await unregisterGroupDev(member.device);
    // it is a member until its object goes
    await this.compare();
    await putDevice(member.device);
    this.#members[at] = undefined;
    if (member.key === undefined) return;
    const rest = (this.#sets.get(member.key) ?? []).filter((other) => other !== member);
    if (rest.length > 0) this.#sets.set(member.key, rest);
    else this.#sets.delete(member.key);
  }

  async compare(): Promise<void> {
    const { vfio, host } = this.#on;
    expect(vfio.deviceSets.size).toBe(this.#sets.size);
    for (const [id, members] of this.#sets) {
      const set = vfio.deviceSets.get(id);
      if (!set) throw new Error(`no set for ${String(id)}`);
      expect(set.setId).toBe(id);
      expect(set.devices).toEqual(members.map(({ device }) => device));
      expect(set.deviceCount).toBe(members.length);
      expect(members.every(({ device }) => device.deviceSet === set)).toBe(true);
      using _held = await set.lock.lock();
      expect(set.openCount()).toBe(members.reduce((sum, { paths }) => sum + paths.length, 0));
      expect(set.find(members[0]!.device.dev)).toBe(members[0]!.device);
      this.#sameObject(id, set);
    }
    for (const [id, set] of this.#objects) {
      if (this.#sets.has(id)) continue;
      this.#gone.add(set);
      this.#objects.delete(id);
    }
    for (const member of this.#members)
      if (member && member.key === undefined) expect(member.device.deviceSet).toBeUndefined();
    expect(host.log.warnings()).toHaveLength(this.#warnings);
  }

  /** A key means the same set as long as that has members, and never again one that had none left. */
  #sameObject(id: SetId, set: DeviceSet): void {
    expect(this.#objects.get(id) ?? set).toBe(set);
    expect(this.#gone.has(set)).toBe(false);
    this.#objects.set(id, set);
  }

  async finish(): Promise<void> {
    for (let at = 0; at < slots; at++) await this.play({ do: 'release', slot: at });
    await this.compare();
  }
}

it('CORE-090 CORE-093 CORE-094 CORE-095 CORE-096 CORE-097 agree with lists of members under any sequence of calls', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(command, { minLength: 1, maxLength: 40 }), async (commands) => {
      // ended when all went well: what a failed sequence leaves would hide why it failed
      const on = await bench();
      const player = new Player(on);
      for (const action of commands) {
        await player.play(action);
        await player.compare();
      }
      await player.finish();
      await on[Symbol.asyncDispose]();
    }),
    { numRuns: 200 },
  );
}, 60_000);
