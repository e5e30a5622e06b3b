import { describe, expect, it, vi } from 'vitest';
import {
  createSeams,
  InterruptController,
  type IrqHandler,
  type IrqLine,
  type IrqReturn,
  type IrqTrigger,
  isKernelBug,
  VirtualClock,
} from '../src/index.js';

function makeLine(trigger: IrqTrigger = 'level-high') {
  const clock = new VirtualClock();
  const seams = createSeams({ clock });
  const irq = new InterruptController(seams, { cpus: 1 });
  return { clock, seams, irq, line: irq.allocLine(trigger, 11) };
}

const handled: IrqHandler = () => 'handled';

describe('a level line', () => {
  it('is delivered until the device is served', () => {
    const { line } = makeLine();
    let left = 3;
    line.request('dev', () => {
      if (--left === 0) line.lower();
      return 'handled';
    });
    line.raise();
    expect(left).toBe(0);
    expect(line.count).toBe(3);
  });

  it('can be masked by its own handler, and comes again when it is enabled while still asserted', () => {
    const { line } = makeLine();
    const handler = vi.fn((own: IrqLine) => {
      own.disableNosync();
      return 'handled' as const;
    });
    line.request('vfio-intx(0000:00:02.0)', handler);
    line.raise();
    expect(handler).toHaveBeenCalledTimes(1);
    line.enable();
    expect(handler).toHaveBeenCalledTimes(2);
    line.lower();
    line.enable();
    expect(handler).toHaveBeenCalledTimes(2);
    expect(line.disabled).toBe(false);
  });

  it('is forgotten when it falls while disabled', () => {
    const { line } = makeLine();
    const handler = vi.fn(handled);
    line.request('dev', handler);
    line.disable();
    line.raise();
    line.lower();
    line.enable();
    expect(handler).not.toHaveBeenCalled();
  });

  it('that is up when the first handler comes is delivered at once', () => {
    const { line } = makeLine();
    line.raise();
    const handler = vi.fn((own: IrqLine) => {
      own.lower();
      return 'handled' as const;
    });
    line.request('dev', handler);
    expect(handler).toHaveBeenCalledTimes(1);
  });

  it('is shut down when nobody cares', () => {
    const { line, seams } = makeLine();
    line.request('dev', () => 'none');
    line.raise();
    expect(line.count).toBe(100_000);
    expect(line.disabled).toBe(true);
    expect(seams.log.entries.map(({ text }) => text)).toEqual([
      'irq 11: nobody cared (try booting with the "irqpoll" option)',
      'Disabling IRQ #11',
    ]);
  });

  it('lets others run during a storm, and goes on afterwards', async () => {
    const { line, clock } = makeLine();
    let calls = 0;
    line.request('dev', () => {
      if (++calls === 1500) line.lower();
      return 'handled';
    });
    line.raise();
    expect(calls).toBe(1000);
    await clock.advance(0);
    expect(calls).toBe(1500);
    line.raise();
    expect(calls).toBeGreaterThan(1500);
  });
});

describe('an edge line', () => {
  it('keeps what comes while it is disabled, as one edge', () => {
    const { line } = makeLine('edge-rising');
    const handler = vi.fn(handled);
    line.request('dev', handler);
    line.disable();
    line.pulse();
    line.pulse();
    expect(line.pending).toBe(true);
    line.enable();
    expect(handler).toHaveBeenCalledTimes(1);
  });

  it('signals the edges that its trigger names', () => {
    const counts = (['edge-rising', 'edge-falling', 'edge-both', 'none'] as const).map((trigger) => {
      const { line } = makeLine(trigger);
      line.request('dev', handled);
      line.raise();
      line.raise();
      line.lower();
      line.lower();
      return line.count;
    });
    expect(counts).toEqual([1, 1, 2, 1]);
  });

  it('runs the handler again for an edge that the handler causes, not inside of it', () => {
    const { line } = makeLine('edge-rising');
    let depth = 0;
    let deepest = 0;
    let calls = 0;
    line.request('dev', () => {
      deepest = Math.max(deepest, ++depth);
      if (++calls < 3) line.pulse();
      depth--;
      return 'handled';
    });
    line.pulse();
    expect(calls).toBe(3);
    expect(deepest).toBe(1);
  });
});

describe('request and free', () => {
  it('shares only among those who all share', () => {
    const { line } = makeLine();
    const first = line.request('a', handled, { shared: true });
    line.request('b', handled, { shared: true });
    expect(() => line.request('c', handled)).toThrow(expect.objectContaining({ code: 'EBUSY' }));
    expect(line.actions.map(({ name }) => name)).toEqual(['a', 'b']);
    line.free(first);
    expect(line.actions.map(({ name }) => name)).toEqual(['b']);
    const { line: exclusive } = makeLine();
    exclusive.request('a', handled);
    expect(() => exclusive.request('b', handled, { shared: true })).toThrow(expect.objectContaining({ code: 'EBUSY' }));
  });

  it('calls every handler of a shared line', () => {
    const { line } = makeLine('edge-rising');
    const calls: string[] = [];
    const saying = (name: string, answer: IrqReturn) => () => {
      calls.push(name);
      return answer;
    };
    line.request('a', saying('a', 'none'), { shared: true });
    line.request('b', saying('b', 'handled'), { shared: true });
    line.pulse();
    expect(calls).toEqual(['a', 'b']);
  });

  it('leaves the line disabled if asked, which cannot be shared', () => {
    const { line } = makeLine();
    const handler = vi.fn((own: IrqLine) => {
      own.lower();
      return 'handled' as const;
    });
    expect(() => line.request('dev', handler, { shared: true, noAutoEnable: true })).toThrow(
      expect.objectContaining({ code: 'EINVAL' }),
    );
    line.request('dev', handler, { noAutoEnable: true });
    line.raise();
    expect(handler).not.toHaveBeenCalled();
    line.enable();
    expect(handler).toHaveBeenCalledTimes(1);
  });

  it('leaves nothing behind when there is no memory for the handler', () => {
    const { line, seams } = makeLine();
    using _arm = seams.faults.failOn('request_irq:action');
    expect(() => line.request('dev', handled)).toThrow(expect.objectContaining({ code: 'ENOMEM' }));
    expect(line.actions).toEqual([]);
    line.request('dev', handled);
  });

  it('forgets disables and edges with the last handler', () => {
    const { line } = makeLine('edge-rising');
    const action = line.request('dev', handled);
    line.disable();
    line.pulse();
    line.free(action);
    line.request('dev', handled);
    expect(line.count).toBe(0);
    line.pulse();
    expect(line.count).toBe(1);
  });

  it('tells the source when somebody begins and ends to listen', () => {
    const { line } = makeLine('edge-rising');
    const calls: string[] = [];
    line.chip = { startup: () => calls.push('startup'), shutdown: () => calls.push('shutdown') };
    const first = line.request('a', handled, { shared: true });
    const second = line.request('b', handled, { shared: true });
    line.free(first);
    expect(calls).toEqual(['startup']);
    line.free(second);
    expect(calls).toEqual(['startup', 'shutdown']);
    const quiet = line.request('c', handled, { noAutoEnable: true });
    expect(calls).toHaveLength(2);
    line.enable();
    expect(calls).toEqual(['startup', 'shutdown', 'startup']);
    line.free(quiet);
  });

  it('delivers what a source had behind its mask before the request returns', () => {
    const { line } = makeLine('edge-rising');
    line.chip = { startup: () => line.pulse(), shutdown: () => {} };
    line.request('a', handled);
    expect(line.count).toBe(1);
  });

  it('refuses a new trigger while handlers are installed', () => {
    const { line } = makeLine();
    const action = line.request('dev', handled);
    expect(() => line.setTrigger('edge-rising')).toThrow(expect.objectContaining({ code: 'EBUSY' }));
    line.free(action);
    line.setTrigger('edge-rising');
    expect(line.level).toBe(false);
  });

  it('warns of one enable too many, and of a handler freed twice', () => {
    const { line, seams } = makeLine();
    const action = line.request('dev', handled);
    line.enable();
    line.free(action);
    line.free(action);
    expect(seams.log.warnings().map(({ text }) => text)).toEqual([
      'Unbalanced enable for IRQ 11',
      'Trying to free already-free IRQ 11',
    ]);
  });
});

describe('misuse', () => {
  it('a handler that waits is a bug', () => {
    const { line } = makeLine('edge-rising');
    const handler: () => unknown = async () => 'handled';
    line.request('dev', handler as IrqHandler);
    expect(caught(() => line.pulse())).toSatisfy((error) => isKernelBug(error, 'atomic-sleep'));
  });

  it('a handler that waits for itself is a bug', () => {
    const { line } = makeLine('edge-rising');
    line.request('dev', (own) => {
      own.disable();
      return 'handled';
    });
    expect(caught(() => line.pulse())).toSatisfy((error) => isKernelBug(error, 'lock'));
  });

  it('a line that is freed while it is handled, twice, or used afterwards is a bug', () => {
    const { line, irq } = makeLine();
    const action = line.request('dev', handled);
    expect(caught(() => irq.freeLine(line))).toSatisfy((error) => isKernelBug(error, 'use-after-free'));
    line.free(action);
    irq.freeLine(line);
    expect(caught(() => irq.freeLine(line))).toSatisfy((error) => isKernelBug(error, 'double-free'));
    expect(caught(() => line.request('dev', handled))).toSatisfy((error) => isKernelBug(error, 'use-after-free'));
  });
});

describe('numbers', () => {
  it('of firmware are below 24 and taken once, the others are the lowest free', () => {
    const { irq } = makeLine();
    expect(() => irq.allocLine('level-high', 11)).toThrow(expect.objectContaining({ code: 'EEXIST' }));
    expect(() => irq.allocLine('level-high', 24)).toThrow(RangeError);
    const first = irq.allocLine('edge-rising');
    expect([first.irq, irq.allocLine('edge-rising').irq]).toEqual([24, 25]);
    irq.freeLine(first);
    expect(irq.allocLine('edge-rising').irq).toBe(24);
  });
});

describe('vectors', () => {
  it('are raised by their message', () => {
    const { irq } = makeLine();
    const [first, second] = irq.allocVectors({ min: 2, max: 2 });
    const handlers = [vi.fn(handled), vi.fn(handled)];
    first!.line.request('vfio-msix[0](0000:01:00.0)', handlers[0]!);
    second!.line.request('vfio-msix[1](0000:01:00.0)', handlers[1]!);
    irq.deliver(second!.message);
    expect(handlers.map(({ mock }) => mock.calls.length)).toEqual([0, 1]);
  });

  it('that nobody has requested lose what comes', () => {
    const { irq, seams } = makeLine();
    const [vector] = irq.allocVectors({ min: 1, max: 1 });
    irq.deliver(vector!.message);
    vector!.line.request('vfio-msi[0](0000:01:00.0)', handled);
    expect(vector!.line.count).toBe(0);
    irq.deliver(vector!.message);
    expect(vector!.line.count).toBe(1);
    expect(seams.log.entries).toEqual([]);
  });

  it('that belong to nobody are dropped with a line in the log', () => {
    const { irq, seams } = makeLine();
    irq.deliver({ address: 0xfee0_0000n, data: 0x41 });
    irq.deliver({ address: 0xfee0_3000n, data: 0x05 });
    expect(seams.log.entries.map(({ text }) => text)).toEqual([
      '__common_interrupt: 0.65 No irq handler for vector',
      '__common_interrupt: 3.5 No irq handler for vector',
    ]);
  });

  it('run out: as many as there are down to min, else ENOSPC and none', () => {
    const { irq } = makeLine();
    expect(irq.freeVectors).toBe(192);
    expect(irq.allocVectors({ min: 1, max: 190 })).toHaveLength(190);
    expect(() => irq.allocVectors({ min: 3, max: 8 })).toThrow(expect.objectContaining({ code: 'ENOSPC' }));
    expect(irq.freeVectors).toBe(2);
    const rest = irq.allocVectors({ min: 1, max: 8 });
    expect(rest).toHaveLength(2);
    irq.freeVectorsOf(rest);
    expect(irq.freeVectors).toBe(2);
    expect(() => irq.allocVectors({ min: 0, max: 1 })).toThrow(expect.objectContaining({ code: 'ERANGE' }));
  });

  it('in a block differ in the low bits of their data only', () => {
    const { irq } = makeLine();
    irq.allocVectors({ min: 1, max: 1 });
    const block = irq.allocVectors({ min: 1, max: 8, contiguous: true });
    expect(block).toHaveLength(8);
    const base = block[0]!.message;
    expect(base.data % 8).toBe(0);
    expect(block.map(({ message }) => message)).toEqual(
      block.map((_, index) => ({ address: base.address, data: base.data | index })),
    );
  });

  it('in a block shrink to what is free in one piece', () => {
    const { irq } = makeLine();
    const all = irq.allocVectors({ min: 192, max: 192 });
    irq.freeVectorsOf([all[4]!, all[5]!, all[7]!]);
    expect(irq.allocVectors({ min: 1, max: 32, contiguous: true }).map(({ message }) => message.data)).toEqual([
      0x24, 0x25,
    ]);
    expect(() => irq.allocVectors({ min: 2, max: 2, contiguous: true })).toThrow(
      expect.objectContaining({ code: 'ENOSPC' }),
    );
  });

  it('are all given back when one of them cannot be made', () => {
    const { irq, seams } = makeLine();
    using recording = seams.faults.record();
    irq.freeVectorsOf(irq.allocVectors({ min: 4, max: 4 }));
    recording.stop();
    for (const index of recording.steps.keys()) {
      using arm = seams.faults.failAt(index);
      expect(() => irq.allocVectors({ min: 4, max: 4 })).toThrow();
      expect(arm.fired).toBe(true);
      expect(irq.freeVectors).toBe(192);
      expect(irq.lines.size).toBe(1);
    }
  });
});

function caught(fn: () => void): unknown {
  try {
    fn();
  } catch (error) {
    return error;
  }
  return undefined;
}
