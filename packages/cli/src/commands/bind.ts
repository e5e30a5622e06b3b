import { isSystemError, type Process } from '@vfio/host';
import { defineCommand, operand, resultView } from '../command.js';
import { CommandError, Exit } from '../errors.js';
import { attribute, exists, inProcess, namesIn } from '../files.js';
import { type DeviceName, findDevice } from '../naming.js';
import { object, text } from '../shape.js';

interface Bound {
  readonly address: string;
  readonly driver: string;
}

/** What an override that is not set reads as. */
const noOverride = '(null)';

/** `vfio bind` */
export const bind = defineCommand<{ device: string; driver: string }, never, Bound>({
  words: ['bind'],
  summary: 'bind a device to a driver',
  examples: [['vfio bind 0000:01:00.0 vfio-pci', 'sets driver_override where the bus has it, and binds']],
  configure: (command) => {
    command.argument('<device>', 'address, UUID or vfioN').argument('<driver>', 'name of the driver');
  },
  parse: (operands) => ({ device: operand(operands, 0), driver: operand(operands, 1) }),
  shape: object({ device: text(256), driver: text(256) }),

  run: (context, args) =>
    inProcess(context, async (process) => {
      const device = findDevice(process, args.device);
      const { bus } = device;
      if (bus === undefined) throw new CommandError(`${device.address} is on no bus that could have drivers`);
      const driver = driverNamed(process, bus, args.driver);
      if (device.driver !== undefined) {
        throw new CommandError(
          `${device.address} is bound to ${device.driver}: vfio unbind ${device.address}, then bind it`,
        );
      }
      await bindTo(process, { ...device, bus }, driver);
      return { address: device.address, driver };
    }),

  view: (terminal) =>
    resultView(({ address, driver }) => {
      terminal.print(`${address} bound to ${driver}`);
      return Exit.OK;
    }),
});

/** `vfio unbind` */
export const unbind = defineCommand<{ device: string }, never, Bound>({
  words: ['unbind'],
  summary: 'unbind a device from its driver',
  examples: [['vfio unbind 0000:01:00.0', 'waits until nobody uses it']],
  configure: (command) => {
    command.argument('<device>', 'address, UUID or vfioN');
  },
  parse: (operands) => ({ device: operand(operands, 0) }),
  shape: object({ device: text(256) }),

  run: (context, args) =>
    inProcess(context, async (process) => {
      const device = findDevice(process, args.device);
      const { address, bus, driver } = device;
      if (driver === undefined) throw new CommandError(`${address} is bound to no driver`);
      await process.writeFile(`/sys/bus/${bus}/drivers/${driver}/unbind`, address);
      const override = `${device.directory}/driver_override`;
      // what `bind` has set would bring the same driver back with the next probe
      if ((await attribute(process, override)) === driver) await process.writeFile(override, '\n');
      return { address, driver };
    }),

  view: (terminal) =>
    resultView(({ address, driver }) => {
      terminal.print(`${address} unbound from ${driver}`);
      return Exit.OK;
    }),
});

function driverNamed(process: Process, bus: string, name: string): string {
  const drivers = namesIn(process, `/sys/bus/${bus}/drivers`);
  const found = [name, name.replaceAll('-', '_'), name.replaceAll('_', '-')].find((one) => drivers.includes(one));
  if (found !== undefined) return found;
  const known = drivers.length > 0 ? `it has ${drivers.join(', ')}` : 'it has none';
  throw new CommandError(`bus '${bus}' has no driver '${name}': ${known}; its module may have to be loaded`);
}

/** Binds; an override that did not help is taken back. */
async function bindTo(process: Process, device: DeviceName & { readonly bus: string }, driver: string): Promise<void> {
  const override = `${device.directory}/driver_override`;
  const before = exists(process, override) ? ((await attribute(process, override)) ?? noOverride) : undefined;
  if (before !== undefined && before !== driver) await process.writeFile(override, driver);
  try {
    await process.writeFile(`/sys/bus/${device.bus}/drivers/${driver}/bind`, device.address);
  } catch (error) {
    if (before !== undefined && before !== driver) {
      await process.writeFile(override, before === noOverride ? '\n' : before);
    }
    if (isSystemError(error, 'ENODEV')) {
      throw new CommandError(`driver ${driver} does not match ${device.address}: ${error.message}`, { cause: error });
    }
    throw error;
  }
}
