/**
 * A booted guest, as the steps see it: a shell, the host's side of its devices, and the transcript that they fill.
 */

import { join } from 'node:path';
import type { Device } from './device.js';
import type { Emulator } from './emulator.js';
import { type Line, TimedOut } from './line.js';
import type { Transcript } from './transcript.js';

/** How long a boot may take under emulation on a machine that has other things to do, in milliseconds. */
const bootMs = 300_000;

/** How long one command may take. */
const commandMs = 60_000;

/** What no program prints: the character `record separator`. */
const separator = String.fromCharCode(0o36);

/** The end of a command's output: a record separator, the command's id, its exit status. */
const endOfOutput = new RegExp(`${separator}(\\d+) (\\d+)\\n`);

/** What a step expects. */
export interface Expectations {
  /** What has to be in the output. */
  readonly expect?: readonly RegExp[];
  /** What may not be in it. */
  readonly refuse?: readonly RegExp[];
  /** What the host does while the command runs; what it returns is added to the output. */
  readonly meanwhile?: () => Promise<string>;
}

/** A guest whose first program waits for commands. */
export class Guest {
  readonly emulator: Emulator;
  readonly transcript: Transcript;
  /** Directory for pictures and logs. */
  readonly work: string;
  /** Whether it has the program of `guest/probe`. */
  readonly probe: boolean;
  readonly #shell: Line;
  #id = 0;

  private constructor(
    emulator: Emulator,
    shell: Line,
    options: { transcript: Transcript; work: string; probe: boolean },
  ) {
    this.emulator = emulator;
    this.#shell = shell;
    this.transcript = options.transcript;
    this.work = options.work;
    this.probe = options.probe;
  }

  /**
   * Waits until the guest's first program is there.
   *
   * @throws TimedOut - it does not come, with the last that the kernel and QEMU said
   */
  static async boot(
    emulator: Emulator,
    options: { transcript: Transcript; work: string; probe: boolean },
  ): Promise<Guest> {
    try {
      const shell = await emulator.open('shell');
      await shell.until(endOfOutput, bootMs);
      return new Guest(emulator, shell, options);
    } catch (error) {
      if (!(error instanceof TimedOut)) throw error;
      const said = [await emulator.log(), await emulator.console()].map((text) =>
        text.split('\n').slice(-40).join('\n'),
      );
      const end = emulator.end ? `QEMU ${emulator.end}` : 'QEMU still runs';
      throw new TimedOut(
        `the guest did not come up (${end}); the last of QEMU and the kernel:\n${said.join('\n---\n')}`,
      );
    }
  }

  /**
   * Runs a command in the guest.
   *
   * @param command - one line for its shell
   * @returns its output and exit status
   * @throws TimedOut - it does not end
   */
  async run(command: string): Promise<{ output: string; status: number }> {
    const id = ++this.#id;
    this.#shell.send(`${id} ${command}\n`);
    for (;;) {
      const { match, before } = await this.#shell.until(endOfOutput, commandMs);
      // an earlier command that took too long may have ended meanwhile
      if (Number(match[1]) === id) return { output: before, status: Number(match[2]) };
    }
  }

  /**
   * Runs a command whose output is part of the transcript.
   *
   * @param device - that it is about
   * @param what - what holds if the output is as expected
   * @param command - one line for the guest's shell
   * @param expectations - what has to be in the output, and what the host does meanwhile
   * @returns the output
   */
  async step(device: Device, what: string, command: string, expectations: Expectations): Promise<string> {
    const { expect = [], refuse = [], meanwhile } = expectations;
    try {
      const [{ output, status }, more] = await Promise.all([this.run(command), meanwhile?.() ?? '']);
      const whole = `${output}${more}`;
      const missing = expect.filter((pattern) => !pattern.test(whole)).map(String);
      for (const pattern of refuse) if (pattern.test(whole)) missing.push(`nothing like ${pattern}`);
      if (status !== 0) missing.push(`exit status 0, got ${status}`);
      this.transcript.add({ device: device.name, what, command, output: whole, missing });
      return whole;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.transcript.add({ device: device.name, what, command, output: '', missing: [reason] });
      return '';
    }
  }

  /**
   * Notes what the host finds, as a step of its own.
   *
   * @param device - that it is about
   * @param what - what holds
   * @param command - what is looked at, in words
   * @param look - what was found, and what is wrong with it
   */
  async look(
    device: Device,
    what: string,
    command: string,
    look: () => Promise<{ output: string; missing: string[] }>,
  ): Promise<void> {
    const entry = { device: device.name, what, command: `# ${command}` };
    try {
      this.transcript.add({ ...entry, ...(await look()) });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.transcript.add({ ...entry, output: '', missing: [reason] });
    }
  }

  /** Path for a picture or a log of this run. */
  file(name: string): string {
    return join(this.work, name);
  }
}
