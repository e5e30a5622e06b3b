// Writes down the system calls on VFIO files while they happen, one line each, in the form of strace.

import { Request, type UapiFile, uapiCall, uapiFile } from '@vfio/core';
import {
  type File,
  type Host,
  isSystemError,
  O,
  type Process,
  Prot,
  type Syscall,
  type SyscallOutcome,
} from '@vfio/host';
import { showArgument } from './ioctl.js';
import { peek } from './peek.js';
import { bitsText, bytesText, hex } from './values.js';

/** A system call that is over, or one that was not when the trace ended. */
export interface TracedCall {
  /** When it began, in milliseconds on the machine's clock. */
  readonly time: number;
  readonly pid: number;
  readonly comm: string;
  /** `ioctl(5</dev/vfio/2>, VFIO_GROUP_GET_STATUS, {argsz=8} => {flags=VIABLE})` */
  readonly call: string;
  /** `0`, `-1 EBUSY (group has 2 open devices)`, `?` */
  readonly result: string;
  readonly failed: boolean;
}

/** What to trace. */
export interface TraceOptions {
  /** Calls on all files, not only on those of VFIO. */
  readonly all?: boolean;
}

/** How a call is written: what is known before, and what only after. */
interface Pending {
  readonly text: string;
  finish(outcome: SyscallOutcome): string;
}

/** A region of an open device, as its process was told. */
interface Region {
  readonly index: number;
  readonly start: bigint;
  readonly size: bigint;
}

const bytesShown = 16;

/** Traces a host until disposed of; calls that have not ended by then are told as such. */
export class Tracer implements Disposable {
  readonly #host: Host;
  readonly #options: TraceOptions;
  readonly #tell: (call: TracedCall) => void;
  readonly #subscription: Disposable;
  readonly #pending = new Set<() => void>();
  readonly #regions = new WeakMap<File, Region[]>();

  constructor(host: Host, tell: (call: TracedCall) => void, options: TraceOptions = {}) {
    this.#host = host;
    this.#tell = tell;
    this.#options = options;
    this.#subscription = host.syscalls.subscribe((call) => this.#enter(call));
  }

  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]();
    for (const giveUp of this.#pending) giveUp();
    this.#pending.clear();
  }

  #enter(call: Syscall): ((outcome: SyscallOutcome) => void) | undefined {
    const pending = this.#show(call);
    if (!pending) return undefined;
    const { pid, comm } = call.process;
    const base = { time: this.#host.clock.now(), pid, comm };
    const giveUp = () => this.#tell({ ...base, call: pending.text, result: '? <unfinished>', failed: false });
    this.#pending.add(giveUp);
    return (outcome) => {
      if (!this.#pending.delete(giveUp)) return;
      this.#tell({ ...base, call: pending.finish(outcome), ...resultOf(outcome) });
    };
  }

  #show(call: Syscall): Pending | undefined {
    const { name, args, process } = call;
    const file = typeof args.fd === 'number' ? process.files.getOrUndefined(args.fd) : undefined;
    const kind = file && uapiFile(file.label);
    const path = typeof args.path === 'string' ? args.path : undefined;
    const isVfio = kind !== undefined || (name === 'open' && path !== undefined && uapiFile(path) !== undefined);
    if (!isVfio && this.#options.all !== true) return undefined;
    if (name === 'ioctl' && file && kind) return this.#ioctl(call, file, kind);
    if (call.buffer) return this.#transfer(call, file);
    if (name === 'open') return constant(`open(${JSON.stringify(path)}, ${openFlags(Number(args.flags))})`);
    return constant(`${name}(${this.#arguments(call, file)})`);
  }

  #arguments({ args }: Syscall, file: File | undefined): string {
    const parts = Object.entries(args).map(([key, value]) => {
      if (key === 'fd' && file) return described(Number(value), file);
      if (key === 'prot') return bitsText(BigInt(value ?? 0), { READ: Prot.READ, WRITE: Prot.WRITE, EXEC: Prot.EXEC });
      if (key === 'offset' && file && value !== undefined) return `offset=${this.#place(file, BigInt(value))}`;
      if (typeof value === 'string') return JSON.stringify(value);
      if (key === 'addr' && value === 0n) return 'NULL';
      return `${key}=${typeof value === 'bigint' ? hex(value) : String(value)}`;
    });
    return parts.join(', ');
  }

  #ioctl({ process, args }: Syscall, file: File, kind: UapiFile): Pending {
    const fd = Number(args.fd);
    const request = Number(args.request);
    const address = BigInt(args.arg ?? 0);
    const known = uapiCall(kind, request);
    if (!known) return constant(`ioctl(${described(fd, file)}, ${hex(request)}, ${hex(address)})`);
    const argument = showArgument(process, known, address);
    const start = `ioctl(${[described(fd, file), known.name].join(', ')}`;
    const text = `${start}${argument.before === '' ? '' : `, ${argument.before}`}`;
    return {
      text: `${text})`,
      finish: (outcome) => {
        const failed = 'error' in outcome;
        const after = argument.after(failed);
        if (!failed && kind === 'device' && request === Request.DEVICE_GET_REGION_INFO) {
          this.#learnRegion(file, argument.values());
        }
        return `${text}${after === '' ? '' : ` => ${after}`})`;
      },
    };
  }

  #transfer({ name, process, args, buffer }: Syscall, file: File | undefined): Pending {
    const fd = Number(args.fd);
    const length = Number(args.count);
    const where = args.offset === undefined ? '' : `, ${file ? this.#place(file, BigInt(args.offset)) : args.offset}`;
    const isWrite = name.endsWith('write');
    const bytes = (count: number) => {
      const most = Math.min(count, bytesShown + 1);
      const found =
        buffer instanceof Uint8Array ? buffer.subarray(0, most) : peek(process.mm, BigInt(args.addr ?? 0), most);
      return bytesText(found, bytesShown);
    };
    const write = (shown: string) => `${name}(${described(fd, file)}, ${shown}, ${length}${where})`;
    const sent = isWrite ? bytes(length) : '';
    return {
      text: write(isWrite ? sent : '...'),
      finish: (outcome) => {
        if (isWrite) return write(sent);
        return write('value' in outcome && typeof outcome.value === 'number' ? bytes(outcome.value) : address(args));
      },
    };
  }

  #learnRegion(file: File, values: Readonly<Record<string, unknown>> | undefined): void {
    const { index, offset, size } = values ?? {};
    if (typeof index !== 'number' || typeof offset !== 'bigint' || typeof size !== 'bigint') return;
    const others = (this.#regions.get(file) ?? []).filter((region) => region.index !== index);
    this.#regions.set(file, [...others, { index, start: offset, size }]);
  }

  /** An offset in a file: of a device in one of its regions, if the process asked for those. */
  #place(file: File, offset: bigint): string {
    const region = this.#regions.get(file)?.find(({ start, size }) => offset >= start && offset < start + size);
    return region ? `${hex(offset)} /* region ${region.index} + ${hex(offset - region.start)} */` : hex(offset);
  }
}

function constant(text: string): Pending {
  return { text, finish: () => text };
}

function described(fd: number, file: File | undefined): string {
  return file ? `${fd}<${file.label}>` : String(fd);
}

function address(args: Syscall['args']): string {
  return typeof args.addr === 'bigint' ? hex(args.addr) : '...';
}

function openFlags(flags: number): string {
  const access = ['O_RDONLY', 'O_WRONLY', 'O_RDWR'][flags & O.ACCMODE] ?? String(flags & O.ACCMODE);
  const rest = flags & ~O.ACCMODE;
  const names = Object.fromEntries(
    Object.entries(O)
      .filter(([name]) => name !== 'ACCMODE')
      .map(([name, bit]) => [`O_${name}`, bit & ~O.ACCMODE]),
  );
  return rest === 0 ? access : `${access}|${bitsText(BigInt(rest), names)}`;
}

function resultOf(outcome: SyscallOutcome): { result: string; failed: boolean } {
  if ('error' in outcome) {
    const { error } = outcome;
    if (isSystemError(error)) return { result: `-1 ${error.code} (${error.reason})`, failed: true };
    return { result: `? ${error instanceof Error ? error.message : String(error)}`, failed: true };
  }
  const { value } = outcome;
  if (typeof value === 'bigint') return { result: hex(value), failed: false };
  return { result: typeof value === 'number' ? String(value) : '0', failed: false };
}

/** The processes of a trace by name and number, as the lines begin. */
export function whose({ comm, pid }: Pick<TracedCall, 'comm' | 'pid'> | Pick<Process, 'comm' | 'pid'>): string {
  return `[${comm}/${pid}]`;
}
