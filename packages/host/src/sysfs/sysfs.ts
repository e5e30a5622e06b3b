/*
 * The file system below /sys: its root and the directories that are always there.
 */
import type { Seams } from '../seams.js';
import { SysfsDir, type SysfsNode } from './dir.js';

/** The sysfs of one host; mount `root` at /sys. */
export class Sysfs {
  readonly root: SysfsDir;
  readonly bus: SysfsDir;
  readonly class: SysfsDir;
  /** /sys/dev/char, with a link for each character device. */
  readonly devChar: SysfsDir;
  readonly devices: SysfsDir;
  /** /sys/devices/virtual, for class devices without a parent. */
  readonly devicesVirtual: SysfsDir;
  readonly kernel: SysfsDir;
  readonly module: SysfsDir;

  constructor(seams: Seams) {
    this.root = new SysfsDir(seams, undefined, '/sys');
    this.root.mkdir('block');
    this.bus = this.root.mkdir('bus');
    this.class = this.root.mkdir('class');
    const dev = this.root.mkdir('dev');
    dev.mkdir('block');
    this.devChar = dev.mkdir('char');
    this.devices = this.root.mkdir('devices');
    this.devicesVirtual = this.devices.mkdir('virtual');
    this.root.mkdir('firmware');
    this.root.mkdir('fs');
    this.kernel = this.root.mkdir('kernel');
    this.module = this.root.mkdir('module');
    this.root.mkdir('power');
  }

  /**
   * Finds an entry by its path.
   *
   * @param path - with or without `/sys` before it; links are not followed
   */
  lookup(path: string): SysfsNode | undefined {
    const below = path.replace(/^\/sys(?=\/|$)/, '').replace(/\/+$/, '');
    return below === '' ? this.root : this.root.lookup(below);
  }
}
