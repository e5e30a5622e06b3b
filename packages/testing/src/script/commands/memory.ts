// Commands on memory: mappings, single accesses, and filling and comparing areas.

import { Prot } from '@vfio/host';
import { type Command, type CommandCall, wordAt } from '../command.js';
import { ScriptMistake } from '../errors.js';
import { buildItems } from '../items.js';
import { attempt, showOutcome } from '../outcome.js';
import { hex64, showBytes } from '../output.js';
import { needScalar, swapBytes } from '../scalar.js';

/** Alignment that `align2m` asks for. */
const HUGE_PAGE = 2n << 20n;

/** Longest area that is read or filled byte by byte. */
const MAX_BYTES = 64n << 20n;

async function mmap(call: CommandCall): Promise<void> {
  const { process, names } = call.scope;
  const name = wordAt(call, 1);
  const length = names.evaluate(wordAt(call, 4));
  const mapped = await attempt(() =>
    process.mmap(names.descriptor(wordAt(call, 2)), {
      length,
      prot: protection(wordAt(call, 5)),
      shared: wordAt(call, 6) !== 'private',
      offset: names.evaluate(wordAt(call, 3)),
    }),
  );
  names.areas.set(name, mapped.ok ? { address: mapped.value, length } : { address: 0n, length: 0n });
  showOutcome(call.result, mapped, 'ptr');
}

async function anon(call: CommandCall): Promise<void> {
  const { process, names } = call.scope;
  const length = names.evaluate(wordAt(call, 2));
  const words = call.words.slice(3);
  const alignment = words.includes('align2m') ? HUGE_PAGE : 0n;
  const mapped = await attempt(() =>
    process.mm.mmap({
      length: length + alignment,
      prot: Prot.READ | Prot.WRITE,
      shared: words.includes('shared'),
      hugetlb: words.includes('huge'),
    }),
  );
  showOutcome(call.result, mapped, 'ptr');
  if (!mapped.ok) return;
  const address = alignment > 0n ? (mapped.value + alignment - 1n) & -alignment : mapped.value;
  for (const word of words) {
    if (word === 'none') await attempt(() => process.mprotect(address, length, Prot.NONE));
    if (word === 'ro') await attempt(() => process.mprotect(address, length, Prot.READ));
  }
  names.areas.set(wordAt(call, 1), { address, length });
}

async function munmap(call: CommandCall): Promise<void> {
  const { process, names } = call.scope;
  const area = names.area(wordAt(call, 1));
  const part = call.words.length > 3;
  const address = part ? area.address + names.evaluate(wordAt(call, 2)) : area.address;
  const length = part ? names.evaluate(wordAt(call, 3)) : area.length;
  showOutcome(call.result, await attempt(() => process.munmap(BigInt.asUintN(64, address), length)), 0);
}

async function mprotect(call: CommandCall): Promise<void> {
  const { process, names } = call.scope;
  const { address, length } = names.area(wordAt(call, 1));
  const prot = protection(wordAt(call, 2));
  showOutcome(call.result, await attempt(() => process.mprotect(address, length, prot)), 0);
}

function protection(text: string): number {
  if (text === 'none') return Prot.NONE;
  let prot: number = Prot.NONE;
  if (text.includes('r')) prot |= Prot.READ;
  if (text.includes('w')) prot |= Prot.WRITE;
  if (text.includes('x')) prot |= Prot.EXEC;
  return prot;
}

function peek(call: CommandCall): void {
  const { names, memory } = call.scope;
  const { result, options } = call;
  const scalar = needScalar(wordAt(call, 1));
  const area = names.area(wordAt(call, 2));
  const address = area.address + names.evaluate(wordAt(call, 3));
  const count = call.words.length > 4 ? names.evaluate(wordAt(call, 4)) : 1n;
  const swap = scalar.order !== undefined && scalar.order !== names.byteOrder;
  const values: bigint[] = [];
  for (let i = 0n; i < count; i++) {
    const access = memory.load(address + i * BigInt(scalar.size), scalar.size);
    if ('fault' in access) {
      result.fault = access.fault;
      return;
    }
    values.push(swap ? swapBytes(access.value, scalar.size) : access.value);
  }
  const [first] = values;
  if (count !== 1n || first === undefined) {
    result.values = values.map(hex64);
    return;
  }
  const [saved] = options.saves;
  if (saved) names.setNumber(saved.name, first);
  if (!options.quiet) result.value = hex64(first);
}

function poke(call: CommandCall): void {
  const { names, memory } = call.scope;
  const scalar = needScalar(wordAt(call, 1));
  const area = names.area(wordAt(call, 2));
  const address = area.address + names.evaluate(wordAt(call, 3));
  const value = names.evaluate(wordAt(call, 4));
  const swap = scalar.order !== undefined && scalar.order !== names.byteOrder;
  const fault = memory.store(address, scalar.size, swap ? swapBytes(value, scalar.size) : value);
  if (fault) call.result.fault = fault;
  else call.result.ret = 0;
}

function dump(call: CommandCall): void {
  const { names, memory } = call.scope;
  const { address } = names.area(wordAt(call, 1));
  const start = address + names.evaluate(wordAt(call, 2));
  const bytes = new Uint8Array(byteCount(names.evaluate(wordAt(call, 3)), 'dump'));
  for (let i = 0; i < bytes.length; i++) {
    const access = memory.load(start + BigInt(i), 1);
    if ('fault' in access) {
      call.result.fault = access.fault;
      return;
    }
    bytes[i] = Number(access.value);
  }
  showBytes(call.result, bytes, call.options, names);
}

function setmem(call: CommandCall): void {
  const { names, memory } = call.scope;
  const area = names.area(wordAt(call, 1));
  const offset = names.evaluate(wordAt(call, 2));
  const { bytes } = buildItems(call.words.slice(3), names);
  if (offset + BigInt(bytes.length) > area.length) throw new ScriptMistake(`setmem outside ${wordAt(call, 1)}`);
  memory.storeBytes(area.address + offset, bytes);
  call.result.len = bytes.length;
}

function pattern(call: CommandCall): void {
  const { names, memory } = call.scope;
  const area = names.area(wordAt(call, 1));
  const offset = names.evaluate(wordAt(call, 2));
  const length = byteCount(names.evaluate(wordAt(call, 3)), 'pattern');
  if (offset + BigInt(length) > area.length) throw new ScriptMistake(`pattern outside ${wordAt(call, 1)}`);
  let state = Number(BigInt.asUintN(32, names.evaluate(wordAt(call, 4))));
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    memory.storeBytes(area.address + offset + BigInt(i), Uint8Array.of((state >>> 16) & 0xff));
  }
  call.result.len = length;
}

function cmpmem(call: CommandCall): void {
  const { names, memory } = call.scope;
  const one = names.area(wordAt(call, 1)).address + names.evaluate(wordAt(call, 2));
  const other = names.area(wordAt(call, 3)).address + names.evaluate(wordAt(call, 4));
  const length = byteCount(names.evaluate(wordAt(call, 5)), 'cmpmem');
  call.result.equal = Buffer.compare(memory.loadBytes(one, length), memory.loadBytes(other, length)) === 0;
}

function byteCount(length: bigint, command: string): number {
  if (length > MAX_BYTES) throw new ScriptMistake(`${command} too long`);
  return Number(length);
}

/** Commands on memory, by name. */
export const memoryCommands: Readonly<Record<string, Command>> = {
  mmap: { usage: 'mmap AREA FD OFFSET LEN PROT [private]', words: 6, run: mmap },
  anon: { usage: 'anon AREA LEN [shared] [huge] [align2m] [none] [ro]', words: 3, run: anon },
  munmap: { usage: 'munmap AREA [OFFSET LEN]', words: 2, run: munmap },
  mprotect: { usage: 'mprotect AREA PROT', words: 3, run: mprotect },
  peek: { usage: 'peek TYPE AREA OFFSET [COUNT]', words: 4, run: peek },
  poke: { usage: 'poke TYPE AREA OFFSET VALUE', words: 5, run: poke },
  dump: { usage: 'dump AREA OFFSET LEN', words: 4, run: dump },
  setmem: { usage: 'setmem AREA OFFSET ITEMS', words: 3, run: setmem },
  pattern: { usage: 'pattern AREA OFFSET LEN SEED', words: 5, run: pattern },
  cmpmem: { usage: 'cmpmem A OFFSET B OFFSET LEN', words: 6, run: cmpmem },
};
