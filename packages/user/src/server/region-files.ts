// Regions that the client maps: while it has the device, their memory lives in a file of its own, of which the client gets a
// descriptor. Registers, which have to see each access, are no memory, and are reached by messages only.

import type { Region, RegionArea } from '@vfio/client';
import { type Host, PAGE_SIZE, type PageRange, type PinnedRun, type Process, Prot, Undo } from '@vfio/host';
import { type Fd, type Linux, memfd, type NativeMemory, Seal } from '@vfio/sys';

/** The memory of a region, in a file. */
export interface RegionFile {
  readonly fd: number;
  /** What can be mapped, whole pages; undefined for the whole region. */
  readonly areas: readonly RegionArea[] | undefined;
}

/** Memory that was moved to a file, and what keeps it there. */
interface Moved {
  readonly range: PageRange;
  readonly run: PinnedRun;
  readonly mapping: NativeMemory;
}

/** An exported region. */
interface Exported extends RegionFile {
  readonly file: Fd;
  readonly moved: readonly Moved[];
}

/** A memory of many pieces would be a file of many mappings. */
const mostPieces = 256;

/** What files of regions are made with. */
export interface RegionFilesContext {
  readonly linux: Linux;
  readonly host: Host;
  readonly process: Process;
  /** Descriptor of the device, of that process. */
  readonly device: number;
}

/** The files of the regions of one open device. */
export class RegionFiles {
  readonly #context: RegionFilesContext;
  /** By region; undefined of one that is no memory. */
  readonly #known = new Map<number, Exported | undefined>();

  constructor(context: RegionFilesContext) {
    this.#context = context;
  }

  /**
   * The file of a region, made when it is asked for first.
   *
   * @returns undefined for a region that can not be mapped, or is no memory of its own
   * @throws SystemError - EMFILE, ENOMEM
   */
  async of(region: Region): Promise<RegionFile | undefined> {
    if (!this.#known.has(region.index)) this.#known.set(region.index, await this.#export(region));
    return this.#known.get(region.index);
  }

  /** Takes the memory out of the files. Who still maps one has its last contents, and nothing that comes after. */
  close(): void {
    for (const exported of this.#known.values()) if (exported !== undefined) this.#close(exported);
    this.#known.clear();
  }

  async #export(region: Region): Promise<Exported | undefined> {
    if (!region.mappable || region.size === 0n) return undefined;
    const areas = region.sparseAreas;
    const { linux } = this.#context;
    await using undo = new Undo();
    const seals = Seal.SHRINK | Seal.GROW | Seal.SEAL;
    const file = memfd(linux, `region ${region.index}`, Number(region.size), seals);
    undo.add(() => file.close());
    const moved: Moved[] = [];
    undo.add(() => {
      for (const one of moved) this.#moveBack(one);
    });
    for (const area of areas ?? [{ offset: 0n, size: region.size }]) {
      if (!(await this.#moveArea(region, area, file, moved))) return undefined;
    }
    undo.keep();
    return { fd: file.number, areas, file, moved };
  }

  /** Moves the memory behind an area to the file. Returns false when it is not memory, or holds more than the area. */
  async #moveArea(region: Region, area: RegionArea, file: Fd, moved: Moved[]): Promise<boolean> {
    const { linux } = this.#context;
    const runs = await this.#pin(region, area);
    const pieces: { run: PinnedRun; range: PageRange; offset: number }[] = [];
    let offset = Number(area.offset);
    for (const run of runs) {
      const range = this.#wholeRange(run);
      if (range !== undefined) pieces.push({ run, range, offset });
      offset += run.pages * PAGE_SIZE;
    }
    if (pieces.length < runs.length || pieces.length > mostPieces || pieces.length === 0) {
      for (const run of runs) run.unpin();
      return false;
    }
    for (const [i, { run, range, offset: at }] of pieces.entries()) {
      try {
        const mapping = linux.map(file.number, { offset: at, length: range.length, write: true }, 'a region');
        range.moveTo(mapping.bytes);
        moved.push({ range, run, mapping });
      } catch (error) {
        for (const { run: left } of pieces.slice(i)) left.unpin();
        throw error;
      }
    }
    return true;
  }

  /** The frames behind an area, held; none if the device does not give them. */
  async #pin(region: Region, area: RegionArea): Promise<PinnedRun[]> {
    const { process, device } = this.#context;
    const length = Number(area.size);
    const prot = Prot.READ | (region.writable ? Prot.WRITE : 0);
    const position = region.offset + area.offset;
    const vaddr = await process.mmap(device, { offset: position, length, prot, shared: true });
    try {
      return process.mm.pinPages(vaddr, length / PAGE_SIZE, region.writable);
    } catch {
      return [];
    } finally {
      await process.munmap(vaddr, length);
    }
  }

  /** The memory that a run is all of: the client may see what else is in the device, and nothing else of the host. */
  #wholeRange(run: PinnedRun): PageRange | undefined {
    const range = run.reserved ? undefined : this.#context.host.memory.at(run.pfn);
    return range?.basePfn === run.pfn && range.pages === run.pages ? range : undefined;
  }

  #close({ moved, file }: Exported): void {
    for (const one of moved) this.#moveBack(one);
    file.close();
  }

  #moveBack({ range, run, mapping }: Moved): void {
    range.moveTo(new Uint8Array(range.length));
    run.unpin();
    mapping[Symbol.dispose]();
  }
}
