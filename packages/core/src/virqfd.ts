/**
 * Eventfds that a user signals and a driver listens to: "unmask this interrupt", without an ioctl for each. What is to be
 * done runs at once, within the signal, or later in a work item where it may wait. The user can take the eventfd back in
 * two ways, by a request or by closing it, and both may happen at the same time.
 */
import { type EventFd, eventfdFromFd, type Process, type Seams, SpinLock, Work, WorkQueue } from '@vfio/host';
import { VfioError } from './errors.js';

/** What a driver does when its eventfd is signalled. */
export interface VirqfdCallbacks {
  /**
   * Runs within the signal, and so may not wait.
   *
   * @returns whether `thread` is wanted; when there is no handler it always is
   */
  handler?(): boolean;
  /** Runs later, in a task of its own, never twice at the same time. Signals until it starts count as one. */
  thread?(): void | Promise<void>;
}

/** Where a driver keeps the eventfd that it listens to: `struct virqfd *` in the kernel. Empty when it listens to none. */
export interface VirqfdSlot {
  /** @internal what listens; comes and goes under the lock of `Virqfds` */
  virqfd?: Virqfd | undefined;
}

/**
 * One eventfd that is listened to.
 *
 * @internal
 * @source include/linux/vfio.h `struct virqfd`
 */
export class Virqfd {
  readonly event: EventFd;
  /** The work item that runs the thread, in a queue of its own: flushing it waits for nobody else's. */
  readonly inject: Work;
  readonly injectQueue: WorkQueue;
  /** Ends it. */
  readonly shutdown: Work;
  /** Waits for the thread. */
  readonly flushInject: Work;
  readonly #callbacks: VirqfdCallbacks;
  readonly #subscriptions: Disposable[] = [];

  constructor(injectQueue: WorkQueue, event: EventFd, callbacks: VirqfdCallbacks) {
    this.event = event;
    this.#callbacks = callbacks;
    this.injectQueue = injectQueue;
    this.inject = new Work(() => callbacks.thread?.(), 'virqfd_inject');
    this.shutdown = new Work(() => this.#shutDown(), 'virqfd_shutdown');
    this.flushInject = new Work(() => this.injectQueue.flush(), 'virqfd_flush_inject');
  }

  /** Whether there is a thread to wait for. */
  get hasThread(): boolean {
    return this.#callbacks.thread !== undefined;
  }

  /** Listens from now on; a signal that came before counts, and stays in the counter until the end. */
  listen(onHangup: () => void): void {
    this.#subscriptions.push(
      this.event.onSignal(() => {
        this.event.consume();
        this.#signalled();
      }),
      this.event.onHangup(onHangup),
    );
    if (this.event.readable) this.#signalled();
  }

  #signalled(): void {
    const wanted = this.#callbacks.handler?.() ?? true;
    if (wanted && this.hasThread) this.injectQueue.queue(this.inject);
  }

  /** Source: drivers/vfio/virqfd.c virqfd_shutdown(); fs/eventfd.c eventfd_ctx_remove_wait_queue() */
  async #shutDown(): Promise<void> {
    for (const subscription of this.#subscriptions) subscription[Symbol.dispose]();
    // whoever leaves an eventfd's queue takes what is in the counter along
    this.event.consume();
    await this.injectQueue.flush();
    this.event.put();
  }
}

/**
 * The listeners of one VFIO: their lock, and the queue in which they are ended one by one.
 *
 * @source drivers/vfio/virqfd.c
 */
export class Virqfds {
  readonly #seams: Seams;
  readonly #lock: SpinLock;
  readonly #cleanup: WorkQueue;

  /** @throws ENOMEM - no memory for the queue */
  constructor(seams: Seams) {
    this.#seams = seams;
    this.#lock = new SpinLock(seams, 'virqfd_lock');
    this.#cleanup = new WorkQueue(seams, 'vfio-irqfd-cleanup');
  }

  /**
   * Listens to an eventfd. If it has been signalled already the callbacks run at once. Closing its last descriptor empties
   * the slot.
   *
   * @param process - whose descriptor it is
   * @param slot - empty; filled on return
   * @throws ENOMEM - no memory
   * @throws EBADF - `fd` is not open
   * @throws EINVAL - `fd` is no eventfd
   * @throws EBUSY - the slot is in use; it stays as it is
   * @source drivers/vfio/virqfd.c vfio_virqfd_enable()
   */
  enable(process: Process, fd: number, slot: VirqfdSlot, callbacks: VirqfdCallbacks): void {
    this.#seams.faults.check('vfio_virqfd_enable:virqfd');
    const injectQueue = new WorkQueue(this.#seams, 'virqfd-inject');
    const event = eventfdFromFd(process, fd);
    const virqfd = new Virqfd(injectQueue, event, callbacks);
    const taken = this.#lock.run(() => {
      if (slot.virqfd) return false;
      slot.virqfd = virqfd;
      return true;
    });
    if (!taken) {
      event.put();
      throw new VfioError('EBUSY', 'an eventfd is listened to already');
    }
    virqfd.listen(() => this.#lock.run(() => this.#deactivate(slot, virqfd)));
  }

  /**
   * Listens no longer. When this resolves nothing of the eventfd runs any more: its thread is over and its reference put,
   * whether this call ended it, or its closing did before. An empty slot waits as well.
   *
   * @source drivers/vfio/virqfd.c vfio_virqfd_disable()
   */
  async disable(slot: VirqfdSlot): Promise<void> {
    this.#lock.run(() => {
      if (slot.virqfd) this.#deactivate(slot, slot.virqfd);
    });
    await this.#cleanup.flush();
  }

  /**
   * Waits until the thread has dealt with the signals so far. Listening goes on.
   *
   * @source drivers/vfio/virqfd.c vfio_virqfd_flush_thread()
   */
  async flushThread(slot: VirqfdSlot): Promise<void> {
    this.#lock.run(() => {
      if (slot.virqfd?.hasThread) this.#cleanup.queue(slot.virqfd.flushInject);
    });
    await this.#cleanup.flush();
  }

  /** Waits for what is being ended, and takes no more. All slots must be empty. */
  async destroy(): Promise<void> {
    await this.#cleanup.destroy();
  }

  /** Empties a slot, unless somebody else did, and has its listener ended. */
  #deactivate(slot: VirqfdSlot, virqfd: Virqfd): void {
    this.#lock.assertHeld();
    if (slot.virqfd !== virqfd) return;
    slot.virqfd = undefined;
    this.#cleanup.queue(virqfd.shutdown);
  }
}
