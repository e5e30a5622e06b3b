/*
 * Symbolic links of sysfs. They lead to directories, never to files, and their text is relative.
 */
import type { VfsNode } from '../fs/vfs-node.js';
import type { SysfsDir } from './dir.js';

/** A symbolic link. */
export class SysfsLink implements VfsNode {
  readonly kind = 'link';
  readonly name: string;
  readonly parent: SysfsDir;
  readonly mode = 0o777;
  readonly uid = 0;
  readonly gid = 0;
  readonly #to: () => SysfsDir;

  constructor(parent: SysfsDir, name: string, to: () => SysfsDir) {
    this.parent = parent;
    this.name = name;
    this.#to = to;
  }

  /** Where it leads. */
  get directory(): SysfsDir {
    return this.#to();
  }

  /** The text of the link. */
  target(): string {
    return relativePath(this.parent, this.#to());
  }
}

/**
 * The way from a directory to another. It always ends in the name of the other, also where `..` would lead there
 * sooner.
 *
 * @source fs/kernfs/symlink.c kernfs_get_target_path()
 */
function relativePath(from: SysfsDir, to: SysfsDir): string {
  const above: SysfsDir[] = [];
  for (let dir = to.parent; dir; dir = dir.parent) above.push(dir);
  let ups = '';
  let base = from;
  while (base.parent && !above.includes(base)) {
    ups += '../';
    base = base.parent;
  }
  const names = [to.name];
  for (let dir = to.parent; dir?.parent && dir !== base; dir = dir.parent) names.unshift(dir.name);
  return ups + names.join('/');
}
