// One command from a fresh clone, with nothing but Node and npm: installs what is missing, then runs a task of turbo.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const { packageManager } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
/** What each root script means to turbo. */
const tasks = { test: 'build typecheck lint test:all' };
const [task = 'build', ...rest] = process.argv.slice(2);
const extra = rest.length ? ` -- ${rest.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ')}` : '';
const line = `pnpm install --frozen-lockfile --prefer-offline && turbo run ${tasks[task] ?? task}${extra}`;
const { status, error } = spawnSync(
  'npm',
  ['exec', '--yes', '--prefer-offline', `--package=${packageManager}`, '-c', line],
  { cwd: root, stdio: 'inherit', env: { TURBO_TELEMETRY_DISABLED: '1', DO_NOT_TRACK: '1', ...process.env } },
);
if (error) throw error;
process.exitCode = status ?? 1;
