// The `#@` lines at the top of a script: what it needs from the machine that it runs on.

/** A module that has to be there before a script starts. */
export interface ModuleRequest {
  /** Name as the kernel knows it, with underscores. */
  readonly name: string;
  readonly parameters: Readonly<Record<string, string>>;
}

/** What a script says about itself. */
export interface ScriptHeader {
  /** Group of scripts for reports: `mtty`, `core`, `pci`. */
  readonly family?: string;
  /** Name of the machine: `mdev`, `pci`, `arm64`. */
  readonly machine?: string;
  /** In the order in which they are loaded. */
  readonly modules: readonly ModuleRequest[];
}

/**
 * Reads the `#@` lines of a script; other keys than `family`, `machine` and `modules` are left alone.
 *
 * @param text - the whole script
 */
export function parseHeader(text: string): ScriptHeader {
  const values = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    const words = /^\s*#@\s+(.*?)\s*$/.exec(line)?.[1]?.split(/\s+/);
    const key = words?.shift();
    if (key !== undefined && words) values.set(key, [...(values.get(key) ?? []), ...words]);
  }
  const family = values.get('family')?.join(' ');
  const machine = values.get('machine')?.join(' ');
  return {
    ...(family !== undefined && { family }),
    ...(machine !== undefined && { machine }),
    modules: (values.get('modules') ?? []).map(parseModule),
  };
}

/**
 * The modules to load for a script, each of them once and with all of the parameters that the header gives it.
 *
 * @param header - what {@link parseHeader} found
 */
export function modulesNeeded(header: ScriptHeader): ModuleRequest[] {
  const byName = new Map<string, ModuleRequest>();
  for (const { name, parameters } of header.modules) {
    byName.set(name, { name, parameters: { ...byName.get(name)?.parameters, ...parameters } });
  }
  return [...byName.values()];
}

/**
 * Whether a script was recorded with iommufd and device character devices; every other one ran with both compiled out.
 *
 * @param header - what {@link parseHeader} found
 */
export function usesIommufd(header: ScriptHeader): boolean {
  return header.modules.some((module) => module.name === 'iommufd');
}

function parseModule(entry: string): ModuleRequest {
  const colon = entry.indexOf(':');
  const name = (colon < 0 ? entry : entry.slice(0, colon)).replaceAll('-', '_');
  const pairs = colon < 0 ? [] : entry.slice(colon + 1).split(',');
  const parameters: Record<string, string> = {};
  for (const pair of pairs.filter((text) => text !== '')) {
    const equals = pair.indexOf('=');
    // a bare name switches a bool on, as on the kernel's command line
    if (equals < 0) parameters[pair] = '1';
    else parameters[pair.slice(0, equals)] = pair.slice(equals + 1);
  }
  return { name, parameters };
}
