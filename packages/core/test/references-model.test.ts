// The two counts of a device, of its object and of its registration, under any sequence of calls, beside plain numbers.

import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  allocDevice,
  getDevice,
  putDevice,
  putRegistration,
  Request,
  registerGroupDev,
  tryGetRegistration,
  unregisterGroupDev,
} from '../src/index.js';
import { bench, code, type TestBench, TestDevice, type TestDeviceOptions } from './harness.js';

const actions = ['get', 'put', 'tryGet', 'putRegistration', 'open', 'close', 'unregister', 'tick'] as const;
type Action = (typeof actions)[number];

/** Tells the model what is asked of it. */
class Counted extends TestDevice {
  readonly asked: number[] = [];

  constructor(options: TestDeviceOptions & { asked: number[] }) {
    super(options);
    this.asked = options.asked;
  }

  override request(count: number): void {
    this.asked.push(count);
  }
}

/** Lets everything happen that waits for nothing else. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
}

class Player {
  readonly #on: TestBench;
  readonly #device: Counted;
  readonly #group: number;
  readonly #files: number[] = [];
  readonly #journal: string[];
  readonly #asked: number[];
  /** What the device should have written down, and been asked. */
  readonly #calls = ['init'];
  readonly #requests: number[] = [];
  /** References of the object, of which the last one unregisters before; and those on the registration. */
  #objects = 1;
  #taken = 0;
  #phase: 'registered' | 'waiting' | 'unregistered' = 'registered';
  #completions = 0;

  constructor(on: TestBench, device: Counted, group: number) {
    this.#on = on;
    this.#device = device;
    this.#group = group;
    this.#journal = device.journal;
    this.#asked = device.asked;
  }

  get #registrations(): number {
    return (this.#phase === 'registered' ? 1 : 0) + this.#taken + this.#files.length;
  }

  async play(action: Action): Promise<void> {
    const device = this.#device;
    switch (action) {
      case 'get':
        getDevice(device);
        this.#objects++;
        break;
      case 'put':
        // the last one belongs to whoever unregisters
        if (this.#objects > 1) {
          await putDevice(device);
          this.#objects--;
        }
        break;
      case 'tryGet': {
        const got = tryGetRegistration(device);
        expect(got).toBe(this.#registrations > 0);
        if (got) this.#taken++;
        break;
      }
      case 'putRegistration':
        if (this.#taken === 0) break;
        putRegistration(device);
        this.#taken--;
        break;
      case 'open':
        await this.#open();
        break;
      case 'close':
        if (this.#files.length === 0) break;
        await this.#on.process.close(this.#files.pop()!);
        if (this.#files.length === 0) this.#calls.push('closeDevice');
        break;
      case 'unregister':
        this.#unregister();
        break;
      case 'tick':
        await this.#on.clock.advance(10_000);
        if (this.#phase === 'waiting') this.#requests.push(this.#requests.length);
        break;
    }
    await settle();
    if (this.#phase === 'waiting' && this.#registrations === 0) this.#phase = 'unregistered';
  }

  async #open(): Promise<void> {
    const attempt = this.#on.getDeviceFd(this.#group, 'dev0');
    if (this.#phase !== 'registered') return await expect(attempt).rejects.toEqual(code('ENODEV'));
    this.#files.push(await attempt);
    if (this.#files.length === 1) this.#calls.push('openDevice');
  }

  #unregister(): void {
    if (this.#phase !== 'registered') return;
    this.#phase = 'waiting';
    if (this.#registrations > 0) this.#requests.push(0);
    void unregisterGroupDev(this.#device).then(() => {
      this.#completions++;
    });
  }

  compare(): void {
    const { record } = this.#device;
    expect(record?.device.refCount).toBe(this.#objects);
    expect(record?.registration.value).toBe(this.#registrations);
    expect(this.#device.openCount).toBe(this.#files.length);
    expect(this.#device.state).toBe(this.#phase === 'unregistered' ? 'unregistered' : 'registered');
    expect(this.#completions).toBe(this.#phase === 'unregistered' ? 1 : 0);
    expect(this.#on.host.tracker.count('reference')).toBe(this.#taken + this.#files.length);
    expect(this.#journal).toEqual(this.#calls);
    expect(this.#asked).toEqual(this.#requests);
  }

  /** Everybody gives back what he has; the object goes with the last reference, once. */
  async finish(): Promise<void> {
    for (const action of ['unregister', 'tryGet'] as const) await this.play(action);
    while (this.#taken > 0) await this.play('putRegistration');
    while (this.#files.length > 0) await this.play('close');
    this.compare();
    while (this.#objects > 1) await this.play('put');
    this.compare();
    await putDevice(this.#device);
    expect(this.#journal).toEqual([...this.#calls, 'release']);
    expect(() => tryGetRegistration(this.#device)).toThrow(expect.objectContaining({ kind: 'use-after-free' }));
  }
}

it('CORE-008 CORE-076 CORE-082 CORE-083 agree with plain numbers under any sequence of calls', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.constantFrom(...actions), { maxLength: 40 }), async (sequence) => {
      // ended when all went well: what a failed sequence leaves would hide why it failed
      const on = await bench();
      const device = await allocDevice(on.vfio, Counted, await on.addParent('dev0'), { asked: [] });
      await registerGroupDev(device);
      const group = await on.openGroup(device);
      const container = await on.openContainer();
      await on.setContainer(group, container);
      await on.process.ioctl(container, Request.SET_IOMMU, 3);
      const player = new Player(on, device, group);
      for (const action of sequence) {
        await player.play(action);
        player.compare();
      }
      await player.finish();
      for (const fd of [group, container]) await on.process.close(fd);
      expect(on.host.log.warnings()).toEqual([]);
      await on[Symbol.asyncDispose]();
    }),
    { numRuns: 200 },
  );
}, 60_000);
