/*
 * The CPUs next to a device: all of them, as the host has one node.
 */
import type { Host } from '@vfio/host';

const BITS_PER_WORD = 32;

/** As a mask in hexadecimal, words of 32 bits separated by commas. Source: lib/vsprintf.c bitmap_string() */
export function cpuMask(host: Host): string {
  const { cpus } = host.irq;
  const words: string[] = [];
  for (let left = cpus; left > 0; left -= BITS_PER_WORD) {
    words.push((2 ** Math.min(left, BITS_PER_WORD) - 1).toString(16));
  }
  return words.reverse().join(',');
}

/** As a list of ranges. Source: lib/vsprintf.c bitmap_list_string() */
export function cpuList(host: Host): string {
  const { cpus } = host.irq;
  return cpus === 1 ? '0' : `0-${cpus - 1}`;
}
