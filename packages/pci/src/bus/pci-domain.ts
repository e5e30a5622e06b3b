/*
 * A domain: everything below one host bridge, with the address windows that it passes on.
 */
import { type Device, type Host, type MmioWindow, PAGE_SIZE } from '@vfio/host';
import type { PciBusType } from './bus-type.js';
import { readConfigWord } from './config.js';
import { widthAt } from './cycles.js';
import type { PciRoot, PciWidth } from './function.js';
import { PciBus } from './pci-bus.js';
import type { PciDev } from './pci-dev.js';
import { Command, Reg, ResourceIndex } from './regs.js';
import { Resource, ResourceFlag, ResourceTree } from './resource-tree.js';

const MEMORY_END = 2 ** 52 - 1;
const IO_END = 0xffff_ffff;
const LAST_BUS = 0xff;

/** A BAR or the ROM of a function. */
interface Owner {
  readonly pdev: PciDev;
  readonly index: number;
}

/**
 * A host bridge and what is below.
 *
 * @source include/linux/pci.h struct pci_host_bridge
 */
export class PciDomain {
  readonly number: number;
  readonly type: PciBusType;
  readonly host: Host;
  readonly root: PciRoot;
  /** `pci0000:00`, the directory that everything is below. */
  readonly bridge: Device;
  readonly rootBus: PciBus;
  /** Who has which memory and ports, in the windows of the host bridge. */
  readonly memory: ResourceTree;
  readonly io: ResourceTree;
  /** What the host bridge passes on. */
  readonly windows: readonly Resource[];
  /** What comes behind may be another host bridge's. */
  readonly lastBus: number;
  /** All buses by number. */
  readonly buses = new Map<number, PciBus>();
  /** Keeps its memory reachable for DMA. */
  mmio: Disposable | undefined;
  readonly #owners = new Map<Resource, Owner>();

  constructor(type: PciBusType, root: PciRoot, bridge: Device) {
    this.number = root.domain;
    this.type = type;
    this.host = type.host;
    this.root = root;
    this.bridge = bridge;
    this.rootBus = new PciBus(this, root.bus, root.segment);
    this.lastBus = root.lastBus ?? LAST_BUS;
    this.rootBus.subordinate = this.lastBus;
    this.memory = new ResourceTree('PCI mem', MEMORY_END);
    this.io = new ResourceTree('PCI IO', IO_END);
    const name = `PCI Bus ${bridge.name.slice('pci'.length)}`;
    const io = root.io.map(({ start, end }) => new Resource(name, start, end, ResourceFlag.IO));
    const memory = root.memory.map(({ start, end }) => new Resource(name, start, end, ResourceFlag.MEM));
    for (const window of io) this.io.request(this.io.root, window);
    for (const window of memory) this.memory.request(this.memory.root, window);
    this.windows = [...io, ...memory];
  }

  /** The bus of a number. */
  busAt(number: number): PciBus | undefined {
    return this.buses.get(number);
  }

  /** Whether a number belongs to a bus, also below another host bridge of the same domain. */
  busTaken(number: number): boolean {
    const beside = this.type.domains.some((one) => one.number === this.number && one.buses.has(number));
    return beside || this.buses.has(number);
  }

  /** The tree that a resource is in. */
  tree(resource: Resource): ResourceTree {
    return (resource.flags & ResourceFlag.IO) !== 0 ? this.io : this.memory;
  }

  /**
   * A resource of a function is where it is from now on.
   *
   * @throws EBUSY - the addresses are taken
   */
  claim(parent: Resource, pdev: PciDev, index: number, resource: Resource): void {
    this.tree(resource).request(parent, resource);
    this.#owners.set(resource, { pdev, index });
  }

  /** The addresses of a resource are free again. */
  release(resource: Resource): void {
    this.tree(resource).release(resource);
    this.#owners.delete(resource);
  }

  /**
   * Makes the memory below the host bridge reachable for DMA of other devices.
   *
   * @returns what takes it away again
   * @throws EBUSY - there is memory at the addresses of a window
   */
  addMmio(): Disposable {
    const added: Disposable[] = [];
    const remove = () => {
      for (const window of added.splice(0).reverse()) window[Symbol.dispose]();
    };
    try {
      for (const { start, end } of this.root.memory) {
        const first = Math.floor(start / PAGE_SIZE);
        const pages = Math.floor(end / PAGE_SIZE) - first + 1;
        added.push(this.host.memory.addMmio(first, pages, this.#mmio(first * PAGE_SIZE)));
      }
    } catch (error) {
      remove();
      throw error;
    }
    return { [Symbol.dispose]: remove };
  }

  #mmio(base: number): MmioWindow {
    return {
      read: (offset, into) => {
        for (let done = 0; done < into.length; ) {
          const address = base + offset + done;
          const width = widthAt(address, into.length - done);
          const value = this.#read(address, width);
          for (let byte = 0; byte < width; byte++) into[done + byte] = value >>> (8 * byte);
          done += width;
        }
      },
      write: (offset, from) => {
        for (let done = 0; done < from.length; ) {
          const address = base + offset + done;
          const width = widthAt(address, from.length - done);
          let value = 0;
          for (let byte = 0; byte < width; byte++) value |= (from[done + byte] ?? 0) << (8 * byte);
          this.#write(address, width, value >>> 0);
          done += width;
        }
      },
    };
  }

  #read(address: number, width: PciWidth): number {
    const owner = this.#decoder(address);
    return owner === undefined ? 0xffff_ffff : owner.pdev.hw.readBar(owner.bar, owner.offset, width);
  }

  #write(address: number, width: PciWidth, value: number): void {
    const owner = this.#decoder(address);
    owner?.pdev.hw.writeBar(owner.bar, owner.offset, width, value);
  }

  /** The function that has an address, if the bridges above it pass it on. Whether it decodes is its own business. */
  #decoder(address: number): { readonly pdev: PciDev; readonly bar: number; readonly offset: number } | undefined {
    for (let at = this.memory.find(address); at; at = at.parent) {
      const owner = this.#owners.get(at);
      if (owner === undefined || owner.index > ResourceIndex.ROM || owner.pdev.disconnected) continue;
      if (!reachable(owner.pdev)) return undefined;
      return { pdev: owner.pdev, bar: owner.index, offset: address - at.start };
    }
    return undefined;
  }
}

function reachable(pdev: PciDev): boolean {
  for (let bridge = pdev.pciBus.self; bridge; bridge = bridge.pciBus.self) {
    if ((readConfigWord(bridge, Reg.COMMAND) & Command.MEMORY) === 0) return false;
  }
  return true;
}
