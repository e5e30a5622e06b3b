// Interrupts of the test device: INTx, which masks itself when the device raises it, MSI-X, ERR and REQ.

import {
  type IrqInfo,
  IrqInfoFlag,
  type IrqSet,
  IrqSetFlag,
  PciIrqIndex,
  VfioError,
  type VirqfdSlot,
  type Virqfds,
} from '@vfio/core';
import { Errno, type EventFd, eventfdFromFd, type IoctlCall } from '@vfio/host';
import { irqCounts, Msix } from './layout.js';

/** One interrupt. */
interface Vector {
  eventfd: EventFd | undefined;
  masked: boolean;
  /** It came while it was masked. */
  pending: boolean;
}

const { INTX, MSIX } = PciIrqIndex;
const { EVENTFD, MASKABLE, AUTOMASKED, NORESIZE } = IrqInfoFlag;
const { ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER, DATA_NONE, DATA_BOOL, DATA_EVENTFD } = IrqSetFlag;

/**
 * Fills in what an interrupt index is.
 *
 * @throws EINVAL - no such index
 */
export function testIrqInfo(info: IrqInfo): void {
  const count = irqCounts[info.index];
  if (count === undefined) throw new VfioError('EINVAL', `interrupt index ${info.index} of ${irqCounts.length}`);
  info.count = count;
  info.flags = EVENTFD | (info.index === INTX ? MASKABLE | AUTOMASKED : NORESIZE);
}

/** The interrupts of one device. */
export class TestIrqs {
  readonly #virqfds: () => Virqfds;
  readonly #vectors: readonly (readonly Vector[])[] = irqCounts.map((count) =>
    Array.from({ length: count }, () => ({ eventfd: undefined, masked: false, pending: false })),
  );
  /** Eventfds by which the user masks and unmasks INTx. */
  readonly #maskSlot: VirqfdSlot = {};
  readonly #unmaskSlot: VirqfdSlot = {};

  /** @param virqfds - asked for when somebody uses one */
  constructor(virqfds: () => Virqfds) {
    this.#virqfds = virqfds;
  }

  /** A bit for each vector of MSI-X that came while it was masked. */
  get pending(): number {
    return this.#of(MSIX).reduce((bits, { pending }, vector) => (pending ? bits | (1 << vector) : bits), 0) >>> 0;
  }

  /**
   * The device raises an interrupt: of MSI-X, or INTx if nobody uses that.
   *
   * @returns 0, or EINVAL if there is no such vector
   */
  raise(number: number): number {
    if (number >= Msix.VECTORS) return Errno.EINVAL;
    const usesMsix = this.#of(MSIX).some(({ eventfd }) => eventfd !== undefined);
    const pin = this.#of(INTX)[0];
    if (usesMsix || number > 0 || pin?.eventfd === undefined) signal(this.#of(MSIX)[number]);
    else {
      signal(pin);
      pin.masked = true;
    }
    return 0;
  }

  /**
   * Does what a SET_IRQS request asks for.
   *
   * @param set - validated: vectors that there are, exactly one kind of data
   * @param data - of the vectors: a byte, an s32 or nothing for each
   * @param call - whose descriptors and byte order `data` has
   * @throws EINVAL - not exactly one action, or one that the index does not have
   * @throws EBADF, EINVAL - a descriptor is none, or not an eventfd; nothing has changed then
   * @throws EBUSY - INTx is masked or unmasked by an eventfd already
   */
  async set(set: IrqSet, data: Uint8Array, call: IoctlCall): Promise<void> {
    const vectors = this.#of(set.index).slice(set.start, set.start + set.count);
    const isTrigger = (set.flags & IrqSetFlag.ACTION_TYPE_MASK) === ACTION_TRIGGER;
    if (isTrigger && set.count === 0 && (set.flags & DATA_NONE) !== 0) return await this.#disable(set.index);
    if ((set.flags & DATA_EVENTFD) !== 0) {
      const view = new DataView(data.buffer, data.byteOffset, data.length);
      const fds = vectors.map((_, i) => view.getInt32(4 * i, call.order === 'little'));
      return isTrigger ? connect(vectors, fds, call) : await this.#listen(set, fds[0] ?? -1, call);
    }
    const meant = vectors.filter((_, i) => (set.flags & DATA_BOOL) === 0 || data[i] !== 0);
    const act = this.#actionOf(set);
    for (const vector of meant) act(vector);
  }

  /** Disconnects everything, and forgets what was masked. */
  async disableAll(): Promise<void> {
    for (const index of irqCounts.keys()) await this.#disable(index);
  }

  /** What came and was masked did not come. */
  reset(): void {
    for (const vector of this.#vectors.flat()) {
      vector.masked = false;
      vector.pending = false;
    }
  }

  #of(index: number): readonly Vector[] {
    return this.#vectors[index] ?? [];
  }

  #actionOf({ index, flags }: IrqSet): (vector: Vector) => void {
    const canMask = index === INTX || index === MSIX;
    switch (flags & IrqSetFlag.ACTION_TYPE_MASK) {
      case ACTION_TRIGGER:
        return signal;
      case ACTION_MASK:
        if (canMask) return mask;
        break;
      case ACTION_UNMASK:
        if (canMask) return unmask;
        break;
      default:
        break;
    }
    throw new VfioError('EINVAL', `flags 0x${flags.toString(16)} for interrupt index ${index}`);
  }

  /** Only the pin is masked and unmasked by an eventfd. */
  async #listen(set: IrqSet, fd: number, { process }: IoctlCall): Promise<void> {
    const act = this.#actionOf(set);
    const [pin] = this.#of(INTX);
    if (set.index !== INTX || pin === undefined) throw new VfioError('EINVAL', 'MSI-X is not masked by an eventfd');
    const slot = act === mask ? this.#maskSlot : this.#unmaskSlot;
    await this.#virqfds().disable(slot);
    if (fd < 0) return;
    const handler = () => {
      act(pin);
      return false;
    };
    this.#virqfds().enable(process, fd, slot, { handler });
  }

  async #disable(index: number): Promise<void> {
    if (index === INTX) for (const slot of [this.#maskSlot, this.#unmaskSlot]) await this.#virqfds().disable(slot);
    for (const vector of this.#of(index)) {
      vector.eventfd?.put();
      vector.eventfd = undefined;
      vector.masked = false;
      vector.pending = false;
    }
  }
}

/** Vectors get eventfds in the place of what they had; a negative number takes away. */
function connect(vectors: readonly Vector[], fds: readonly number[], { process }: IoctlCall): void {
  const fresh: (EventFd | undefined)[] = [];
  try {
    for (const fd of fds) fresh.push(fd < 0 ? undefined : eventfdFromFd(process, fd));
  } catch (error) {
    for (const eventfd of fresh) eventfd?.put();
    throw error;
  }
  for (const [i, vector] of vectors.entries()) {
    vector.eventfd?.put();
    vector.eventfd = fresh[i];
  }
}

function signal(vector: Vector | undefined): void {
  if (vector === undefined) return;
  if (vector.masked) vector.pending = true;
  else vector.eventfd?.signal();
}

function mask(vector: Vector): void {
  vector.masked = true;
}

function unmask(vector: Vector): void {
  vector.masked = false;
  if (!vector.pending) return;
  vector.pending = false;
  signal(vector);
}
