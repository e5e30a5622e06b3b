import { defineCommand, operand, resultView } from '../command.js';
import { CommandError, Exit } from '../errors.js';
import { exists, inProcess } from '../files.js';
import { findDevice } from '../naming.js';
import { object, text } from '../shape.js';

/** `vfio remove` */
export const remove = defineCommand<{ device: string }, never, string>({
  words: ['remove'],
  summary: 'remove a mediated device',
  examples: [['vfio remove vfio0', 'by number, or by UUID; waits until nobody uses it']],
  configure: (command) => {
    command.argument('<device>', 'UUID or vfioN');
  },
  parse: (operands) => ({ device: operand(operands, 0) }),
  shape: object({ device: text(256) }),

  run: (context, args) =>
    inProcess(context, async (process) => {
      const device = findDevice(process, args.device);
      const file = `${device.directory}/remove`;
      if (device.bus !== 'mdev' || !exists(process, file)) {
        const fix = device.driver === undefined ? '' : `: vfio unbind ${device.address} takes its driver away`;
        throw new CommandError(`${device.address} is no mediated device${fix}`);
      }
      await process.writeFile(file, '1');
      return device.address;
    }),

  view: (terminal) =>
    resultView((address) => {
      terminal.print(`${address} removed`);
      return Exit.OK;
    }),
});
