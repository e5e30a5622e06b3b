/**
 * QEMU with a guest: q35, software emulation, memory that other processes can map, an IOMMU as a laptop has one, and
 * two serial ports, one for the kernel's messages and one for the shell.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Device, deviceArguments } from './device.js';
import type { Initramfs } from './initramfs.js';
import { Line } from './line.js';
import { hostProgram, type System } from './system.js';

/** The kernel's words: messages on the first serial port and on the display, without times, so that runs compare. */
const kernelWords = [
  ...['console=tty0', 'console=ttyS0', 'printk.time=0', 'intel_iommu=on', 'panic=-1'],
  // a busy host makes the kernel believe that timer and watchdogs are broken
  ...['no_timer_check', 'nowatchdog', 'rcupdate.rcu_cpu_stall_suppress=1'],
];

/** How a guest is set up. */
export interface EmulatorOptions {
  readonly system: System;
  readonly initramfs: Initramfs;
  readonly devices: readonly Device[];
  /** Directory for sockets and logs. */
  readonly work: string;
  /** Events that QEMU is to trace, `vfio_user*` for example. */
  readonly trace: readonly string[];
}

/** A running QEMU. */
export class Emulator {
  readonly #child: ChildProcess;
  readonly #work: string;
  readonly #ended: Promise<string>;
  #end: string | undefined;
  #monitor: Line | undefined;

  private constructor(child: ChildProcess, work: string) {
    this.#child = child;
    this.#work = work;
    this.#ended = new Promise((resolve) => {
      child.on('error', (error) => resolve(error.message));
      child.on('close', (code, signal) => resolve(signal ? `ended by ${signal}` : `ended with ${code}`));
    });
    void this.#ended.then((end) => {
      this.#end = end;
    });
  }

  /**
   * Starts QEMU. Whether it gets as far as a guest shows in the shell.
   *
   * @param options - of the guest
   */
  static start({ system, initramfs, devices, work, trace }: EmulatorOptions): Emulator {
    const modules = join(system.root, 'usr', 'lib', 'modules', system.kernel);
    const share = join(system.root, 'usr', 'share');
    const machine = [
      ...['-L', join(share, 'qemu'), '-L', join(share, 'seabios')],
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-vga', 'none', '-no-reboot'],
      ...['-machine', 'q35,accel=tcg,memory-backend=ram', '-cpu', 'max', '-m', '512'],
      ...['-object', 'memory-backend-memfd,id=ram,size=512M,share=on'],
      ...['-device', 'intel-iommu,caching-mode=on,intremap=on'],
      ...['-kernel', join(modules, 'vmlinuz'), '-initrd', initramfs.path, '-append', kernelWords.join(' ')],
      ...['-chardev', `file,id=console,path=${join(work, 'console.log')}`, '-serial', 'chardev:console'],
      ...socketChardev('shell', join(work, 'shell.sock')),
      ...['-serial', 'chardev:shell'],
      ...socketChardev('wire', join(work, 'wire.sock')),
      ...['-qmp', `unix:${join(work, 'monitor.sock')},server=on,wait=off`],
    ];
    const traces = trace.flatMap((event) => ['-trace', event]);
    const words = [...machine, ...devices.flatMap(deviceArguments), ...traces];
    const { command, args } = hostProgram(system.root, 'qemu-system-x86_64', words);
    const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    child.stderr?.pipe(createWriteStream(join(work, 'qemu.log')));
    return new Emulator(child, work);
  }

  /** How it ended; undefined while it runs. */
  get end(): string | undefined {
    return this.#end;
  }

  /** The other end of a serial port: the guest's shell, or the line of QEMU's own serial card. */
  open(name: 'shell' | 'wire'): Promise<Line> {
    return Line.open(join(this.#work, `${name}.sock`));
  }

  /** What the kernel has said so far. */
  async console(): Promise<string> {
    return await readFile(join(this.#work, 'console.log'), 'latin1').catch(() => '');
  }

  /** What QEMU itself has said so far. */
  async log(): Promise<string> {
    return await readFile(join(this.#work, 'qemu.log'), 'utf8').catch(() => '');
  }

  /**
   * Has QEMU do something.
   *
   * @param execute - a command of its monitor protocol
   * @param words - its arguments
   * @throws Error - it answers with an error
   */
  async command(execute: string, words: Record<string, unknown> = {}): Promise<void> {
    if (!this.#monitor) {
      this.#monitor = await Line.open(join(this.#work, 'monitor.sock'));
      await this.#monitor.until(/\{"QMP"[^\n]*\n/, 10_000);
      await this.command('qmp_capabilities');
    }
    this.#monitor.send(`${JSON.stringify({ execute, arguments: words })}\n`);
    const { match } = await this.#monitor.until(/\{"(return|error)"[^\n]*\n/, 30_000);
    if (match[1] === 'error') throw new Error(`${execute}: ${match[0].trim()}`);
  }

  /** Ends QEMU, as a power cut would. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#monitor?.[Symbol.dispose]();
    this.#child.kill('SIGKILL');
    await this.#ended;
  }
}

function socketChardev(id: string, path: string): string[] {
  return ['-chardev', `socket,id=${id},path=${path},server=on,wait=off`];
}
