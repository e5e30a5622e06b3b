import {
  Host,
  type HostOptions,
  InodeMapping,
  type IoctlCall,
  type Mapping,
  type MmapRequest,
  File as OpenFile,
  Poll,
  SystemError,
  type UserBuffer,
  VirtualClock,
} from '@vfio/host';
import { parseScript } from '../src/script/parse.js';
import { type RunOptions, runScript } from '../src/script/run.js';
import type { TranscriptLine, TranscriptStep } from '../src/script/transcript.js';

/** A device with a page of registers at /dev/lab, for what no file of the host itself shows. */
export class LabFile extends OpenFile {
  readonly registers = new Uint8Array(4096);
  /** Bits that a write can change, by register; all of them where nothing is said. */
  readonly changeable = new Map<number, number>();
  readonly accesses: string[] = [];
  bits: number = Poll.IN;
  override readonly mapping = new InodeMapping();
  onIoctl: (call: IoctlCall) => number | Promise<number> = () => 0;
  onWrite: (offset: number, length: number) => number = (_offset, length) => length;

  constructor(flags: number) {
    super({ flags, label: '/dev/lab', seek: 'none' });
  }

  override ioctl(call: IoctlCall): number | Promise<number> {
    return this.onIoctl(call);
  }

  override read(buffer: UserBuffer, position: number): number {
    if (position >= this.registers.length) throw new SystemError('ENXIO', 'no such register');
    const count = Math.min(buffer.length, this.registers.length - position);
    if (buffer.bytes.length < count) throw new SystemError('EFAULT', 'the buffer ends');
    buffer.bytes.set(this.registers.subarray(position, position + count));
    return count;
  }

  override write(buffer: UserBuffer, position: number): number {
    if (buffer.bytes.length < buffer.length) throw new SystemError('EFAULT', 'the buffer ends');
    const count = this.onWrite(position, buffer.length);
    for (let i = 0; i < count; i++) {
      const mask = this.changeable.get(position + i) ?? 0xff;
      const kept = (this.registers[position + i] ?? 0) & ~mask;
      this.registers[position + i] = kept | ((buffer.bytes[i] ?? 0) & mask);
    }
    return count;
  }

  override poll(): number {
    return this.bits;
  }

  override onPoll(): Disposable {
    return { [Symbol.dispose]: () => undefined };
  }

  override fdinfo(): string[] {
    return ['lab-driver: yes', 'pos-like: no'];
  }

  override mmap(request: MmapRequest): Mapping {
    if (request.offset >= 8192) throw new SystemError('EINVAL', 'outside');
    return {
      kind: 'io',
      load: (offset, size) => {
        this.accesses.push(`load ${offset} ${size}`);
        if (request.offset > 0) return 'SIGBUS';
        let value = 0n;
        for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.registers[offset + i] ?? 0);
        return value;
      },
      store: (offset, size, value) => {
        this.accesses.push(`store ${offset} ${size}`);
        if (request.offset > 0) return 'SIGBUS';
        for (let i = 0; i < size; i++) this.registers[offset + i] = Number((value >> BigInt(8 * i)) & 0xffn);
        return undefined;
      },
    };
  }
}

/** A host with the lab device, and scripts run on it. */
export class ScriptLab implements AsyncDisposable {
  readonly clock = new VirtualClock();
  readonly host: Host;
  readonly files: LabFile[] = [];
  /** What the next file is made of. */
  prepare: (file: LabFile) => void = () => undefined;

  constructor(options: HostOptions = {}) {
    this.host = new Host({ checked: true, clock: this.clock, ...options });
    this.host.devtmpfs.add({
      path: 'lab',
      major: 240,
      minor: 7,
      open: (_process, flags) => {
        const file = new LabFile(flags);
        this.files.push(file);
        this.prepare(file);
        return file;
      },
    });
  }

  /** Runs a script; what it throws at the end is `error`. */
  async run(text: string, options: RunOptions = {}): Promise<{ lines: TranscriptLine[]; error: unknown }> {
    const lines: TranscriptLine[] = [];
    const script = parseScript(text, 'lab.vfs');
    try {
      for await (const line of runScript(script, this.host.spawn({ comm: 'lab' }), { clock: this.clock, ...options })) {
        lines.push(line);
      }
      return { lines, error: undefined };
    } catch (error) {
      return { lines, error };
    }
  }

  /** Runs a script that goes to its end, and gives what each step found out. */
  async steps(text: string, options: RunOptions = {}): Promise<Omit<TranscriptStep, 'n' | 'line' | 'op' | 'src'>[]> {
    const { lines, error } = await this.run(text, options);
    if (error !== undefined) throw error;
    return lines.flatMap((line) => {
      if (!('op' in line)) return [];
      const { n, line: number, op, src, ...rest } = line;
      return [rest];
    });
  }

  /** What the last step of a script found out. */
  async last(text: string, options: RunOptions = {}): Promise<Omit<TranscriptStep, 'n' | 'line' | 'op' | 'src'>> {
    return (await this.steps(text, options)).at(-1)!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.host[Symbol.asyncDispose]();
  }
}
