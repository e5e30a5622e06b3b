/**
 * Migration of the serial card. There is nothing to quiesce, so most arcs between the states do nothing; what counts is
 * which of them open, fill and end the two data files.
 *
 *     RUNNING <-> RUNNING_P2P, RUNNING_P2P <-> STOP, PRE_COPY <-> PRE_COPY_P2P      nothing
 *     RUNNING -> PRE_COPY, RUNNING_P2P -> PRE_COPY_P2P                              a new file with the header
 *     STOP -> STOP_COPY                                                             a new file with header and ports
 *     PRE_COPY_P2P -> STOP_COPY                                                     the ports into the file there is
 *     STOP -> RESUMING                                                              a new file to be written
 *     RESUMING -> STOP                                                              load the ports, end the file
 *     PRE_COPY -> RUNNING, PRE_COPY_P2P -> RUNNING_P2P, STOP_COPY -> STOP           end the file
 */
import {
  checkPrecopyIoctl,
  type LogOps,
  type MigrationOps,
  MigState,
  migGetNextState,
  precopyInfo,
  type VfioDevice,
  VfioError,
} from '@vfio/core';
import { type File, type Held, type IoctlCall, type Module, Mutex, type Seams } from '@vfio/host';
import type { SerialPort } from './hw.js';
import { ResumeFile, SaveFile } from './migration-file.js';
import { decodePort, encodePort, portRecord, streamHeader, streamSize } from './uapi.js';

type Action = 'nothing' | 'save' | 'resume' | 'load' | 'end';

const { ERROR, STOP, RUNNING, STOP_COPY, RESUMING, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P } = MigState;

/** What each arc does; the core breaks every change of state into these. */
// biome-ignore format: a table reads in columns
const arcs: Readonly<Record<MigState, Readonly<Partial<Record<MigState, Action>>>>> = {
  [ERROR]:        {},
  [STOP]:         { [RUNNING_P2P]: 'nothing', [STOP_COPY]: 'save', [RESUMING]: 'resume' },
  [RUNNING]:      { [RUNNING_P2P]: 'nothing', [PRE_COPY]: 'save' },
  [STOP_COPY]:    { [STOP]: 'end' },
  [RESUMING]:     { [STOP]: 'load' },
  [RUNNING_P2P]:  { [RUNNING]: 'nothing', [STOP]: 'nothing', [PRE_COPY_P2P]: 'save' },
  [PRE_COPY]:     { [PRE_COPY_P2P]: 'nothing', [RUNNING]: 'end' },
  [PRE_COPY_P2P]: { [PRE_COPY]: 'nothing', [STOP_COPY]: 'save', [RUNNING_P2P]: 'end' },
};

/**
 * State and data files of one device. It outlives the device when a data file does: what a descriptor of an ended file
 * answers depends on the state at the end.
 *
 * @source samples/vfio-mdev/mtty.c mtty_step_state(), mtty_set_state(), mtty_state_mutex_unlock()
 */
export class MttyMigration implements MigrationOps {
  readonly #device: VfioDevice;
  readonly #seams: Seams;
  readonly #module: Module;
  readonly #ports: readonly SerialPort[];
  /** Held over every change of state, which may take several arcs. */
  readonly #stateLock: Mutex;
  #state: MigState = RUNNING;
  #resetWanted = false;
  #saving: SaveFile | undefined;
  #resuming: ResumeFile | undefined;

  /**
   * @param module - that the data files hold
   * @param ports - whose state is saved and loaded, in the order of the stream
   */
  constructor(device: VfioDevice, seams: Seams, module: Module, ports: readonly SerialPort[]) {
    this.#device = device;
    this.#seams = seams;
    this.#module = module;
    this.#ports = ports;
    this.#stateLock = new Mutex(seams, 'mtty.state_mutex');
  }

  async getState(): Promise<MigState> {
    return await this.#withState(() => this.#state);
  }

  /**
   * Walks to a state arc by arc; a failing arc leaves the state before it.
   *
   * @returns the data file that the last arc made, a reference to it
   * @throws EINVAL - there is no way, or RESUMING is left before all data arrived
   * @throws ENOMEM - no memory for a data file
   */
  async setState(target: MigState): Promise<File | undefined> {
    return await this.#withState(async () => {
      let file: File | undefined;
      while (this.#state !== target) {
        const next = migGetNextState(this.#device, this.#state, target);
        file = await this.#step(this.#state, next);
        this.#state = next;
      }
      return file;
    });
  }

  getDataSize(): bigint {
    return BigInt(streamSize(this.#ports.length));
  }

  /**
   * Goes back to RUNNING and ends the data files; when a change of state is under way, as soon as that is finished.
   *
   * @source samples/vfio-mdev/mtty.c mtty_reset()
   */
  async reset(): Promise<void> {
    this.#resetWanted = true;
    const held = this.#stateLock.tryLock();
    if (held !== undefined) await this.#unlock(held);
  }

  /** Ends the data files and leaves the state as it is: the last close of the device. */
  async endFiles(): Promise<void> {
    const files = [this.#saving, this.#resuming];
    this.#saving = undefined;
    this.#resuming = undefined;
    for (const file of files) {
      file?.end();
      await file?.put();
    }
  }

  async #withState<T>(fn: () => T | Promise<T>): Promise<T> {
    const held = await this.#stateLock.lock();
    try {
      return await fn();
    } finally {
      await this.#unlock(held);
    }
  }

  /** Gives the lock back once no reset is pending: a reset that finds the lock taken relies on this. */
  async #unlock(held: Held): Promise<void> {
    while (this.#resetWanted) {
      this.#resetWanted = false;
      this.#state = RUNNING;
      await this.endFiles();
    }
    // no await between the last look and this
    held.release();
  }

  async #step(from: MigState, to: MigState): Promise<File | undefined> {
    switch (arcs[from][to]) {
      case 'nothing':
        return undefined;
      case 'end':
        await this.endFiles();
        return undefined;
      case 'load':
        this.#load();
        await this.endFiles();
        return undefined;
      case 'save':
        return this.#save(to);
      case 'resume':
        return this.#resume();
      default:
        this.#seams.log.warnOn(true, `mtty: no arc from state ${from} to ${to}`);
        throw new VfioError('EINVAL', `there is no arc from state ${from} to ${to}`);
    }
  }

  /** @returns the data file if it is new */
  #save(to: MigState): SaveFile | undefined {
    const existing = this.#saving;
    let file = existing;
    if (file === undefined) {
      this.#seams.faults.check('mtty_save_device_data:memory');
      this.#seams.faults.check('mtty_save_device_data:file');
      file = new SaveFile(this.#module, this.#ports.length, (of, call) => this.#saveRequest(of, call));
      this.#saving = file;
    }
    if (to === STOP_COPY) for (const port of this.#ports) file.append(encodePort(port.save()));
    return existing === undefined ? file.get() : undefined;
  }

  #resume(): ResumeFile {
    this.#seams.faults.check('mtty_resume_device_data:memory');
    this.#seams.faults.check('mtty_resume_device_data:file');
    this.#resuming = new ResumeFile(this.#module, this.#ports.length);
    return this.#resuming.get();
  }

  #load(): void {
    const file = this.#resuming;
    if (!file?.complete) {
      throw new VfioError('EINVAL', `${file?.filled ?? 0} of ${streamSize(this.#ports.length)} bytes arrived`);
    }
    this.#ports.forEach((port, i) => {
      port.load(decodePort(file.slice(streamHeader.size + i * portRecord.size, portRecord.size)));
    });
  }

  /** The only request of a file that is read. Source: samples/vfio-mdev/mtty.c mtty_precopy_ioctl() */
  async #saveRequest(file: SaveFile, call: IoctlCall): Promise<number> {
    // an ended file fails below whatever its flags, and its device may be gone
    const info = checkPrecopyIoctl({ precopyInfoV2: !file.ended && this.#device.precopyInfoV2 }, call);
    return await this.#withState(() => {
      // the state first: an ended file answers ENODEV only if the device is copying to another one meanwhile
      if (this.#state !== PRE_COPY && this.#state !== PRE_COPY_P2P) {
        throw new VfioError('EINVAL', `the device is in state ${this.#state}, not in one of pre-copy`);
      }
      if (file.ended) throw new VfioError('ENODEV', 'the device left the state of this data file');
      info.initialBytes = BigInt(file.remaining);
      info.dirtyBytes = 0n; // the header never changes
      call.copyOut(precopyInfo.encode(info, call.order));
      return 0;
    });
  }
}

/**
 * DMA logging of a device that does no DMA: starts at the granularity asked for, and never reports a page.
 *
 * @source samples/vfio-mdev/mtty.c mtty_log_start(), mtty_log_stop(), mtty_log_read_and_clear()
 */
export const mttyLogOps: LogOps = {
  start: (_ranges, pageSize) => pageSize,
  stop: () => {},
  readAndClear: () => {},
};
