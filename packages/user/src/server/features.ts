// Device features, and the data of a migration, as an open device has them. The states of a migration come with a stream in
// VFIO and without one here: the server keeps it, and the client reads and writes it by messages.

import type { Device } from '@vfio/client';
import {
  deviceFeature,
  deviceFeatureDmaLoggingReport,
  deviceFeatureMigState,
  Feature,
  FeatureFlag,
  isVfioError,
  MigState,
  Request,
  VfioError,
} from '@vfio/core';
import type { Process } from '@vfio/host';
import { migDataMessage } from '../wire/messages.js';
import type { Call } from './call.js';
import { loggingBitmap, loggingRanges } from './dma-logging.js';
import { invalid } from './refusal.js';

const { GET, SET, PROBE, MASK } = FeatureFlag;

/** Features that a client may ask for: those whose data has a meaning on the other side of a socket. */
const known: readonly number[] = [
  Feature.MIGRATION,
  Feature.MIG_DEVICE_STATE,
  Feature.DMA_LOGGING_START,
  Feature.DMA_LOGGING_STOP,
  Feature.DMA_LOGGING_REPORT,
];

/** States that a client may ask for. */
const states: readonly number[] = [
  MigState.STOP,
  MigState.RUNNING,
  MigState.STOP_COPY,
  MigState.RESUMING,
  MigState.PRE_COPY,
];

/** No stream. */
const NONE = -1;

/** Features of one open device. */
export class Features {
  readonly #process: Process;
  readonly #device: Device;
  /** Descriptor of the stream, of the process that has the device open. */
  #stream = NONE;
  #state: number = MigState.RUNNING;

  constructor(process: Process, device: Device) {
    this.#process = process;
    this.#device = device;
  }

  /**
   * DEVICE_FEATURE.
   *
   * @param most - bytes that a reply may have
   */
  async feature(call: Call, most: number): Promise<void> {
    try {
      await this.#answer(call, most);
    } catch (error) {
      // unknown to the device is no other failure than unknown to the protocol
      if (isVfioError(error, 'ENOTTY')) throw invalid('the device has no such feature');
      throw error;
    }
  }

  async #answer(call: Call, most: number): Promise<void> {
    if (call.length < deviceFeature.size) throw invalid(`${call.length} bytes do not hold a request`);
    const { argsz, flags } = deviceFeature.decode(call.payload(0, deviceFeature.size), 'little');
    const number = flags & MASK;
    if (argsz < deviceFeature.size) throw invalid(`argsz is ${argsz}`);
    if (!known.includes(number)) throw invalid(`feature ${number}`);
    if ((flags & ~(MASK | GET | SET | PROBE)) !== 0 || (flags & (GET | SET)) === 0) {
      throw invalid(`flags 0x${flags.toString(16)}`);
    }
    const request = call.payload().slice();
    if ((flags & PROBE) !== 0) {
      await this.#request(number, flags, new Uint8Array(0));
      call.replyWith(request);
      return;
    }
    if ((flags & (GET | SET)) === (GET | SET)) throw invalid('both GET and SET');
    const data = request.subarray(deviceFeature.size);
    if ((flags & SET) !== 0) {
      await this.#set(number, flags, data);
      call.replyWith(request);
      return;
    }
    const answer = await this.#get(number, flags, data, most);
    if (argsz < deviceFeature.size + answer.length)
      throw invalid(`argsz is ${argsz}, the data has ${answer.length} bytes`);
    const at = call.openReply(deviceFeature.size + answer.length);
    call.replyBytes.set(deviceFeature.encode({ argsz: deviceFeature.size + answer.length, flags }, 'little'), at);
    call.replyBytes.set(answer, at + deviceFeature.size);
  }

  /** MIG_DATA_READ: a part of what the device has to say; fewer bytes than asked for are the end. */
  async read(call: Call, most: number): Promise<void> {
    const { size } = this.#dataRequest(call, most);
    if (this.#state !== MigState.PRE_COPY && this.#state !== MigState.STOP_COPY) throw this.#wrongState();
    const bytes = new Uint8Array(size);
    let done = 0;
    while (done < size) {
      const count = await this.#readSome(bytes.subarray(done));
      if (count === 0) break;
      done += count;
    }
    const at = call.openReply(migDataMessage.size + done);
    call.replyBytes.set(migDataMessage.encode({ argsz: migDataMessage.size + done, size: done }, 'little'), at);
    call.replyBytes.set(bytes.subarray(0, done), at + migDataMessage.size);
  }

  /** MIG_DATA_WRITE. */
  async write(call: Call, most: number): Promise<void> {
    const { argsz, size } = this.#dataRequest(call, most);
    if (this.#state !== MigState.RESUMING) throw this.#wrongState();
    if (call.length !== migDataMessage.size + size || argsz < migDataMessage.size + size) {
      throw invalid(`${call.length - migDataMessage.size} bytes of data, ${size} announced`);
    }
    const bytes = call.payload(migDataMessage.size).slice();
    for (let done = 0; done < size; ) {
      const count = await this.#process.write(this.#stream, bytes.subarray(done));
      if (count === 0) throw new VfioError('ENOSPC', 'the device takes no more data');
      done += count;
    }
  }

  /** The device was reset: it runs, and what it had to say is lost. */
  async wasReset(): Promise<void> {
    this.#state = MigState.RUNNING;
    await this.#closeStream();
  }

  /** Closes the stream. */
  async close(): Promise<void> {
    await this.#closeStream();
  }

  async #set(number: number, flags: number, data: Uint8Array): Promise<void> {
    if (number === Feature.MIG_DEVICE_STATE) await this.#setState(flags, data);
    else if (number === Feature.DMA_LOGGING_START) await this.#device.dmaLogging.start(...loggingRanges(data));
    else await this.#request(number, flags, data);
  }

  async #get(number: number, flags: number, data: Uint8Array, most: number): Promise<Uint8Array> {
    switch (number) {
      case Feature.MIGRATION:
        return await this.#request(number, flags, new Uint8Array(8));
      case Feature.MIG_DEVICE_STATE: {
        const answer = await this.#request(number, flags, new Uint8Array(deviceFeatureMigState.size));
        const { deviceState } = deviceFeatureMigState.decode(answer, 'little');
        return deviceFeatureMigState.encode({ deviceState, dataFd: 0 }, 'little');
      }
      case Feature.DMA_LOGGING_REPORT: {
        const head = deviceFeatureDmaLoggingReport.offsetOf('bitmap');
        if (data.length < head) throw invalid(`${data.length} bytes do not hold a range`);
        const bits = await loggingBitmap(this.#device, data, most - head);
        const answer = new Uint8Array(head + bits.length);
        answer.set(data.subarray(0, head));
        answer.set(bits, head);
        return answer;
      }
      default:
        return await this.#request(number, flags, data.slice());
    }
  }

  /** Asks for a state, and keeps the stream that comes with it. */
  async #setState(flags: number, data: Uint8Array): Promise<void> {
    if (data.length < deviceFeatureMigState.size) throw invalid(`${data.length} bytes do not hold a state`);
    const { deviceState } = deviceFeatureMigState.decode(data, 'little');
    if (!states.includes(deviceState)) throw invalid(`state ${deviceState}`);
    if (this.#state === MigState.STOP_COPY && deviceState === MigState.PRE_COPY) {
      throw invalid('what was stopped to be copied does not run again while it is copied');
    }
    const wanted = deviceFeatureMigState.encode({ deviceState, dataFd: NONE }, 'little');
    const answer = await this.#request(Feature.MIG_DEVICE_STATE, flags, wanted);
    const { dataFd } = deviceFeatureMigState.decode(answer, 'little');
    const goesOn = this.#state === MigState.PRE_COPY && deviceState === MigState.STOP_COPY;
    this.#state = deviceState;
    if (dataFd >= 0 || !goesOn) await this.#closeStream();
    if (dataFd >= 0) this.#stream = dataFd;
  }

  async #readSome(into: Uint8Array): Promise<number> {
    try {
      return await this.#process.read(this.#stream, into);
    } catch (error) {
      // before the device is stopped there may be nothing for now
      if (isVfioError(error, 'ENOMSG')) return 0;
      throw error;
    }
  }

  async #request(number: number, flags: number, data: Uint8Array): Promise<Uint8Array> {
    const bytes = new Uint8Array(deviceFeature.size + data.length);
    bytes.set(deviceFeature.encode({ argsz: bytes.length, flags: (flags & ~MASK) | number }, 'little'));
    bytes.set(data, deviceFeature.size);
    await this.#device.ioctl('VFIO_DEVICE_FEATURE', Request.DEVICE_FEATURE, bytes);
    return bytes.subarray(deviceFeature.size);
  }

  #dataRequest(call: Call, most: number): { argsz: number; size: number } {
    if (call.length < migDataMessage.size) throw invalid(`${call.length} bytes do not hold a request`);
    const request = migDataMessage.decode(call.payload(0, migDataMessage.size), 'little');
    if (request.size > most) throw invalid(`${request.size} bytes, ${most} at most`);
    if (request.argsz < migDataMessage.size + request.size) throw invalid(`argsz is ${request.argsz}`);
    return request;
  }

  #wrongState(): VfioError {
    return invalid(`the device is in state ${this.#state}`);
  }

  async #closeStream(): Promise<void> {
    const stream = this.#stream;
    this.#stream = NONE;
    if (stream >= 0) await this.#process.close(stream);
  }
}
