// The rules of the house, each a function from what a package is to what is wrong with it.

import { dirname, posix } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { driverNames, driverRooms, layers, longestFile, readmeHeadings, requiredRooms } from './layers.mjs';

const scope = '@vfio/';
/** Under this condition tests and the compiler read a neighbour from its sources. */
const sourceCondition = '@vfio/source';

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
  return Object.keys(pkg.manifest.dependencies ?? {}).flatMap((dependency) => {
    const target = neighbour(dependency);
    if (!target || allowed.includes(target.name)) return [];
    return [`packages/${pkg.name}/package.json: depends on ${dependency}: ${pkg.name} may use ${list(allowed)} only`];
  });
}

/** What users of a published package find in its manifest: the same in all of them. */
export function checkMetadata(pkg) {
  const { manifest } = pkg;
  const problems = [];
  const expect = (condition, problem) => {
    if (!condition) problems.push(`packages/${pkg.name}/package.json: ${problem}`);
  };
  expect(manifest.name === `${scope}${pkg.name}`, `the name is not ${scope}${pkg.name}`);
  expect(manifest.description, 'has no description');
  expect(manifest.license === 'MIT', 'the license is not MIT');
  expect(manifest.type === 'module', "the type is not 'module'");
  expect(manifest.sideEffects === false, 'sideEffects is not false: importing a package has no effect');
  expect(manifest.keywords?.includes('vfio'), "has no keyword 'vfio'");
  const driver = manifest.keywords?.includes('vfio-driver') ?? false;
  expect(driver === driverNames.has(pkg.name), "the keyword 'vfio-driver' is for driver packages, and for all of them");
  expect(manifest.publishConfig?.access === 'public', 'publishConfig.access is not public');
  const published = withoutSource(manifest.exports);
  expect(
    isDeepStrictEqual(manifest.publishConfig?.exports, published),
    `publishConfig.exports is not exports without '${sourceCondition}'`,
  );
  return problems;
}

/** What `exports` becomes when the package is published: its sources are then no entry any more. */
function withoutSource(exports) {
  if (typeof exports !== 'object' || exports === null) return exports;
  const kept = Object.entries(exports).filter(([condition]) => condition !== sourceCondition);
  return Object.fromEntries(kept.map(([key, value]) => [key, withoutSource(value)]));
}

/** The same headings in every README. */
export function checkReadme(pkg) {
  const readme = pkg.files.find(({ path }) => path === 'README.md');
  if (!readme) return [`packages/${pkg.name}: has no README.md`];
  const headings = [...readme.text.matchAll(/^## (.+)$/gm)].map(([, heading]) => heading);
  const found = headings.filter((heading) => readmeHeadings.includes(heading));
  if (isDeepStrictEqual(found, readmeHeadings)) return [];
  return [`packages/${pkg.name}/README.md: has the headings ${list(found)}; wanted: ${list(readmeHeadings)}`];
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
  return names.length ? names.join(', ') : 'none';
}

/** All rules on all packages. */
export function checkAll(packages) {
  const rules = [checkImports, checkManifest, checkMetadata, checkHardware, checkRooms, checkFiles, checkReadme];
  return [...packages.values()].flatMap((pkg) => rules.flatMap((rule) => rule(pkg, packages)));
}
