import { O, SystemError } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { commands } from '../src/script/commands/index.js';
import { ScriptError } from '../src/script/errors.js';
import { ScriptLab } from './script-lab.js';

describe('ioctl', () => {
  it('shows a positive return value, hides it with !noret, and takes it for a descriptor with !fd', async () => {
    await using lab = new ScriptLab();
    lab.prepare = (file) => {
      file.onIoctl = (call) => (call.request === 1 ? 42 : call.process.open('/dev/null', O.RDWR));
    };
    expect(
      await lab.steps(
        'open d /dev/lab\nioctl d 1 none\nioctl d 1 none !noret\nioctl d 2 none !fd=x\nfdlink x\nclose x',
      ),
    ).toEqual([{ ret: 'fd' }, { ret: 42 }, { ret: '*' }, { ret: 'fd' }, { target: '/dev/null' }, { ret: 0 }]);
  });

  it('passes the request as 32 bits, and a number or an address as 64', async () => {
    await using lab = new ScriptLab();
    const seen: string[] = [];
    lab.prepare = (file) => {
      file.onIoctl = (call) => {
        seen.push(`${call.request.toString(16)} ${call.arg.toString(16)}`);
        return 0;
      };
    };
    await lab.run(
      'open d /dev/lab\nioctl d -1 null\nioctl d 0x1c0083b6b int -2\nioctl d 1 addr 1<<40\nanon m PAGE\nmunmap m\nioctl d 2 buf 0x1000',
    );
    expect(seen).toEqual(['ffffffff 0', 'c0083b6b fffffffffffffffe', '1 10000000000', '2 1000']);
  });

  it('gives a structure that ends at an inaccessible page, and shows it as the call left it', async () => {
    await using lab = new ScriptLab();
    lab.prepare = (file) => {
      file.onIoctl = (call) => {
        if (call.request === 2) return call.copyIn(13).length;
        const bytes = call.copyIn(12);
        bytes.set([1, 2, 3, 4], 4);
        call.copyOut(bytes);
        throw new SystemError('ENOSPC', 'changed all the same');
      };
    };
    const [, changed, short] = await lab.steps(
      'open d /dev/lab\nioctl d 1 { a=u32:9 b=u32:0 c=s32:-3 }\nioctl d 2 { a=u32:9 b=u64:7 }',
    );
    expect(changed).toEqual({
      ret: -1,
      errno: 'ENOSPC',
      out: '0900000001020304fdffffff',
      fields: { a: 9, b: 0x04030201, c: -3 },
    });
    expect(short).toEqual({ ret: -1, errno: 'EFAULT', out: '090000000700000000000000', fields: { a: 9, b: '0x7' } });
  });

  it('shows a pointer that the call changed, and only that one', async () => {
    await using lab = new ScriptLab();
    lab.prepare = (file) => {
      file.onIoctl = (call) => {
        call.copyOut(Uint8Array.of(0xee), 8);
        return 0;
      };
    };
    const step = await lab.last('open d /dev/lab\nanon m PAGE\nioctl d 1 { ptr:m ptr:0x1122 fd:d }');
    expect(step.out).toBe(`${'pp'.repeat(8)}ee${'pp'.repeat(7)}${'nn'.repeat(4)}`);
  });

  it('finds descriptors in the structure, and does not hide one that is none', async () => {
    await using lab = new ScriptLab();
    lab.prepare = (file) => {
      file.onIoctl = async (call) => {
        if (call.request === 1) {
          const fd = await call.process.open('/dev/null', O.RDWR);
          call.copyOut(Uint8Array.of(fd, 0, 0, 0), 4);
        }
        if (call.request === 3) throw new SystemError('EINVAL', 'nothing');
        return 0;
      };
    };
    const steps = await lab.steps(`open d /dev/lab
ioctl d 1 { n=u32:1 fd=s32:-1 } !fdat=x@4
fdlink x
ioctl d 2 { n=u32:1 fd=s32:-1 } !fdat=y@4
close y
ioctl d 3 { n=u32:1 fd=s32:7 } !fdat=x@4
fdlink x`);
    expect(steps.slice(1)).toEqual([
      { ret: 0, out: '01000000nnnnnnnn', fields: { n: 1, fd: '*' } },
      { target: '/dev/null' },
      { ret: 0, out: '01000000ffffffff', fields: { n: 1, fd: -1 } },
      { ret: -1, errno: 'EBADF' },
      { ret: -1, errno: 'EINVAL', out: '0100000007000000', fields: { n: 1, fd: 7 } },
      { target: '/dev/null' },
    ]);
  });

  it('keeps numbers of a call that succeeded, and only of that', async () => {
    await using lab = new ScriptLab();
    lab.prepare = (file) => {
      file.onIoctl = (call) => {
        if (call.request === 2) throw new SystemError('EIO', 'no');
        return 0;
      };
    };
    const steps = await lab.steps(`default V 0x1
open d /dev/lab
ioctl d 2 { u32:7 } !save=V:u32@0 !quiet
calc V V
ioctl d 1 { u32:7 } !save=V:u32@0 !quiet
calc V V`);
    expect(steps.filter((step) => step.value !== undefined)).toEqual([{ value: '0x1' }, { value: '0x7' }]);
  });

  it('speaks the byte order of the process', async () => {
    await using lab = new ScriptLab({ byteOrder: 'big' });
    lab.prepare = (file) => {
      file.onIoctl = (call) => call.u32();
      file.registers.set([0x12, 0x34], 0);
    };
    const steps = await lab.steps(`open d /dev/lab
ioctl d 1 { a=u32:5 b=le16:1 fd:d } !show=first:u16@0 !save=V:u32@0
calc V V
read d 0 2 !show=v:u16@0 !show=w:le16@0
anon m PAGE
poke u32 m 0 0x11223344
peek u8 m 0 4
peek le32 m 0
setmem m 8 u64:1 u16:2
dump m 8 10
wprobe d 16 u16 0x0102
read d 16 2`);
    expect(steps.slice(1)).toEqual([
      { ret: 5, out: '000000050100nnnnnnnn', fields: { a: 5, b: 1, first: 0 } },
      { value: '0x5' },
      { ret: 2, out: '1234', fields: { v: 0x1234, w: 0x3412 } },
      { ret: 'ptr' },
      { ret: 0 },
      { values: ['0x11', '0x22', '0x33', '0x44'] },
      { value: '0x44332211' },
      { len: 10 },
      { out: '00000000000000010002' },
      { orig: '0x0', writes: ['0x102', '0x0'] },
      { ret: 2, out: '0000' },
    ]);
  });

  it.each([
    ['ioctl d 1 { u32:1', 'missing }'],
    ['ioctl d 1 pointer', "unknown ioctl argument form 'pointer'"],
    ['ioctl d 1 int', 'usage: ioctl FD REQUEST int N'],
    ['ioctl d 1 { u32:1 } !save=V:u64@0', '!save outside the buffer'],
    ['ioctl d 1 { u32:1 } !fdat=x@4', '!fdat outside the buffer'],
  ])('%s: %s', async (line, reason) => {
    await using lab = new ScriptLab();
    const { lines, error } = await lab.run(`open d /dev/lab\n${line}`);
    expect(error).toBeInstanceOf(ScriptError);
    expect(error).toMatchObject({ line: 2, reason });
    expect(lines.at(-1)).toEqual({ line: 2, fatal: reason });
  });
});

describe('read and write', () => {
  it('shows the bytes that came, and no more', async () => {
    await using lab = new ScriptLab();
    lab.prepare = (file) => file.registers.set([1, 2, 3], 4093);
    expect(await lab.last('open d /dev/lab\nread d 4093 16')).toEqual({ ret: 3, out: '010203' });
  });

  it('uses an address that is none for !badptr', async () => {
    await using lab = new ScriptLab();
    const steps = await lab.steps('open d /dev/lab\nread d 0 4 !badptr\nwrite d 0 u32:1 !badptr\nread d 0 4');
    expect(steps.slice(1)).toEqual([
      { ret: -1, errno: 'EFAULT' },
      { ret: -1, errno: 'EFAULT' },
      { ret: 4, out: '00000000' },
    ]);
  });

  it('keeps bytes as a blob and writes them back', async () => {
    await using lab = new ScriptLab();
    lab.prepare = (file) => file.registers.set([9, 8, 7, 6], 0);
    const steps = await lab.steps(
      'open d /dev/lab\nread d 0 4 !blob=b !quiet\nwrite d 8 blob:b:1:2 blob:b\nread d 8 6',
    );
    expect(steps.slice(1)).toEqual([{ ret: 4 }, { ret: 6 }, { ret: 6, out: '080709080706' }]);
  });

  it('refuses a read that no buffer could hold', async () => {
    await using lab = new ScriptLab();
    const { error } = await lab.run('open d /dev/lab\nread d 0 (64<<20)+1');
    expect(error).toMatchObject({ reason: 'read too long' });
  });
});

describe('wprobe', () => {
  it('writes patterns, reads them back, and leaves the old value', async () => {
    await using lab = new ScriptLab();
    lab.prepare = (file) => {
      file.registers.set([0x55, 0x11], 0);
      file.changeable.set(0, 0xf0).set(1, 0x01);
    };
    const steps = await lab.steps('open d /dev/lab\nwprobe d 0 u16\nwprobe d 0 be16 0x12345 1\nread d 0 2');
    expect(steps.slice(1)).toEqual([
      { orig: '0x1155', writes: ['0x11f5', '0x1005', '0x1155'] },
      { orig: '0x5511', writes: ['0x2511', '0x511', '0x5511'] },
      { ret: 2, out: '5511' },
    ]);
  });

  it('says where it failed', async () => {
    await using lab = new ScriptLab();
    lab.prepare = (file) => {
      file.onWrite = (offset, length) => {
        if (offset === 8) throw new SystemError('EACCES', 'read-only');
        return offset === 16 ? 1 : length;
      };
    };
    const steps = await lab.steps(
      'open d /dev/lab\nwprobe d 8192 u32\nwprobe d 4094 u32\nwprobe d 8 u32 5\nwprobe d 16 u32 5',
    );
    expect(steps.slice(1)).toEqual([
      { at: 'read', ret: -1, errno: 'ENXIO' },
      { at: 'read', ret: 2 },
      { orig: '0x0', writes: ['EACCES', 'EACCES'] },
      { orig: '0x0', writes: ['short', 'short'] },
    ]);
  });
});

describe('memory of a device', () => {
  it('is reached with the widest accesses that are aligned, by dump byte by byte', async () => {
    await using lab = new ScriptLab();
    const steps = await lab.steps(`open d /dev/lab
mmap m d 0 PAGE rw
setmem m 4 u32:0x11223344 u64:5 u8:6
peek u16 m 4
poke u32 m 32 7
dump m 4 2
cmpmem m 4 m 4 1`);
    expect(steps.slice(2)).toEqual([{ len: 13 }, { value: '0x3344' }, { ret: 0 }, { out: '4433' }, { equal: true }]);
    expect(lab.files[0]!.accesses).toEqual([
      ...['store 4 4', 'store 8 8', 'store 16 1', 'load 4 2', 'store 32 4', 'load 4 1', 'load 5 1'],
      ...['load 4 1', 'load 4 1'],
    ]);
  });

  it('can fault', async () => {
    await using lab = new ScriptLab();
    const steps = await lab.steps(`open d /dev/lab
mmap m d PAGE PAGE rw
peek u32 m 0
poke u32 m 0 1
peek u32 m 0 2
awaitmem m 0 u32 1 1 100
mmap m d 2*PAGE PAGE rw
peek u32 m 0`);
    expect(steps.slice(2)).toEqual([
      { fault: 'SIGBUS' },
      { fault: 'SIGBUS' },
      { fault: 'SIGBUS' },
      { fault: 'SIGBUS' },
      { ret: -1, errno: 'EINVAL' },
      { fault: 'nomap' },
    ]);
    expect(lab.clock.now()).toBe(0);
  });

  it.each([
    ['setmem m PAGE-1 u16:0', 'setmem outside m'],
    ['pattern m 1 PAGE 0', 'pattern outside m'],
    ['peek u24 m 0', 'bad type u24'],
    ['peek u32 nope 0', "unknown memory area 'nope'"],
  ])('%s: %s', async (line, reason) => {
    await using lab = new ScriptLab();
    const { error } = await lab.run(`anon m PAGE\n${line}`);
    expect(error).toMatchObject({ line: 2, reason });
  });
});

describe('poll', () => {
  it('names what is true, in one order', async () => {
    await using lab = new ScriptLab();
    lab.prepare = (file) => {
      file.bits = 0x1f;
    };
    expect(await lab.last('open d /dev/lab\npoll d 0')).toEqual({ ret: 1, revents: 'in out pri err hup ' });
  });
});

describe('files', () => {
  it('lists a folder by the bytes of its names, with a mark for each kind', async () => {
    await using lab = new ScriptLab();
    lab.host.devtmpfs.add({ path: 'labs/b', major: 240, minor: 8 });
    lab.host.devtmpfs.add({ path: 'labs/B', major: 240, minor: 9 });
    lab.host.devtmpfs.add({ path: 'labs/c/d', major: 240, minor: 10 });
    expect(await lab.last('ls /dev/labs')).toEqual({ ret: 0, count: 3, names: ['B%', 'b%', 'c/'] });
    expect(await lab.last('ls /dev/labs !quiet')).toEqual({ ret: 0, count: 3 });
  });

  it('shows numbers of a device, and the size of a file', async () => {
    await using lab = new ScriptLab();
    expect(await lab.last('stat /dev/lab')).toEqual({
      ...{ ret: 0, type: 'char', mode: '0600', uid: 0, gid: 0 },
      ...{ major: 240, minor: 7 },
    });
    expect(await lab.last('chmod /dev/lab 0640\nstat /dev/lab !quiet')).toMatchObject({ mode: '0640' });
    expect(await lab.last('stat /proc/version')).toMatchObject({ type: 'file', size: 0 });
  });

  it('says whether opening or writing failed', async () => {
    await using lab = new ScriptLab();
    lab.prepare = (file) => {
      file.onWrite = () => {
        throw new SystemError('EBUSY', 'later');
      };
    };
    expect(await lab.last('echo /dev/lab 1')).toEqual({ at: 'write', ret: -1, errno: 'EBUSY' });
    expect(await lab.last('echo /dev/nope 1')).toEqual({ at: 'open', ret: -1, errno: 'ENOENT' });
    expect(await lab.last('cat /dev')).toEqual({ at: 'read', ret: -1, errno: 'EISDIR' });
    expect(await lab.last('cat /dev/nope')).toEqual({ at: 'open', ret: -1, errno: 'ENOENT' });
  });

  it('keeps text, and the last part of a link', async () => {
    await using lab = new ScriptLab();
    expect(
      await lab.steps(
        'cat /proc/version !text=T !quiet\nnote $T.\nopen d /dev/lab\nreadlink /proc/self/fd/3 !base=N\nnote $N',
      ),
    ).toEqual([
      { ret: 0, len: 'Linux version 7.2.13\n'.length },
      { text: 'Linux version 7.2.13.' },
      { ret: 'fd' },
      { ret: 0, target: '/dev/lab' },
      { text: 'lab' },
    ]);
  });

  it('shows the lines that the driver added to fdinfo', async () => {
    await using lab = new ScriptLab();
    expect(await lab.last('open d /dev/lab\nfdinfo d')).toEqual({ lines: ['lab-driver: yes', 'pos-like: no'] });
  });

  it('finds paths by pattern, and keeps the first', async () => {
    await using lab = new ScriptLab();
    lab.host.devtmpfs.add({ path: 'labs/x1/node', major: 240, minor: 8 });
    lab.host.devtmpfs.add({ path: 'labs/x2/node', major: 240, minor: 9 });
    lab.host.devtmpfs.add({ path: 'labs/y2/other', major: 240, minor: 10 });
    expect(
      await lab.steps('glob P /dev/labs/*/node\nnote $P\nglob P /dev/labs/[!x]*\nnote $P\nglob P /dev/labs/z*'),
    ).toEqual([{ count: 2 }, { text: '/dev/labs/x1/node' }, { count: 1 }, { text: '/dev/labs/y2' }, { count: 0 }]);
  });
});

describe('usage', () => {
  it.each([...commands].map(([name, command]) => [name, command] as const))(
    '%s says how it is written when words are missing',
    async (name, command) => {
      await using lab = new ScriptLab();
      const words = Array.from({ length: command.words - 2 }, () => 'x');
      const { error } = await lab.run([name, ...words].join(' '));
      if (command.words === 1) expect(error).toBeUndefined();
      else expect(error).toMatchObject({ line: 1, reason: `usage: ${command.usage}` });
    },
  );
});
