/*
 * An interrupt as a driver sees it: a number, a trigger, handlers, and a depth of disables. Handlers run as in hard interrupt
 * context: at once, one at a time per line, and without waiting for anything.
 */
import { KernelBug, SystemError } from '../errors.js';
import type { Seams } from '../seams.js';

/** How a line signals. 'none': nobody has said. Source: include/linux/irq.h IRQ_TYPE_* */
export type IrqTrigger = 'none' | 'edge-rising' | 'edge-falling' | 'edge-both' | 'level-high' | 'level-low';

/** What a handler says: whether the interrupt was its device's. */
export type IrqReturn = 'none' | 'handled';

/** A handler in hard interrupt context. */
export type IrqHandler = (line: IrqLine) => IrqReturn;

/** How a handler is installed. */
export interface RequestIrqOptions {
  /** other handlers may be on the line, if all say so */
  readonly shared?: boolean;
  /** leaves the line disabled: the driver enables it when it is ready */
  readonly noAutoEnable?: boolean;
}

/** What lets interrupts through to a line: the mask bit of a vector. Source: include/linux/irq.h struct irq_chip */
export interface IrqChip {
  /** The first handler is there, and the line is enabled. What waited behind the mask may be raised at once. */
  startup(): void;
  /** The last handler is gone. */
  shutdown(): void;
}

/** A handler that was installed. */
export interface IrqAction {
  readonly name: string;
  readonly shared: boolean;
}

/** Interrupts that nobody claims are counted over this many; with nearly all unclaimed the line is shut. */
const SPURIOUS_WINDOW = 100_000;
const SPURIOUS_LIMIT = 99_900;
/** A level that is claimed but stays asserted is delivered this often before others get to run. */
const STORM_BURST = 1000;

/**
 * One interrupt line. Devices call `raise`, `lower` or `pulse`; drivers call the rest.
 *
 * @source kernel/irq/manage.c, kernel/irq/chip.c, kernel/irq/spurious.c
 */
export class IrqLine {
  /** Linux' number of the interrupt. */
  readonly irq: number;
  /** Who is told when somebody begins and ends to listen; set by whoever has allocated the line. */
  chip: IrqChip | undefined;
  readonly #seams: Seams;
  /** In the order in which they came. */
  readonly #handlers = new Map<IrqAction, IrqHandler>();
  #trigger: IrqTrigger;
  /** How often it is disabled; a line without handlers is shut down, which counts as one. */
  #depth = 1;
  #asserted = false;
  /** An edge that came while the line was disabled or a handler ran. */
  #pending = false;
  #inProgress = false;
  #storm = false;
  #count = 0;
  #windowCount = 0;
  #unhandled = 0;
  #freed = false;

  /** Use `InterruptController.allocLine`. */
  constructor(seams: Seams, irq: number, trigger: IrqTrigger) {
    this.#seams = seams;
    this.irq = irq;
    this.#trigger = trigger;
  }

  /** How the line signals now. */
  get trigger(): IrqTrigger {
    return this.#trigger;
  }

  /** Whether the line signals by level, so that it stays up until the device is served. */
  get level(): boolean {
    return this.#trigger === 'level-high' || this.#trigger === 'level-low';
  }

  /** Installed handlers, in the order in which they are called. */
  get actions(): readonly IrqAction[] {
    return [...this.#handlers.keys()];
  }

  /** Whether there is a handler. */
  get requested(): boolean {
    return this.#handlers.size > 0;
  }

  /** Interrupts that reached the handlers. */
  get count(): number {
    return this.#count;
  }

  /** Whether nothing is delivered now. */
  get disabled(): boolean {
    return this.#depth > 0;
  }

  /** Whether the device asserts the line (level lines). */
  get asserted(): boolean {
    return this.#asserted;
  }

  /** Whether an edge waits for the line to be enabled. */
  get pending(): boolean {
    return this.#pending;
  }

  /**
   * Changes how the line signals.
   *
   * @throws EBUSY - handlers are installed
   * @source kernel/irq/manage.c irq_set_irq_type()
   */
  setTrigger(trigger: IrqTrigger): void {
    this.#assertAlive();
    if (this.#handlers.size > 0) throw this.#error('EBUSY', 'handlers are installed', 'irq_set_irq_type');
    this.#trigger = trigger;
  }

  /**
   * Installs a handler. The first one starts the line; what waits is delivered before this returns.
   *
   * @param handler - called in hard interrupt context; may not wait
   * @returns what `free` takes
   * @throws EBUSY - handlers are installed that do not share, or this one does not
   * @throws EINVAL - a shared handler asks for a line that stays disabled
   * @throws ENOMEM - no memory
   * @source kernel/irq/manage.c request_threaded_irq()
   */
  request(name: string, handler: IrqHandler, options: RequestIrqOptions = {}): IrqAction {
    this.#assertAlive();
    const { shared = false, noAutoEnable = false } = options;
    if (shared && noAutoEnable) throw this.#error('EINVAL', 'a shared line cannot start disabled', 'request_irq');
    this.#seams.faults.check('request_irq:action');
    const present = this.actions;
    if (present.length > 0 && !(shared && present.every((action) => action.shared))) {
      const names = present.map((action) => action.name).join(', ');
      throw this.#error('EBUSY', `${name} cannot share with ${names}`, 'request_irq');
    }
    const action: IrqAction = { name, shared };
    this.#handlers.set(action, handler);
    if (this.#handlers.size === 1) {
      this.#windowCount = 0;
      this.#unhandled = 0;
      this.#depth = noAutoEnable ? 1 : 0;
      if (!noAutoEnable) this.chip?.startup();
      this.#run();
    }
    return action;
  }

  /**
   * Removes a handler; with the last one the line is shut down. No handler runs when this returns.
   *
   * @throws KernelBug('lock') - called from a handler of the line, which would wait for itself
   * @source kernel/irq/manage.c free_irq()
   */
  free(action: IrqAction): void {
    if (this.#seams.log.warnOn(!this.#handlers.has(action), `Trying to free already-free IRQ ${this.irq}`)) return;
    this.synchronize();
    this.#handlers.delete(action);
    if (this.#handlers.size > 0) return;
    this.#depth = 1;
    this.#pending = false;
    this.chip?.shutdown();
  }

  /**
   * Stops delivery until as many `enable`s. Edges that come meanwhile are kept as one.
   *
   * @source kernel/irq/manage.c disable_irq_nosync()
   */
  disableNosync(): void {
    this.#assertAlive();
    this.#depth++;
  }

  /**
   * As `disableNosync`, and waits for a handler that runs.
   *
   * @throws KernelBug('lock') - called from a handler of the line, which would wait for itself
   * @source kernel/irq/manage.c disable_irq()
   */
  disable(): void {
    this.disableNosync();
    this.synchronize();
  }

  /**
   * Takes back one disable. With the last one, a level that is up or an edge that waits is delivered before this returns.
   *
   * @source kernel/irq/manage.c enable_irq()
   */
  enable(): void {
    this.#assertAlive();
    if (this.#seams.log.warnOn(this.#depth === 0, `Unbalanced enable for IRQ ${this.irq}`)) return;
    if (this.#handlers.size === 0 && this.#depth === 1) {
      this.#seams.log.warnOn(true, `enable of IRQ ${this.irq}, which nobody has requested`);
      return;
    }
    this.#depth--;
    if (this.#depth === 0) this.chip?.startup();
    this.#run();
  }

  /**
   * Waits for a handler that runs; since handlers do not wait, none runs unless it is the caller.
   *
   * @throws KernelBug('lock') - called from a handler of the line
   * @source kernel/irq/manage.c synchronize_irq()
   */
  synchronize(): void {
    if (this.#inProgress) throw new KernelBug('lock', `a handler of IRQ ${this.irq} waits for itself`);
  }

  /** The device asserts a level line, and keeps it until `lower`; on an edge line that signals rising edges: one edge. */
  raise(): void {
    if (!this.level) {
      if (!this.#asserted && this.#trigger !== 'edge-falling') this.#edge();
      this.#asserted = true;
      return;
    }
    this.#asserted = true;
    this.#run();
  }

  /** The device lets go of a level line; on an edge line that signals falling edges: one edge. */
  lower(): void {
    const was = this.#asserted;
    this.#asserted = false;
    if (was && (this.#trigger === 'edge-falling' || this.#trigger === 'edge-both')) this.#edge();
  }

  /** One edge, or a level that is gone as soon as it was looked at: what a message does. */
  pulse(): void {
    this.#edge();
  }

  /** Called by the controller when the number goes back. */
  retire(): void {
    const [action] = this.#handlers.keys();
    if (action !== undefined) {
      throw new KernelBug('use-after-free', `IRQ ${this.irq} freed while ${action.name} handles it`);
    }
    this.#freed = true;
  }

  #edge(): void {
    this.#pending = true;
    this.#run();
  }

  /** Delivers what is there, again and again: a handler may cause or clear the next one. */
  #run(): void {
    if (this.#inProgress || this.#storm) return;
    let burst = 0;
    while (this.#depth === 0 && this.#handlers.size > 0 && (this.#pending || (this.level && this.#asserted))) {
      if (burst === STORM_BURST) {
        this.#continueLater();
        return;
      }
      this.#pending = false;
      // What nobody claims ends by itself: the line is shut when it comes too often.
      if (this.#deliver()) burst++;
    }
  }

  /** Calls the handlers once. True if one of them claims the interrupt. */
  #deliver(): boolean {
    this.#inProgress = true;
    this.#count++;
    let handled = false;
    try {
      for (const [action, handler] of [...this.#handlers]) {
        const answer: unknown = handler(this);
        if (answer instanceof Promise) {
          // What becomes of it does not matter any more; it must not be reported a second time.
          answer.catch(() => {});
          throw new KernelBug('atomic-sleep', `handler ${action.name} of IRQ ${this.irq} is asynchronous`);
        }
        if (answer === 'handled') handled = true;
      }
    } finally {
      this.#inProgress = false;
    }
    this.#note(handled);
    return handled;
  }

  /** Shuts a line that nobody serves. Source: kernel/irq/spurious.c note_interrupt() */
  #note(handled: boolean): void {
    this.#windowCount++;
    if (!handled) this.#unhandled++;
    if (this.#windowCount < SPURIOUS_WINDOW) return;
    this.#windowCount = 0;
    if (this.#unhandled > SPURIOUS_LIMIT) {
      const { log } = this.#seams;
      log.err(`irq ${this.irq}: nobody cared (try booting with the "irqpoll" option)`);
      log.emerg(`Disabling IRQ #${this.irq}`);
      this.#depth++;
    }
    this.#unhandled = 0;
  }

  /** A level that handlers claim but never clear: a storm. Others run before it goes on. */
  #continueLater(): void {
    this.#storm = true;
    this.#seams.clock.setTimer(0, () => {
      this.#storm = false;
      this.#run();
    });
  }

  #assertAlive(): void {
    if (this.#freed) throw new KernelBug('use-after-free', `IRQ ${this.irq} used after it was freed`);
  }

  #error(code: 'EBUSY' | 'EINVAL', reason: string, syscall: string): SystemError {
    return new SystemError(code, reason, { syscall, subject: `IRQ ${this.irq}` });
  }
}
