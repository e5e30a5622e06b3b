import { describe, expect, it } from 'vitest';
import { Host, isKernelBug, O, Prot, VirtualClock } from '../src/index.js';

const iommu = {
  aperture: [0n, 2n ** 48n - 1n],
  pageSizes: 0x4020_1000n,
  coherent: true,
  msiIsolated: true,
  reserved: [],
} as const;

describe('Host', () => {
  it('is a machine with a root process and the usual mounts', async () => {
    await using host = new Host({ iommu, release: '7.2.13' });
    const { init } = host;
    expect([init.pid, init.comm, init.credentials.uid]).toEqual([1, 'init', 0]);
    expect(init.readdir('/').map(({ name }) => name)).toEqual(expect.arrayContaining(['dev', 'proc', 'sys', 'tmp']));
    expect(init.stat('/dev/null')).toMatchObject({ rdev: { major: 1, minor: 3 } });
    expect(init.readdir('/sys/kernel').map(({ name }) => name)).toContain('iommu_groups');
    expect(init.readdir('/sys/class').map(({ name }) => name)).toContain('misc');
    expect(await init.readFile('/proc/devices')).toContain(' 10 misc\n');
    expect(await init.readFile('/proc/version')).toBe('Linux version 7.2.13\n');
    expect(await init.readFile('/proc/self/comm').catch(() => 'init\n')).toBe('init\n');
  });

  it('makes processes with numbers, users and a byte order', async () => {
    await using host = new Host({ byteOrder: 'big' });
    const process = host.spawn({ comm: 'qemu', uid: 1000 });
    expect([process.pid, process.comm, process.credentials.uid, process.byteOrder]).toEqual([2, 'qemu', 1000, 'big']);
    expect(host.spawn({ byteOrder: 'little' }).byteOrder).toBe('little');
    expect(process.parent).toBe(host.init);
  });

  it('shares nothing with another', async () => {
    await using a = new Host();
    await using b = new Host();
    a.modules.define({ name: 'one', init: () => {} });
    await a.modules.modprobe('one');
    a.chrdevs.registerMajor('vfio');
    a.uevents.emit('add', { devpath: '/x', subsystem: 'x' });
    expect([b.modules.known().includes('one'), b.modules.loaded()]).toEqual([false, []]);
    expect(await b.init.readFile('/proc/devices')).not.toContain('vfio');
    expect(b.uevents.emitted.map(({ devpath }) => devpath)).not.toContain('/x');
    expect(b.memory).not.toBe(a.memory);
  });
});

describe('Host.shutdown', () => {
  it('ends processes before modules, and modules in reverse order of loading', async () => {
    const host = new Host();
    const process = host.spawn();
    const ended: string[] = [];
    const state = () => (process.exitStatus ? '' : ' with a process');
    for (const name of ['core', 'driver']) {
      host.modules.define({
        name,
        depends: name === 'driver' ? ['core'] : [],
        init: () => {},
        exit: () => void ended.push(`${name}${state()}`),
      });
    }
    await host.modules.modprobe('driver');
    host.atShutdown(() => void ended.push('bus'));
    host.atShutdown(() => void ended.push('card'));
    expect(await host.shutdown()).toEqual([]);
    expect(ended).toEqual(['driver', 'core', 'card', 'bus']);
    expect([process.exitStatus, host.init.exitStatus]).toMatchObject([{ signal: 'SIGKILL' }, { signal: 'SIGKILL' }]);
    expect(host.modules.loaded()).toEqual([]);
  });

  it('gives back what processes had: memory, files and eventfds', async () => {
    const host = new Host({ checked: true });
    const process = host.spawn();
    process.eventfd();
    await process.open('/dev/null', O.RDWR);
    process.mm.store(process.mm.mmap({ length: 8192, prot: Prot.READ | Prot.WRITE }), 8, 1n);
    expect(host.tracker.leaks().map(({ kind }) => kind)).toEqual(expect.arrayContaining(['eventfd', 'file', 'memory']));
    expect(await host.shutdown()).toEqual([]);
  });

  it('interrupts calls that wait', async () => {
    const host = new Host({ checked: true, clock: new VirtualClock() });
    const process = host.spawn();
    const poll = process.poll([{ fd: process.eventfd(), events: 1 }], -1);
    const interrupted = expect(poll).rejects.toThrow(expect.objectContaining({ code: 'EINTR' }));
    expect(await host.shutdown()).toEqual([]);
    await interrupted;
  });

  it('lists what was not given back, and where it came from', async () => {
    const host = new Host({ checked: true, clock: new VirtualClock() });
    function forgets() {
      host.tracker.track('pin', () => 'pin of page 3');
    }
    forgets();
    host.clock.setTimer(10, () => {});
    const leaks = await host.shutdown();
    expect(leaks).toMatchObject([
      { kind: 'pin', what: 'pin of page 3', origin: expect.stringContaining('forgets') },
      { kind: 'timer', what: 'for 10 ms' },
    ]);
    expect(await host.shutdown()).toBe(leaks);
  });

  it('leaves a module that is in use, says so, and goes on with the others', async () => {
    const host = new Host({ checked: true });
    for (const name of ['used', 'free']) host.modules.define({ name, init: () => {} });
    expect((await host.modules.modprobe('used')).tryGet()).toBe(true);
    await host.modules.modprobe('free');
    expect(await host.shutdown()).toMatchObject([{ kind: 'module', what: expect.stringContaining('used') }]);
    expect(host.modules.loaded().map(({ name }) => name)).toEqual(['used']);
    expect(host.log.entries.map(({ text }) => text)).toContainEqual(
      expect.stringMatching(/module used stays at shutdown: EAGAIN/),
    );
  });

  it('throws what a step threw, after all steps', async () => {
    const host = new Host();
    const error = new Error('exit of a module');
    host.modules.define({ name: 'first', init: () => {} });
    host.modules.define({ name: 'bad', init: () => {}, exit: () => Promise.reject(error) });
    await host.modules.modprobe('first');
    await host.modules.modprobe('bad');
    let hardware = true;
    host.atShutdown(() => {
      hardware = false;
    });
    await expect(host.shutdown()).rejects.toBe(error);
    expect([host.modules.loaded(), hardware]).toEqual([[], false]);

    const other = new Host();
    for (const name of ['a', 'b']) other.atShutdown(() => Promise.reject(new Error(name)));
    await expect(other.shutdown()).rejects.toBeInstanceOf(AggregateError);
  });
});

describe('Host disposal', () => {
  it('complains of leaks in checked mode', async () => {
    const run = async (checked: boolean) => {
      await using host = new Host({ checked });
      host.tracker.track('pin', () => 'pin of page 3');
    };
    const bug = await run(true).catch((error: unknown) => error);
    expect(isKernelBug(bug, 'leak')).toBe(true);
    expect(String(bug)).toMatch(/1 not given back\n {2}pin: pin of page 3\n {4}at .*host\.test/);
    await expect(run(false)).resolves.toBeUndefined();
  });

  it('lists some of very many leaks', async () => {
    const host = new Host({ checked: true });
    for (let i = 0; i < 50; i++) host.tracker.track('pin', () => `pin ${i}`);
    const bug = await host[Symbol.asyncDispose]().catch((error: unknown) => error);
    expect(String(bug)).toMatch(/50 not given back[\s\S]*pin 19[\s\S]*and 30 more/);
  });

  it('throws what brought down a timer', async () => {
    const clock = new VirtualClock();
    const host = new Host({ checked: true, clock });
    const error = new Error('timer');
    host.clock.setTimer(1, () => {
      throw error;
    });
    await clock.advance(1);
    await expect(host[Symbol.asyncDispose]()).rejects.toBe(error);
  });
});
