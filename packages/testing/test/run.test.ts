import { Host, KernelBug, SystemError } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { ScriptError } from '../src/script/errors.js';
import { parseScript } from '../src/script/parse.js';
import { recordScript, runScript } from '../src/script/run.js';
import { StepFailure } from '../src/script/script-process.js';
import { formatLine } from '../src/script/transcript.js';
import { ScriptLab } from './script-lab.js';

describe('time', () => {
  it('moves exactly as far as the processes of the script wait', async () => {
    await using lab = new ScriptLab();
    await lab.run('sleep 250\neventfd e\nevread e 1000\npoll e 0\nsleep 0');
    expect(lab.clock.now()).toBe(1250);
  });

  it('stands still for a script that does not wait', async () => {
    await using lab = new ScriptLab();
    await lab.run('eventfd e\nevwrite e\nevread e 5000\nopen d /dev/lab\npoll d 5000');
    expect(lab.clock.now()).toBe(0);
  });

  it('lets a spawned process begin 1 ms after the fork', async () => {
    await using lab = new ScriptLab();
    const steps = await lab.steps('eventfd e\nspawn p\n  evwrite e\nend\nevread e\nevread e 50');
    expect(steps.slice(2)).toEqual([{ signaled: false }, { signaled: true, count: 1 }]);
    expect(lab.clock.now()).toBe(1);
  });

  it('wakes a process at the moment that it waits for', async () => {
    await using lab = new ScriptLab();
    const steps = await lab.steps(`eventfd e
spawn p
  sleep 100
  evwrite e 3
end
evread e
evread e 100
evread e 1000
wait p`);
    expect(steps.slice(2, 5)).toEqual([{ signaled: false }, { signaled: false }, { signaled: true, count: 3 }]);
    expect(lab.clock.now()).toBe(101);
  });

  it('looks again every 2 ms in await, and gives up when its time has passed', async () => {
    await using lab = new ScriptLab();
    lab.prepare = (file) => {
      lab.clock.setTimer(7, () => {
        file.registers[0] = 0x81;
      });
    };
    const steps = await lab.steps('open d /dev/lab\nawait d 0 u8 0x80 0x80 100\nawait d 0 u8 0x40 0x40 20 !quiet');
    expect(steps.slice(1)).toEqual([{ ok: true, value: '0x81' }, { ok: false }]);
    expect(lab.clock.now()).toBe(8 + 22);
  });

  it('passes by itself on the clock of the machine', async () => {
    await using host = new Host({ checked: true });
    const script = parseScript('spawn p\n  note child\nend\nwait p\nsleep 1\n', 'real.vfs');
    const lines = await recordScript(script, host.spawn());
    expect(lines.map((line) => ('op' in line ? line.op : 'end'))).toEqual(['spawn', 'wait', 'note', 'sleep', 'end']);
  });
});

describe('a step that takes too long', () => {
  it('ends the run after 60 s, with a fatal line', async () => {
    await using lab = new ScriptLab();
    const { lines, error } = await lab.run('eventfd e\nevread e -1\nnote never');
    expect(error).toBeUndefined();
    expect(lines.slice(1)).toEqual([{ line: 2, fatal: 'timeout' }]);
    expect(lab.clock.now()).toBe(60_000);
  });

  it('counts anew with each step, and takes the time that it is told', async () => {
    await using lab = new ScriptLab();
    const { lines } = await lab.run('sleep 90\nsleep 90\nsleep 110\nnote never', { stepTimeoutMs: 100 });
    expect(lines.map(formatLine)).toEqual([
      '{"n":1,"line":1,"op":"sleep","src":"sleep 90"}',
      '{"n":2,"line":2,"op":"sleep","src":"sleep 90"}',
      '{"line":3,"fatal":"timeout"}',
    ]);
  });

  it('ends only the spawned process that it belongs to, with status 3', async () => {
    await using lab = new ScriptLab();
    const { lines, error } = await lab.run('spawn p\n  sleep 200\nend\nwait p 90\nwait p 90\nnote on', {
      stepTimeoutMs: 100,
    });
    expect(error).toBeUndefined();
    expect(lines.slice(1)).toMatchObject([
      { op: 'wait', exited: false },
      { op: 'wait', exited: true, status: 3 },
      { line: 2, proc: 'p', fatal: 'timeout' },
      { op: 'note' },
      { end: true, steps: 4 },
    ]);
  });

  it('is noticed in a call that the device does not return from', async () => {
    await using lab = new ScriptLab();
    lab.prepare = (file) => {
      file.onIoctl = (call) =>
        new Promise((_resolve, reject) => {
          call.process.signal.addEventListener('abort', () => reject(new SystemError('EINTR', 'killed')));
        });
    };
    const { lines } = await lab.run('open d /dev/lab\nioctl d 1 none\nnote never');
    expect(lines.at(-1)).toEqual({ line: 2, fatal: 'timeout' });
  });
});

describe('a call that nothing interrupts', () => {
  it('does not keep a run from its end', async () => {
    await using lab = new ScriptLab();
    let letGo: (() => void) | undefined;
    const again = (): unknown => lab.clock.setTimer(1000, again);
    lab.prepare = (file) => {
      again();
      file.onIoctl = () =>
        new Promise<number>((resolve) => {
          letGo = () => resolve(0);
        });
    };
    const { lines, error } = await lab.run('open d /dev/lab\nioctl d 1 none\nnote never');
    expect(lines.slice(1)).toEqual([{ line: 2, fatal: 'timeout' }]);
    expect(error).toBeUndefined();
    expect(lab.clock.now()).toBe(70_000);
    letGo?.();
  });

  it('keeps a spawned process from exiting', async () => {
    await using lab = new ScriptLab();
    let letGo: (() => void) | undefined;
    lab.prepare = (file) => {
      file.onIoctl = () =>
        new Promise<number>((resolve) => {
          letGo = () => resolve(0);
          lab.clock.setTimer(300, letGo);
        });
    };
    const { lines } = await lab.run(
      'open d /dev/lab\nspawn p\n  ioctl d 1 none\nend\nsleep 100\nkill p\nwait p 100\nwait p',
    );
    expect(lines.slice(3)).toMatchObject([
      { op: 'kill', ret: 0 },
      { op: 'wait', exited: false },
      { op: 'wait', exited: true, status: 137 },
      { end: true },
    ]);
    expect(lab.clock.now()).toBe(301);
  });
});

describe('mistakes', () => {
  it('end the run with a fatal line and an error that says where', async () => {
    await using lab = new ScriptLab();
    const { lines, error } = await lab.run('note a\nnote $NOPE "x"\nnote b');
    expect(lines).toMatchObject([{ op: 'note' }, { line: 2, fatal: 'unknown variable NOPE' }]);
    expect(error).toBeInstanceOf(ScriptError);
    expect(error).toMatchObject({ message: 'lab.vfs:2: unknown variable NOPE', file: 'lab.vfs', line: 2 });
  });

  it('write their message without quotes and backslashes', async () => {
    await using lab = new ScriptLab();
    const { lines } = await lab.run('frob "a\\"b\\\\"\n"x\\"y"');
    expect(lines).toEqual([{ line: 1, fatal: "unknown command 'frob'" }]);
    expect((await lab.run('"x\\"y\\\\"')).lines).toEqual([{ line: 1, fatal: "unknown command 'x'y''" }]);
  });

  it('end only the spawned process that made them, with status 2, but are not forgotten', async () => {
    await using lab = new ScriptLab();
    const { lines, error } = await lab.run('spawn p\n  note a\n  frob\nend\nwait p\nnote on');
    expect(lines.slice(1)).toMatchObject([
      { op: 'wait', exited: true, status: 2 },
      { op: 'note', proc: 'p' },
      { line: 3, fatal: "unknown command 'frob'" },
      { op: 'note', n: 3 },
      { end: true, steps: 3 },
    ]);
    expect(error).toMatchObject({ line: 3, reason: "unknown command 'frob'" });
  });

  it.each([
    ['set A', 'usage: set V TEXT'],
    ['default A', 'usage: default V TEXT'],
    ['for I in\nend', 'usage: for V in VALUES | for V = LO .. HI [step N]'],
    ['for I = 1 ..\nend', 'usage: for V in VALUES | for V = LO .. HI [step N]'],
    ['for I = 0 .. 9 step 0\nend', 'a loop with step 0 has no end'],
    ['spawn\nend', 'usage: spawn NAME [fresh]'],
    ['wait', 'usage: wait NAME [TIMEOUT_MS]'],
    ['wait nobody', "unknown process 'nobody'"],
    ['kill nobody', "unknown process 'nobody'"],
    ['note a !nonsense', 'unknown option !nonsense'],
  ])('%j: %s', async (text, reason) => {
    await using lab = new ScriptLab();
    expect((await lab.run(text)).error).toMatchObject({ line: 1, reason });
  });

  it('cannot wait for a process of somebody else', async () => {
    await using lab = new ScriptLab();
    const { error } = await lab.run('spawn a\n  sleep 10\nend\nspawn b\n  wait a\nend\nwait b\nwait a');
    expect(error).toMatchObject({ line: 5, reason: 'waitpid: No child processes' });
  });

  it('include a fork that fails', async () => {
    await using lab = new ScriptLab();
    const process = lab.host.spawn();
    lab.host.faults.failOn('copy_process:task');
    const run = recordScript(parseScript('spawn p\nend\n', 'x.vfs'), process, { clock: lab.clock });
    await expect(run).rejects.toMatchObject({ line: 1, reason: 'fork: EAGAIN' });
  });
});

describe('failures of the implementation', () => {
  it('end the run where they happen, with the cause', async () => {
    await using lab = new ScriptLab();
    const bug = new KernelBug('driver', 'went wrong');
    lab.prepare = (file) => {
      file.onIoctl = () => {
        throw bug;
      };
    };
    const { lines, error } = await lab.run('open d /dev/lab\nioctl d 1 none\nnote never');
    expect(lines).toHaveLength(1);
    expect(error).toBeInstanceOf(StepFailure);
    expect(error).toMatchObject({ line: 2, source: 'ioctl d 1 none', cause: bug });
    expect((error as Error).message).toBe('lab.vfs:2: ioctl d 1 none: driver: went wrong');
  });

  it('end the run also from within a spawned process', async () => {
    await using lab = new ScriptLab();
    lab.prepare = (file) => {
      file.onIoctl = () => {
        throw new TypeError('not a function');
      };
    };
    const { error } = await lab.run('open d /dev/lab\nspawn p\n  ioctl d 1 none\nend\nsleep 50\nnote never');
    expect(error).toMatchObject({ name: 'StepFailure', line: 3 });
    expect(lab.clock.now()).toBe(1);
  });

  it('include an exit that does not end', async () => {
    await using lab = new ScriptLab();
    let letGo: (() => void) | undefined;
    lab.prepare = (file) => {
      file.release = () =>
        new Promise<void>((resolve) => {
          letGo = resolve;
        });
    };
    const { lines, error } = await lab.run('open d /dev/lab', { stepTimeoutMs: 500 });
    expect(lines.at(-1)).toEqual({ end: true, steps: 1 });
    expect(error).toMatchObject({ name: 'StepFailure', message: 'lab.vfs:1: exit: not done in time' });
    letGo?.();
  });
});

describe('processes', () => {
  it('start with the standard streams open, so that the first descriptor is 3', async () => {
    await using lab = new ScriptLab();
    expect(await lab.steps('fdlink 2\nfdlink 3\nopen d /dev/lab\nfdlink 3')).toEqual([
      { target: '/dev/null' },
      { ret: -1, errno: 'ENOENT' },
      { ret: 'fd' },
      { target: '/dev/lab' },
    ]);
  });

  it('exit at the end of the script, and whatever they spawned with them', async () => {
    await using lab = new ScriptLab();
    const before = lab.host.processes.all().length;
    const { lines } = await lab.run('open d /dev/lab\nspawn p\n  sleep 5000\nend\nsleep 10');
    expect(lines.at(-1)).toEqual({ end: true, steps: 3 });
    expect(lab.host.processes.all().length).toBe(before);
    expect(lab.files[0]!.count).toBe(0);
    expect(lab.clock.now()).toBe(10);
  });

  it('go on while the one who reads the transcript is busy, and nothing gets lost', async () => {
    await using lab = new ScriptLab();
    const script = parseScript('note a\nnote b\neventfd e\nevwrite e\nnote c\n', 'x.vfs');
    const seen: string[] = [];
    for await (const line of runScript(script, lab.host.spawn(), { clock: lab.clock })) {
      for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
      seen.push('op' in line ? line.src : 'end');
    }
    expect(seen).toEqual(['note a', 'note b', 'eventfd e', 'evwrite e', 'note c', 'end']);
  });

  it('exit when nobody asks for the rest of the transcript', async () => {
    await using lab = new ScriptLab();
    const process = lab.host.spawn();
    const script = parseScript('open d /dev/lab\nsleep 100\nnote b\n', 'x.vfs');
    for await (const line of runScript(script, process, { clock: lab.clock })) {
      expect(line).toMatchObject({ op: 'open' });
      break;
    }
    expect(process.exitStatus).toEqual({ code: 0, signal: 'SIGKILL' });
    expect(lab.files[0]!.count).toBe(0);
  });

  it('killed before they begin have nothing to say', async () => {
    await using lab = new ScriptLab();
    const { lines } = await lab.run('spawn p\n  note never\nend\nkill p\nwait p');
    expect(lines.slice(2)).toMatchObject([{ op: 'wait', exited: true, status: 137 }, { end: true }]);
  });

  it('give up what has a name when they are fresh, and only then', async () => {
    await using lab = new ScriptLab();
    const steps = await lab.steps(`open d /dev/lab
anon m PAGE
poke u8 m 0 5
spawn p fresh
  fdlink 3
  peek u8 m 0
end
spawn q
  fdlink d
  peek u8 m 0
end
wait p
wait q`);
    expect(steps.filter((step) => step.proc === 'p')).toMatchObject([{ errno: 'ENOENT' }, { fault: 'SIGSEGV' }]);
    expect(steps.filter((step) => step.proc === 'q')).toMatchObject([{ target: '/dev/lab' }, { value: '0x5' }]);
  });

  it('die of a bad access that nobody expected', async () => {
    await using lab = new ScriptLab();
    const { lines, error } = await lab.run('anon m PAGE none\nsetmem m 0 u8:1\nnote never');
    expect(error).toBeUndefined();
    expect(lines).toMatchObject([{ op: 'anon' }]);
    const child = await lab.run('open d /dev/lab\nmmap m d PAGE PAGE rw\nspawn p\n  cmpmem m 0 m 0 1\nend\nwait p');
    expect(child.lines).toContainEqual(expect.objectContaining({ op: 'wait', exited: true, status: 135 }));
  });
});

describe('options of a run', () => {
  it('set variables that default leaves alone', async () => {
    await using lab = new ScriptLab();
    expect(await lab.last('default A 1\ndefault B 2\nnote $A $B', { variables: { A: 'given' } })).toEqual({
      text: 'given 2',
    });
  });

  it('map the beginning of paths, whole parts only', async () => {
    await using lab = new ScriptLab();
    const paths = { '/run/x': '/dev' };
    expect(await lab.steps('open d /run/x/lab\nopen e /run/xy/lab\nls /run/x !quiet', { paths })).toMatchObject([
      { ret: 'fd' },
      { errno: 'ENOENT' },
      { ret: 0 },
    ]);
  });

  it('add programs', async () => {
    await using lab = new ScriptLab();
    const seen: unknown[] = [];
    const step = await lab.last('open d /dev/lab\nopen c /dev/lab rdwr,cloexec\nrun report a "b c" !out', {
      programs: {
        report: ({ process, args, print }) => {
          seen.push(args, process.comm, process.files.getOrUndefined(3) !== undefined, process.files.getOrUndefined(4));
          print('one');
          print('two');
          return 5;
        },
      },
    });
    expect(step).toEqual({ status: 5, text: 'one\ntwo\n' });
    expect(seen).toEqual([['a', 'b c'], 'report', true, undefined]);
  });
});

describe('modprobe and rmmod', () => {
  function withModules(lab: ScriptLab): string[] {
    const events: string[] = [];
    lab.host.modules.define({ name: 'base', init: () => void events.push('base') });
    lab.host.modules.define({
      name: 'top_half',
      depends: ['base'],
      parameters: { level: { type: 'uint', default: 1, mode: 0o444 } },
      init: ({ module }) => void events.push(`top ${module.parameters.get('level')?.value}`),
      exit: () => void events.push('gone'),
    });
    lab.host.modules.define({
      name: 'broken',
      init: () => {
        throw new SystemError('ENODEV', 'no hardware');
      },
    });
    return events;
  }

  it('load what is needed first, and take modules away', async () => {
    await using lab = new ScriptLab();
    const events = withModules(lab);
    const steps = await lab.steps(`run modprobe top-half level=3
run modprobe top_half level=4
cat /sys/module/top_half/parameters/level
run rmmod base !out
run rmmod top-half
run rmmod top_half !out
run modprobe -r base
ls /sys/module/base`);
    expect(events).toEqual(['base', 'top 3', 'gone']);
    expect(steps).toEqual([
      { status: 0 },
      { status: 0 },
      { ret: 0, len: 2, text: '3\n' },
      { status: 1, text: 'rmmod: ERROR: Module base is in use by: top_half\n' },
      { status: 0 },
      { status: 1, text: 'rmmod: ERROR: Module top_half is not currently loaded\n' },
      { status: 0 },
      { ret: -1, errno: 'ENOENT' },
    ]);
  });

  it('modprobe -r takes away what is of no more use', async () => {
    await using lab = new ScriptLab();
    withModules(lab);
    lab.host.modules.define({ name: 'other_half', depends: ['base'], init: () => {} });
    const steps = await lab.steps(`run modprobe -a top_half other_half
run modprobe -r base
run modprobe -r top_half
ls /sys/module
run modprobe -r other-half
ls /sys/module/base`);
    expect(steps.map(({ status, names, errno }) => status ?? names ?? errno)).toEqual([
      0,
      1,
      0,
      expect.not.arrayContaining(['top_half/']),
      0,
      'ENOENT',
    ]);
  });

  it('say what went wrong, and -q does not', async () => {
    await using lab = new ScriptLab();
    withModules(lab);
    const steps = await lab.steps(`run modprobe broken !out
run modprobe nope !out
run modprobe -q nope !out
run modprobe -a base broken nope !out
run modprobe !out
run rmmod !out
run modprobe top_half level=x !out`);
    expect(steps).toEqual([
      { status: 1, text: "modprobe: ERROR: could not insert 'broken': No such device\n" },
      { status: 1, text: 'modprobe: FATAL: Module nope not found in directory /lib/modules/7.2.13\n' },
      { status: 1, text: '' },
      {
        status: 1,
        text: "modprobe: ERROR: could not insert 'broken': No such device\nmodprobe: FATAL: Module nope not found in directory /lib/modules/7.2.13\n",
      },
      { status: 1, text: 'modprobe: ERROR: missing parameters. See -h.\n' },
      { status: 1, text: 'rmmod: ERROR: missing module name.\n' },
      { status: 1, text: "modprobe: ERROR: could not insert 'top_half': Invalid argument\n" },
    ]);
    expect(lab.host.modules.get('base')).toBeDefined();
  });

  it('need CAP_SYS_MODULE', async () => {
    await using lab = new ScriptLab();
    const events = withModules(lab);
    const steps = await lab.steps(
      'run modprobe base\nsetuid 1000\nrun modprobe top_half !out\nrun modprobe base\nrun rmmod base !out',
    );
    expect(events).toEqual(['base']);
    expect(steps.slice(2)).toEqual([
      { status: 1, text: "modprobe: ERROR: could not insert 'top_half': Operation not permitted\n" },
      { status: 0 },
      { status: 1, text: 'rmmod: ERROR: could not remove module base: Operation not permitted\n' },
    ]);
  });
});
