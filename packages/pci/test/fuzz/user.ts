/*
 * How a random program is done: by a process with an open function, and now and then by the hardware or an administrator.
 */
import { regionStart } from '@vfio/core';
import { PAGE_SIZE, Prot } from '@vfio/host';
import type { PciDev } from '../../src/bus/pci-dev.js';
import { Exp, Pm, Reg, STD_HEADER_SIZE } from '../../src/bus/regs.js';
import { EmulatedFunction } from '../../src/hardware/function.js';
import { CONFIG } from '../core/core-lab.js';
import type { FuzzLab } from './fuzz-lab.js';
import { EVENTS, RAW, type Step, type StepOf } from './program.js';
import { type RequestStep, Requests } from './requests.js';

const PATTERN = 0x5a5a_a5a5_1234_8765n;

type OtherStep = RequestStep | StepOf<'reopen' | 'openBeside' | 'sysfsReset' | 'time' | 'interrupt' | 'error'>;

/** A process that runs a program. */
export class FuzzUser {
  readonly #lab: FuzzLab;
  readonly #sizes: readonly number[];
  readonly #regions: readonly number[];
  readonly #events: readonly number[];
  readonly #caps: readonly number[];
  readonly #requests: Requests;

  private constructor(lab: FuzzLab, sizes: readonly number[], counts: readonly number[]) {
    const { process, pdev } = lab;
    this.#lab = lab;
    this.#sizes = sizes;
    this.#regions = present(sizes);
    this.#events = Array.from({ length: EVENTS }, () => process.eventfd(0, { nonblock: true }));
    this.#caps = [0, Reg.BASE_ADDRESS_0, Reg.ROM_ADDRESS, ...placesOf(pdev)];
    this.#requests = new Requests(lab, this.#events, present(counts));
  }

  static async create(lab: FuzzLab): Promise<FuzzUser> {
    return new FuzzUser(lab, await lab.regionSizes(), await lab.irqCounts());
  }

  /** Does one step. @throws what the call says */
  async run(step: Step): Promise<unknown> {
    const { process, fd, pdev } = this.#lab;
    switch (step.do) {
      case 'read':
        return await process.pread(fd, new Uint8Array(step.bytes.length), this.#position(step));
      case 'write':
        return await process.pwrite(fd, Uint8Array.from(step.bytes), this.#position(step));
      case 'readConfig':
        return await process.pread(fd, new Uint8Array(step.bytes.length), this.#place(step));
      case 'writeConfig':
        return await process.pwrite(fd, Uint8Array.from(step.bytes), this.#place(step));
      case 'command':
        return await this.#writeWord(Reg.COMMAND, step.value);
      case 'powerState':
        return pdev.pmCap > 0 && (await this.#writeWord(pdev.pmCap + Pm.CTRL, step.value));
      case 'flr':
        return pdev.pcieCap > 0 && (await this.#writeWord(pdev.pcieCap + Exp.DEVCTL, Exp.DEVCTL_BCR_FLR));
      case 'mmap':
        return await this.#mmap(step);
      case 'load':
        return process.mm.load(this.#mapping(step), step.size);
      case 'store':
        return process.mm.store(this.#mapping(step), step.size, BigInt.asUintN(8 * step.size, PATTERN));
      case 'munmap':
        return await process.munmap(this.#mapping({ ...step, at: 0 }), PAGE_SIZE);
      case 'signal':
        return await process.write(this.#events[step.event] ?? -1, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
      case 'drain':
        return await process.read(this.#events[step.event] ?? -1, new Uint8Array(8));
      default:
        return await this.#other(step);
    }
  }

  async #other(step: OtherStep): Promise<unknown> {
    const lab = this.#lab;
    switch (step.do) {
      case 'reopen':
        await lab.close();
        return await lab.open();
      case 'openBeside':
        return await lab.openBeside(0);
      case 'sysfsReset':
        return await lab.host.init.writeFile(`/sys/bus/pci/devices/${lab.target.name}/reset`, '1');
      case 'time':
        return await lab.clock.advance(step.ms);
      case 'interrupt':
        return interrupt(lab.pdev, step.vector);
      case 'error':
        return emulated(lab.pdev).port?.reportError('non-fatal');
      default:
        return await this.#requests.ioctl(step);
    }
  }

  async #writeWord(at: number, value: number): Promise<number> {
    const { process, fd } = this.#lab;
    return await process.pwrite(fd, Uint8Array.of(value & 0xff, value >> 8), config(at));
  }

  async #mmap({ region, page, pages, shared }: StepOf<'mmap'>): Promise<void> {
    const { process, fd, mappings } = this.#lab;
    const length = pages * PAGE_SIZE;
    const offset = regionStart(this.#region(region)) + BigInt(page * PAGE_SIZE);
    const at = await process.mmap(fd, { offset, length, prot: Prot.READ | Prot.WRITE, shared });
    mappings.push({ at, length });
  }

  #mapping({ mapping, at }: { readonly mapping: number; readonly at: number }): bigint {
    const { mappings } = this.#lab;
    return (mappings[mapping % Math.max(mappings.length, 1)]?.at ?? 0n) + BigInt(at);
  }

  #region(region: number): number {
    return region >= RAW ? region - RAW : (this.#regions[region % this.#regions.length] ?? 0);
  }

  #position(step: { readonly region: number; readonly at: number }): bigint {
    const region = this.#region(step.region);
    const at = step.at < 0 ? Math.max((this.#sizes[region] ?? 0) + step.at, 0) : step.at;
    return regionStart(region) + BigInt(at);
  }

  #place({ cap, at }: { readonly cap: number; readonly at: number }): bigint {
    return config((this.#caps[cap % this.#caps.length] ?? 0) + at);
  }
}

/** Where something is, of so many of each. */
function present(counts: readonly number[]): number[] {
  return counts.flatMap((count, index) => (count > 0 ? [index] : []));
}

/** Where capabilities are, and ends of config space. */
function placesOf(pdev: PciDev): number[] {
  const { capabilities } = emulated(pdev);
  const all = [...capabilities.standard(), ...capabilities.extended()].map(({ offset }) => offset);
  return [...all, STD_HEADER_SIZE, pdev.cfgSize - 0x10];
}

/** Whatever the function can interrupt with, it does; its pin stays asserted until the next time. */
function interrupt(pdev: PciDev, vector: number): void {
  const fn = emulated(pdev);
  fn.setIntx((vector & 1) === 1);
  if (fn.msi && vector < 2 ** fn.msi.allocated) fn.msi.fire(vector);
  if (fn.msix && vector < fn.msix.vectors) fn.msix.fire(vector);
}

function emulated({ hw, name }: PciDev): EmulatedFunction {
  if (!(hw instanceof EmulatedFunction)) throw new TypeError(`${name} is no recorded function`);
  return hw;
}

function config(at: number): bigint {
  return regionStart(CONFIG) + BigInt(at);
}
