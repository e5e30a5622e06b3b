/*
 * /sys/module/<name>.
 */
import { createHash } from 'node:crypto';
import { synthUevent } from '../drivers/synth-uevent.js';
import type { Uevents } from '../drivers/uevents.js';
import type { Seams } from '../seams.js';
import type { Attribute } from '../sysfs/attribute.js';
import type { SysfsDir } from '../sysfs/dir.js';
import type { Module } from './module.js';
import type { Param } from './params.js';

/** Bytes of a module in memory. Code here has no size that means anything, so every module has the same. */
export const CORE_SIZE = 16384;

/**
 * Fills the directory of a module. Whoever made the directory removes it when this fails.
 *
 * @throws ENOMEM
 * @source kernel/module/sysfs.c mod_sysfs_setup()
 */
export function addModuleFiles(seams: Seams, uevents: Uevents, module: Module): void {
  const { sysfs, spec } = module;
  const devpath = sysfs.devpath();
  if (!spec.builtin) sysfs.mkdir('holders');
  addParameters(sysfs, module.parameters);
  for (const attribute of spec.builtin ? versions(module) : [...versions(module), ...modinfo(module)]) {
    sysfs.addFile(attribute);
  }
  sysfs.addFile({
    name: 'uevent',
    mode: 0o200,
    store: (text) => {
      synthUevent(seams, text, devpath, (action, fill) => uevents.emit(action, { devpath, subsystem: 'module' }, fill));
    },
  });
  if (spec.builtin) return;
  sysfs.mkdir('sections');
  sysfs.mkdir('notes');
}

function addParameters(sysfs: SysfsDir, parameters: ReadonlyMap<string, Param>): void {
  const visible = [...parameters.values()].filter((param) => param.spec.mode !== 0);
  if (visible.length === 0) return;
  const dir = sysfs.mkdir('parameters');
  for (const param of visible) {
    dir.addFile({
      name: param.name,
      mode: param.spec.mode,
      show: () => param.show(),
      store: (text) => param.store(text),
    });
  }
}

/** A module with a version also has a digest of its source; here, of its name and version. */
function versions({ spec }: Module): Attribute[] {
  const { name, version } = spec;
  if (version === undefined) return [];
  const srcversion = createHash('sha256').update(`${name} ${version}`).digest('hex').slice(0, 23).toUpperCase();
  return [text('version', () => version), ...(spec.builtin ? [] : [text('srcversion', () => srcversion)])];
}

function modinfo(module: Module): Attribute[] {
  const { importNs } = module.spec;
  return [
    ...(importNs && importNs.length > 0 ? [text('import_ns', () => importNs.join('\n'))] : []),
    text('initstate', () => module.state),
    text('coresize', () => String(CORE_SIZE)),
    text('initsize', () => '0'),
    text('taint', () => ''),
    text('refcnt', () => String(module.refcount)),
  ];
}

function text(name: string, value: () => string): Attribute {
  return { name, mode: 0o444, show: () => `${value()}\n` };
}
