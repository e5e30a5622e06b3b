/**
 * The states of a migratable device and the ways between them. A user asks for any state; the device is driven there in
 * steps, so that a driver implements single arcs only. States that a device lacks are stepped over.
 *
 * The arcs that a driver implements are those from a state to the one that the table below names next. On some of them a
 * data file begins or ends:
 *
 *   begins   STOP -> STOP_COPY, RUNNING -> PRE_COPY, RUNNING_P2P -> PRE_COPY_P2P, STOP -> RESUMING
 *   is kept  PRE_COPY <-> PRE_COPY_P2P, PRE_COPY_P2P -> STOP_COPY (PRE_COPY -> STOP_COPY without P2P)
 *   ends     STOP_COPY -> STOP, PRE_COPY -> RUNNING, PRE_COPY_P2P -> RUNNING_P2P, RESUMING -> STOP (the data is checked here)
 */
import type { IoctlCall, KernelLog } from '@vfio/host';
import { VfioError } from './errors.js';
import { MigrationFlag, MigState, type PrecopyInfo, precopyInfo } from './uapi/feature.js';
import { Request } from './uapi/requests.js';

/** A state by its name in the uAPI. */
export type MigStateName = keyof typeof MigState;

/** A step towards a target, or that there is none. */
type Step = MigStateName | '!';

const refused: Record<MigStateName, Step> = {
  STOP: '!',
  RUNNING: '!',
  STOP_COPY: '!',
  RESUMING: '!',
  RUNNING_P2P: '!',
  PRE_COPY: '!',
  PRE_COPY_P2P: '!',
  ERROR: '!',
};

/** The next state on the way from the row's state to the column's, for a device that has all states. */
// biome-ignore format: a table reads in columns
const nextStep: Record<MigStateName, Record<MigStateName, Step>> = {
  STOP:         { STOP: 'STOP',        RUNNING: 'RUNNING_P2P', STOP_COPY: 'STOP_COPY',    RESUMING: 'RESUMING',    RUNNING_P2P: 'RUNNING_P2P', PRE_COPY: 'RUNNING_P2P', PRE_COPY_P2P: 'RUNNING_P2P',  ERROR: '!' },
  RUNNING:      { STOP: 'RUNNING_P2P', RUNNING: 'RUNNING',     STOP_COPY: 'RUNNING_P2P',  RESUMING: 'RUNNING_P2P', RUNNING_P2P: 'RUNNING_P2P', PRE_COPY: 'PRE_COPY',    PRE_COPY_P2P: 'RUNNING_P2P',  ERROR: '!' },
  STOP_COPY:    { STOP: 'STOP',        RUNNING: 'STOP',        STOP_COPY: 'STOP_COPY',    RESUMING: 'STOP',        RUNNING_P2P: 'STOP',        PRE_COPY: '!',           PRE_COPY_P2P: '!',            ERROR: '!' },
  RESUMING:     { STOP: 'STOP',        RUNNING: 'STOP',        STOP_COPY: 'STOP',         RESUMING: 'RESUMING',    RUNNING_P2P: 'STOP',        PRE_COPY: 'STOP',        PRE_COPY_P2P: 'STOP',         ERROR: '!' },
  RUNNING_P2P:  { STOP: 'STOP',        RUNNING: 'RUNNING',     STOP_COPY: 'STOP',         RESUMING: 'STOP',        RUNNING_P2P: 'RUNNING_P2P', PRE_COPY: 'RUNNING',     PRE_COPY_P2P: 'PRE_COPY_P2P', ERROR: '!' },
  PRE_COPY:     { STOP: 'RUNNING',     RUNNING: 'RUNNING',     STOP_COPY: 'PRE_COPY_P2P', RESUMING: 'RUNNING',     RUNNING_P2P: 'RUNNING',     PRE_COPY: 'PRE_COPY',    PRE_COPY_P2P: 'PRE_COPY_P2P', ERROR: '!' },
  PRE_COPY_P2P: { STOP: 'RUNNING_P2P', RUNNING: 'RUNNING_P2P', STOP_COPY: 'STOP_COPY',    RESUMING: 'RUNNING_P2P', RUNNING_P2P: 'RUNNING_P2P', PRE_COPY: 'PRE_COPY',    PRE_COPY_P2P: 'PRE_COPY_P2P', ERROR: '!' },
  ERROR: refused,
};

/** What a device must be able to do to have a state; nothing is enough for ERROR. */
const requiredFlags: Record<MigStateName, number> = {
  STOP: MigrationFlag.STOP_COPY,
  RUNNING: MigrationFlag.STOP_COPY,
  STOP_COPY: MigrationFlag.STOP_COPY,
  RESUMING: MigrationFlag.STOP_COPY,
  RUNNING_P2P: MigrationFlag.STOP_COPY | MigrationFlag.P2P,
  PRE_COPY: MigrationFlag.STOP_COPY | MigrationFlag.PRE_COPY,
  PRE_COPY_P2P: MigrationFlag.STOP_COPY | MigrationFlag.P2P | MigrationFlag.PRE_COPY,
  ERROR: ~0,
};

const names: readonly MigStateName[] = [
  'ERROR',
  'STOP',
  'RUNNING',
  'STOP_COPY',
  'RESUMING',
  'RUNNING_P2P',
  'PRE_COPY',
  'PRE_COPY_P2P',
];

/** The name of a state, undefined for a number that is none. */
export function migStateName(state: number): MigStateName | undefined {
  return names[state];
}

/** The name of a state that a device with these flags has. */
function supportedState(state: number, migrationFlags: number): MigStateName | undefined {
  const name = migStateName(state);
  return name !== undefined && hasState(name, migrationFlags) ? name : undefined;
}

function hasState(name: MigStateName, migrationFlags: number): boolean {
  const required = requiredFlags[name];
  return (required & migrationFlags) === required;
}

/** What `migGetNextState` needs of a device: a `VfioDevice` has it. */
export interface MigratableDevice {
  /** MigrationFlag bits. */
  readonly migrationFlags: number;
  readonly vfio: { readonly host: { readonly log: Pick<KernelLog, 'warnOn'> } };
}

/**
 * The next state on the way to a target. Called again with the answer as `current`, it leads to the target in four steps
 * at most, or refuses.
 *
 * @param current - the device's state; a wrong one is the driver's mistake and is warned about
 * @param target - what the user asked for
 * @returns `target` itself when the device is there
 * @throws EINVAL - a state that the device lacks, ERROR, or no way leads there
 * @source drivers/vfio/vfio_main.c vfio_mig_get_next_state()
 */
export function migGetNextState(device: MigratableDevice, current: number, target: number): MigState {
  const { migrationFlags } = device;
  const from = supportedState(current, migrationFlags);
  if (from === undefined) {
    device.vfio.host.log.warnOn(true, `vfio_mig_get_next_state: the device can not be in state ${current}`);
    throw refusal(current, target, 'the device has no such current state');
  }
  const to = supportedState(target, migrationFlags);
  if (to === undefined) throw refusal(current, target, 'the device has no such state');
  let next = nextStep[from][to];
  while (next !== '!' && !hasState(next, migrationFlags)) next = nextStep[next][to];
  if (next === '!') throw refusal(current, target, 'no way leads there');
  return MigState[next];
}

function refusal(current: number, target: number, reason: string): VfioError {
  const name = (state: number) => migStateName(state) ?? String(state);
  return new VfioError('EINVAL', `${name(current)} to ${name(target)}: ${reason}`);
}

/**
 * Takes the argument of a request on a data file, which can only be MIG_GET_PRECOPY_INFO. The driver fills in the rest and
 * copies it out, if its state is a pre-copy one. The flags are the caller's unless it asked for the second version of the
 * information, where they are the driver's to set.
 *
 * @param device - the one that is migrated
 * @throws ENOTTY - another request
 * @throws EFAULT - not readable
 * @throws EINVAL - `argsz` is too small
 * @source include/linux/vfio.h vfio_check_precopy_ioctl()
 */
export function checkPrecopyIoctl(
  device: { readonly precopyInfoV2: boolean },
  call: Pick<IoctlCall, 'request' | 'copyIn' | 'order'>,
): PrecopyInfo {
  const syscall = 'VFIO_MIG_GET_PRECOPY_INFO';
  if (call.request !== Request.MIG_GET_PRECOPY_INFO) {
    throw new VfioError('ENOTTY', `request 0x${call.request.toString(16)} on the data file of a migration`);
  }
  const info = precopyInfo.decode(call.copyIn(precopyInfo.size), call.order);
  if (info.argsz < precopyInfo.size) {
    throw new VfioError('EINVAL', `argsz is ${info.argsz}, ${precopyInfo.size} are needed`, { syscall });
  }
  if (device.precopyInfoV2) info.flags = 0;
  return info;
}
