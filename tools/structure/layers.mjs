// The layers, from the bottom up: what each package may import of the others. A package that is not here is a mistake.

/** Driver packages and what they stand on beside host and core. */
const drivers = {
  pci: [],
  mlx5: ['pci'],
  'hisi-acc': ['pci'],
  platform: [],
  amba: ['platform'],
  'fsl-mc': [],
  ccw: ['mdev'],
  ap: ['mdev'],
  gvt: ['mdev', 'pci'],
  'mdev-samples': ['mdev'],
};

/** Which packages a package may import. */
export const layers = {
  host: [],
  core: ['host'],
  mdev: ['core', 'host'],
  ...Object.fromEntries(Object.entries(drivers).map(([name, more]) => [name, ['host', 'core', ...more]])),
  client: ['core', 'host'],
  testing: ['client', 'core', 'host'],
  machine: ['client', 'core', 'host'],
  sys: ['host'],
  user: ['sys', 'machine', 'client', 'core', 'host'],
  run: ['sys', 'machine', 'client', 'core', 'host'],
  cli: ['user', 'run', 'sys', 'machine', 'testing', 'client', 'core', 'host'],
};

/** Names of the driver packages. */
export const driverNames = new Set(Object.keys(drivers));

/** Files that every driver package has; `src/<part>/` may hold a set of them when a package brings several drivers. */
export const requiredRooms = ['src/index.ts', 'src/machine.ts', 'test/conformance.test.ts'];
export const driverRooms = ['driver.ts', 'device.ts'];

/** Longest source file, in lines; a longer one becomes a folder. */
export const longestFile = 500;

/** Headings of a README, in this order; others may stand between them. */
export const readmeHeadings = [
  'Install',
  'Example',
  'What is covered',
  'Errors',
  'Differences from the kernel',
  'License',
];
