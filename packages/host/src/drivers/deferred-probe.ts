/*
 * Devices whose driver said "not yet". Each time that some driver gets a device, all of them are tried again, for it
 * may have been what they wait for.
 */
import type { Seams } from '../seams.js';
import { Work, WorkQueue } from '../sync/workqueue.js';
import type { Device } from './device.js';

/** The devices that wait. Source: drivers/base/dd.c driver_deferred_probe_trigger() */
export class DeferredProbe {
  /** Counts the triggers: a probe that began before the last one has missed it. */
  triggers = 0;
  readonly #waiting = new Set<Device>();
  readonly #due = new Set<Device>();
  readonly #queue: WorkQueue;
  readonly #work: Work;

  /** @param probe - tries the drivers of the bus; its failures are its own business */
  constructor(seams: Seams, probe: (dev: Device) => Promise<void>) {
    this.#queue = new WorkQueue(seams, 'events');
    this.#work = new Work(async () => {
      for (const dev of this.#due) {
        this.#due.delete(dev);
        dev.get();
        await probe(dev);
        dev.put();
      }
    }, 'deferred_probe_work');
  }

  /** The devices that wait, as debugfs shows them in `devices_deferred`. */
  get devices(): readonly Device[] {
    return [...this.#waiting];
  }

  /** A device waits from now on. */
  add(dev: Device): void {
    this.#waiting.add(dev);
  }

  /** A device has its driver, or is gone. */
  remove(dev: Device): void {
    this.#waiting.delete(dev);
    this.#due.delete(dev);
  }

  /** Tries all of them again, later. */
  trigger(): void {
    this.triggers++;
    if (this.#waiting.size === 0) return;
    for (const dev of this.#waiting) this.#due.add(dev);
    this.#waiting.clear();
    this.#queue.queue(this.#work);
  }

  /** Waits until what is due has been tried. */
  async settle(): Promise<void> {
    await this.#queue.flush();
  }
}
