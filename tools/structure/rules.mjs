// The rules of the house, each a function from what a package is to what is wrong with it.

import { dirname, posix } from 'node:path';
import { driverNames, driverRooms, layers, longestFile, requiredRooms } from './layers.mjs';

const scope = '@vfio/';

/** `@vfio/pci/core` -> { name: 'pci', subpath: './core' }; undefined for other packages. */
function neighbour(specifier) {
  if (!specifier.startsWith(scope)) return undefined;
  const [name, ...rest] = specifier.slice(scope.length).split('/');
  return { name, subpath: rest.length ? `./${rest.join('/')}` : '.' };
}

/** Imports that point up, or into another package's inside. */
export function checkImports(pkg, packages) {
  const problems = [];
  const allowed = layers[pkg.name];
  if (!allowed) return [`packages/${pkg.name}: not in tools/structure/layers.mjs: add it to the layer it belongs to`];
  for (const file of pkg.files.filter(({ path }) => path.startsWith('src/'))) {
    for (const specifier of file.imports) {
      const at = `packages/${pkg.name}/${file.path}: imports '${specifier}'`;
      const target = neighbour(specifier);
      if (target) {
        if (target.name === pkg.name) problems.push(`${at}: its own package; use a relative path`);
        else if (!allowed.includes(target.name)) problems.push(`${at}: ${pkg.name} may import ${list(allowed)} only`);
        else if (!packages.get(target.name)?.manifest.exports?.[target.subpath]) {
          problems.push(`${at}: ${scope}${target.name} does not export '${target.subpath}'`);
        }
      } else if (specifier.startsWith('.')) {
        const resolved = posix.normalize(posix.join(dirname(file.path), specifier));
        if (!resolved.startsWith('src/')) problems.push(`${at}: leaves the sources of its package`);
      }
    }
  }
  return problems;
}

/** Dependencies that point up: other packages are installed without them. */
export function checkManifest(pkg) {
  const allowed = layers[pkg.name] ?? [];
  return Object.keys(pkg.manifest.dependencies ?? {})
    .map(neighbour)
    .filter((target) => target && !allowed.includes(target.name))
    .map(
      (target) =>
        `packages/${pkg.name}/package.json: depends on ${scope}${target.name}: ${pkg.name} may use ${list(allowed)} only`,
    );
}

/** Hardware knows the bus, never the driver. */
export function checkHardware(pkg) {
  if (!driverNames.has(pkg.name)) return [];
  const problems = [];
  for (const file of pkg.files.filter(({ path }) => /^src\/(.*\/)?hardware\//.test(path))) {
    for (const specifier of file.imports.filter((one) => one.startsWith('.'))) {
      const resolved = posix.normalize(posix.join(dirname(file.path), specifier));
      if (/\/(driver|device)\.js$/.test(resolved)) {
        problems.push(`packages/${pkg.name}/${file.path}: hardware imports '${specifier}': the two meet at the bus`);
      }
    }
    for (const specifier of file.imports.filter((one) => neighbour(one)?.name === 'core')) {
      problems.push(`packages/${pkg.name}/${file.path}: hardware imports '${specifier}': it knows nothing of VFIO`);
    }
  }
  return problems;
}

/** The same rooms in every driver package. */
export function checkRooms(pkg) {
  if (!driverNames.has(pkg.name)) return [];
  const paths = new Set(pkg.files.map(({ path }) => path));
  const problems = requiredRooms
    .filter((room) => !paths.has(room))
    .map((room) => `packages/${pkg.name}: has no ${room}`);
  const homes = [
    ...new Set([...paths].filter((path) => /^src\/([^/]+\/)?driver\.ts$/.test(path)).map((path) => dirname(path))),
  ];
  if (homes.length === 0) problems.push(`packages/${pkg.name}: has no src/driver.ts, nor one in a folder of src`);
  for (const home of homes) {
    for (const room of driverRooms)
      if (!paths.has(`${home}/${room}`)) problems.push(`packages/${pkg.name}: has no ${home}/${room}`);
  }
  return problems;
}

/** The public surface is a list of names, and files hold one concern. */
export function checkFiles(pkg) {
  const problems = [];
  for (const file of pkg.files.filter(({ path }) => path.startsWith('src/'))) {
    if (/^src\/(.*\/)?index\.ts$/.test(file.path) && /^export \* /m.test(file.text)) {
      problems.push(`packages/${pkg.name}/${file.path}: exports *: list the names`);
    }
    const lines = file.text.split('\n').length;
    if (lines > longestFile)
      problems.push(`packages/${pkg.name}/${file.path}: ${lines} lines, ${longestFile} at most: make it a folder`);
  }
  return problems;
}

function list(names) {
  return names.length ? names.join(', ') : 'no other package';
}

/** All rules on all packages. */
export function checkAll(packages) {
  const rules = [checkImports, checkManifest, checkHardware, checkRooms, checkFiles];
  return [...packages.values()].flatMap((pkg) => rules.flatMap((rule) => rule(pkg, packages)));
}
