import { describe, expect, it } from 'vitest';
import { reportError } from '../../src/bus/aer.js';
import { doRecovery } from '../../src/bus/aer-recovery.js';
import type { ErsResult, PciErrorHandlers } from '../../src/bus/pci-driver.js';
import { Err, ExtCapId } from '../../src/bus/regs.js';
import type { FakeCap } from './fake-function.js';
import { type LabFunction, labBridge, labDriver, labEndpoint, labHost } from './service-lab.js';

const errCap: FakeCap = { id: ExtCapId.ERR, bytes: new Array<number>(0x40).fill(0), writable: [] };

/** Two functions behind a port, whose driver writes down what it is told and answers as asked. */
async function lab(answers: Partial<Record<keyof PciErrorHandlers, ErsResult>> = {}) {
  const card = (): LabFunction => labEndpoint({ multifunction: true, extCaps: [errCap] });
  const cards = [card(), card()] as const;
  const port = labBridge([
    [0, cards[0]],
    [1, cards[1]],
  ]);
  port.set(0x100, 4, ExtCapId.ERR | (1 << 16));
  const { host, bus, at } = await labHost([[0x08, port]]);
  const told: string[] = [];
  const handlers: PciErrorHandlers = {
    errorDetected: ({ name }, state) => {
      told.push(`${name.slice(-1)} detected ${state}`);
      return answers.errorDetected ?? 'can-recover';
    },
    mmioEnabled: ({ name }) => {
      told.push(`${name.slice(-1)} mmio`);
      return answers.mmioEnabled ?? 'recovered';
    },
    slotReset: ({ name }) => {
      told.push(`${name.slice(-1)} reset`);
      return answers.slotReset ?? 'recovered';
    },
    resume: ({ name }) => void told.push(`${name.slice(-1)} resume`),
  };
  const events: string[] = [];
  host.uevents.subscribe(({ env }) => {
    if (env.ERROR_EVENT !== undefined) events.push(`${env.ERROR_EVENT} ${env.DEVICE_ONLINE}`);
  });
  return { host, bus, at, cards, port, told, handlers, events };
}

describe('recovery', () => {
  it('asks everybody behind the link, and goes on when all can', async () => {
    const { host, bus, at, cards, told, handlers, events } = await lab();
    await using _ = host;
    await labDriver(bus, { errHandler: handlers });
    expect(await doRecovery(at(1, 1), 'non-fatal')).toBe('recovered');
    expect(told).toEqual(['0 detected normal', '1 detected normal', '0 mmio', '1 mmio', '0 resume', '1 resume']);
    expect(cards.map(({ kinds }) => kinds)).toEqual([[], []]);
    expect(events).toEqual(['BEGIN_RECOVERY 0', 'BEGIN_RECOVERY 0', 'SUCCESSFUL_RECOVERY 1', 'SUCCESSFUL_RECOVERY 1']);
  });

  it('resets the link after a fatal error', async () => {
    const { host, bus, at, cards, told, handlers } = await lab({ errorDetected: 'need-reset' });
    await using _ = host;
    await labDriver(bus, { errHandler: handlers });
    expect(await doRecovery(at(1, 0), 'fatal')).toBe('recovered');
    expect(cards.map(({ kinds }) => kinds)).toEqual([['bus'], ['bus']]);
    expect(told).toEqual(['0 detected frozen', '1 detected frozen', '0 reset', '1 reset', '0 resume', '1 resume']);
  });

  it('fails for all when one driver gives up, and says so', async () => {
    const { host, bus, at, told, handlers } = await lab({ errorDetected: 'need-reset', slotReset: 'disconnect' });
    await using _ = host;
    await labDriver(bus, { errHandler: handlers });
    expect(await doRecovery(at(1, 0), 'non-fatal')).toBe('disconnect');
    expect(told.slice(-2)).toEqual(['0 detected perm-failure', '1 detected perm-failure']);
  });

  it('fails where somebody has no driver that knows of errors', async () => {
    const { host, bus, at } = await lab();
    await using _ = host;
    expect(await doRecovery(at(1, 0), 'non-fatal')).toBe('no-aer-driver');
    await labDriver(bus);
    expect(await doRecovery(at(1, 0), 'non-fatal')).toBe('no-aer-driver');
    expect(at(1, 0).pm.usageCount).toBe(2);
  });
});

describe('reportError', () => {
  it('counts by what the registers say, and recovers from what can not be corrected', async () => {
    const { host, bus, at, cards, told, handlers } = await lab();
    await using _ = host;
    await labDriver(bus, { errHandler: handlers });
    const pdev = at(1, 0);
    const status = (register: number, bits: number) => {
      cards[0].set(0x100 + register, 4, bits);
    };
    status(Err.COR_STATUS, 1 << 6);
    reportError(pdev, 'correctable');
    status(Err.COR_STATUS, 0);
    status(Err.UNCOR_STATUS, 1 << 20);
    reportError(pdev, 'non-fatal');
    expect(told).toEqual([]);
    await bus.aerQueue.flush();
    expect(told).toHaveLength(6);
    const read = async (name: string, of = pdev) => await host.init.readFile(`${of.sysfs.path()}/${name}`);
    expect(await read('aer_dev_correctable')).toContain('BadTLP 1\n');
    expect(await read('aer_dev_nonfatal')).toMatch(/UnsupReq 1\n(.*\n)*TOTAL_ERR_NONFATAL 1\n$/);
    expect(await read('aer_dev_fatal')).toMatch(/TOTAL_ERR_FATAL 0\n$/);
    const port = at(0, 0x08);
    expect(await read('aer_rootport_total_err_cor', port)).toBe('1\n');
    expect(await read('aer_rootport_total_err_nonfatal', port)).toBe('1\n');
  });

  it('is heard by nobody where no port listens', async () => {
    const { host, at } = await labHost([[0x10, labEndpoint({ extCaps: [errCap] })]]);
    await using _ = host;
    reportError(at(0, 0x10), 'fatal');
    expect(await host.init.readFile(`${at(0, 0x10).sysfs.path()}/aer_dev_fatal`)).toMatch(/TOTAL_ERR_FATAL 0\n$/);
  });
});
