/* VFIO_DEVICE_GET_INFO, and the chains of capabilities that it and GET_REGION_INFO may answer with. */
import type { Device } from '@vfio/client';
import { DeviceInfoFlag, deviceInfo, infoCapHeader, RegionInfoFlag, Request, regionInfo } from '@vfio/core';
import { ends, keeps, outcomeOf } from './promise.js';
import { type CaseSpec, INFO_MINIMUM, padded, type Subject, writtenPast } from './subject.js';

/** Room that no answer needs, in bytes. */
const PLENTY = 4096;

function ask(subject: Subject, device: Device, argsz: number, length: number): Promise<Uint8Array> {
  const bytes = padded(deviceInfo.encode({ argsz }, subject.order), argsz, length);
  return subject.ioctl(device, Request.DEVICE_GET_INFO, bytes).then(() => bytes);
}

/** GET_INFO. */
export const infoCases: readonly CaseSpec[] = [
  {
    name: 'info: argsz below 16 is EINVAL',
    async run(subject) {
      await using device = await subject.open();
      for (const argsz of [0, INFO_MINIMUM - 1]) {
        const bytes = deviceInfo.encode({ argsz }, subject.order);
        await ends(
          () => subject.ioctl(device, Request.DEVICE_GET_INFO, bytes),
          'EINVAL',
          `GET_INFO refuses argsz ${argsz}: its first version has ${INFO_MINIMUM} bytes`,
        );
      }
    },
  },
  {
    name: 'info: 16 bytes are enough, and nothing is written past argsz',
    async run(subject) {
      await using device = await subject.open();
      for (const argsz of [INFO_MINIMUM, deviceInfo.size, PLENTY]) {
        const bytes = await ask(subject, device, argsz, argsz + 64);
        const at = writtenPast(bytes, argsz);
        keeps(at === undefined, `GET_INFO with argsz ${argsz} writes nothing behind it`, `byte ${at} was written`);
      }
    },
  },
  {
    name: 'info: its numbers are what they should be',
    async run(subject) {
      await using device = await subject.open();
      const { options, order } = subject;
      const info = deviceInfo.decode(await ask(subject, device, INFO_MINIMUM, deviceInfo.size), order);
      keeps(info.numRegions === options.regions, `num_regions is ${options.regions}`, `${info.numRegions}`);
      keeps(info.numIrqs === options.irqs, `num_irqs is ${options.irqs}`, `${info.numIrqs}`);
      if (options.flags === undefined) return;
      const flags = info.flags & ~DeviceInfoFlag.CAPS;
      keeps(flags === options.flags, `the flags are 0x${options.flags.toString(16)}`, `0x${flags.toString(16)}`);
    },
  },
  {
    name: 'info: capabilities are a chain behind the struct, or told of when they do not fit',
    async run(subject) {
      await using device = await subject.open();
      await checkChain(subject, device, {
        name: 'GET_INFO',
        request: Request.DEVICE_GET_INFO,
        size: deviceInfo.size,
        capsFlag: DeviceInfoFlag.CAPS,
        encode: (argsz) => deviceInfo.encode({ argsz }, subject.order),
        decode: (bytes) => deviceInfo.decode(bytes, subject.order),
      });
      for (let index = 0; index < subject.options.regions; index++) {
        await checkChain(subject, device, {
          name: `GET_REGION_INFO of region ${index}`,
          request: Request.DEVICE_GET_REGION_INFO,
          size: regionInfo.size,
          capsFlag: RegionInfoFlag.CAPS,
          encode: (argsz) => regionInfo.encode({ argsz, index }, subject.order),
          decode: (bytes) => regionInfo.decode(bytes, subject.order),
        });
      }
    },
  },
];

/** An INFO request whose answer may have capabilities. */
interface ChainedRequest {
  readonly name: string;
  readonly request: number;
  /** Bytes of its struct. */
  readonly size: number;
  readonly capsFlag: number;
  encode(argsz: number): Uint8Array;
  decode(bytes: Uint8Array): { readonly argsz: number; readonly flags: number; readonly capOffset: number };
}

/** Asks with room for the struct only, and with as much as the answer then wants. */
async function checkChain(subject: Subject, device: Device, asked: ChainedRequest): Promise<void> {
  const { name, request, size, capsFlag } = asked;
  const send = async (argsz: number) => {
    const bytes = padded(asked.encode(argsz), argsz, argsz + 64);
    return { bytes, outcome: await outcomeOf(() => subject.ioctl(device, request, bytes)) };
  };
  const short = await send(size);
  if (short.outcome === 'EINVAL' && request !== Request.DEVICE_GET_INFO) return; // an index that is not described
  keeps(short.outcome === 0, `${name} with argsz ${size} answers 0`, String(short.outcome));
  const { argsz, flags, capOffset } = asked.decode(short.bytes);
  keeps(writtenPast(short.bytes, size) === undefined, `${name} writes no capability where there is no room`, 'it does');
  if ((flags & capsFlag) === 0) {
    keeps(argsz === size, `${name} without capabilities leaves argsz as it was`, `${argsz}`);
    return;
  }
  keeps(argsz > size, `${name} with capabilities and no room for them tells the argsz that it needs`, `${argsz}`);
  keeps(capOffset === 0, `${name} with capabilities and no room for them has cap_offset 0`, `${capOffset}`);
  const whole = await send(argsz);
  keeps(whole.outcome === 0, `${name} with the argsz that it asked for answers 0`, String(whole.outcome));
  const past = writtenPast(whole.bytes, argsz);
  keeps(past === undefined, `${name} writes nothing past the argsz that it asked for`, `byte ${past} was written`);
  walk(subject, asked, whole.bytes.subarray(0, argsz));
}

function walk({ order }: Subject, { name, size, decode }: ChainedRequest, bytes: Uint8Array): void {
  const { capOffset } = decode(bytes);
  keeps(capOffset === size, `the first capability of ${name} follows the struct, at ${size}`, `${capOffset}`);
  for (let at = capOffset; at !== 0; ) {
    keeps(at % 8 === 0, `capabilities of ${name} are aligned to 8 bytes`, `one at ${at}`);
    const fits = at + infoCapHeader.size <= bytes.length;
    keeps(fits, `the chain of ${name} stays within its ${bytes.length} bytes`, `a capability at ${at}`);
    const { next } = infoCapHeader.decode(bytes.subarray(at), order);
    keeps(next === 0 || next > at, `the chain of ${name} goes forward and ends with 0`, `from ${at} to ${next}`);
    at = next;
  }
}
