/* Scripts as a kernel developer writes them, with what Linux answers behind each step: `#> answer`. */
import { VirtualClock } from '@vfio/host';
import { Machine } from '@vfio/machine';
import { isStep, parseScript, runScript, type TranscriptStep } from '@vfio/testing';
import { expect, it } from 'vitest';
import { driverPackage } from '../src/machine.js';

const modules = [{ name: 'vfio_iommu_type1' }, { name: 'mtty' }];

const beginning = `
set U 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001
set V 83b8f4f2-509f-382f-3c1e-e6bfe0fa1002
set P /sys/devices/virtual/mtty/mtty
set T1 /sys/devices/virtual/mtty/mtty/mdev_supported_types/mtty-1
set T2 /sys/devices/virtual/mtty/mtty/mdev_supported_types/mtty-2
set B /sys/bus/mdev
`;

/** Opens the card of a UUID as `d`, through container `c` and group `g`. */
const opening = `
readlink $P/$U/iommu_group !base=G
open c /dev/vfio/vfio
open g /dev/vfio/$G
ioctl g VFIO_GROUP_SET_CONTAINER { fd:c }
ioctl c VFIO_SET_IOMMU int TYPE1v2
ioctl g VFIO_GROUP_GET_DEVICE_FD str $U !fd=d
`;

const mark = '#> ';

/** The one thing that a step found out. */
function answer(step: TranscriptStep): string {
  const { errno, target, status, out, ret } = step;
  const { names, text, revents } = step;
  if (Array.isArray(names)) return names.join(' ') || 'nothing';
  if (typeof text === 'string') return text.replaceAll('\n', ' ').trim() || 'nothing';
  if (typeof revents === 'string') return revents.trim();
  return String(errno ?? target ?? status ?? out ?? ret);
}

/** Runs a script and holds the answers against those that it names. */
async function tell(story: string): Promise<void> {
  const clock = new VirtualClock();
  await using machine = await Machine.load(
    { version: 1, host: {}, vfio: { iommufd: false, iovaBitmap: false } },
    { drivers: [driverPackage], clock, modules },
  );
  const lines = (beginning + story).split('\n');
  const told = lines.map((line) => line.split(mark)[0]);
  for await (const step of runScript(parseScript(lines.join('\n'), 'story.vfs'), machine.process(), { clock })) {
    if (isStep(step) && lines[step.line - 1]?.includes(mark)) told[step.line - 1] += mark + answer(step);
  }
  expect(told).toEqual(lines);
}

it('references of modules while a card is in use and migrates', () =>
  tell(`
cat /sys/module/mtty/refcnt          #> 0
cat /sys/module/mdev/refcnt          #> 1
cat /sys/module/vfio/refcnt          #> 2
echo $T2/create $U
cat /sys/module/mtty/refcnt          #> 0
${opening}
cat /sys/module/mtty/refcnt          #> 1
cat /sys/module/vfio/refcnt          #> 6
cat /sys/module/vfio_iommu_type1/refcnt #> 1
dup d2 d
ioctl g VFIO_GROUP_GET_DEVICE_FD str $U !fd=e
cat /sys/module/mtty/refcnt          #> 1
cat /sys/module/vfio/refcnt          #> 7
ioctl d VFIO_DEVICE_FEATURE { argsz=u32:16 flags=u32:FEAT_SET|F_MIG_DEVICE_STATE st=u32:ST_STOP_COPY fd=s32:-1 } !fdat=m@12
cat /sys/module/mtty/refcnt          #> 2
ioctl d VFIO_DEVICE_FEATURE { argsz=u32:16 flags=u32:FEAT_SET|F_MIG_DEVICE_STATE st=u32:ST_STOP fd=s32:-1 }
cat /sys/module/mtty/refcnt          #> 2
sread m 1                            #> ENODEV
close d
close d2
close e
close g
close c
cat /sys/module/vfio/refcnt          #> 2
run rmmod mtty                       #> 1
close m
run rmmod mtty                       #> 0
cat /sys/module/mdev/refcnt          #> 0
run rmmod vfio                       #> 1
run rmmod mdev                       #> 0
run rmmod vfio_iommu_type1           #> 0
run rmmod vfio                       #> 0
open c /dev/vfio/vfio                #> ENOENT
run modprobe mtty                    #> 0
open c /dev/vfio/vfio                #> fd
ioctl c VFIO_CHECK_EXTENSION int TYPE1v2 #> 0
`));

it('what is left of a card that is removed while somebody has it open', () =>
  tell(`
echo $T2/create $U
${opening}
spawn remover fresh
  echo $P/$U/remove 1                #> 1
end
sleep 20
ls $P/$U                             #> iommu_group@
ls $P                                #> 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001/ mdev_supported_types/ power/ subsystem@ uevent
ls $B/devices                        #> nothing
ls $B/drivers/mtty                   #> bind module@ uevent unbind
ls $T2/devices                       #> nothing
ls /sys/class/vfio-dev               #> nothing
ls /dev/vfio                         #> 0% vfio%
ls /sys/kernel/iommu_groups/$G/devices #> 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001@
cat $T2/available_instances          #> 11
echo $T2/create $U                   #> EEXIST
echo $P/$U/remove 1                  #> ENOENT
ioctl g VFIO_GROUP_GET_DEVICE_FD str $U !fd=e #> ENODEV
read d R(CONFIG) 4                   #> 48435332
run rmmod mtty                       #> 1
close d
wait remover                         #> 0
ls $P/$U                             #> ENOENT
ls /dev/vfio                         #> vfio%
cat $T2/available_instances          #> 12
ioctl g VFIO_GROUP_GET_STATUS { argsz=u32:8 flags=u32:0 } #> ENODEV
echo $T2/create $U                   #> 36
`));

it('unbind waits for the user, and nothing binds again', () =>
  tell(`
echo $T2/create $U
${opening}
spawn unbinder fresh
  echo $B/drivers/mtty/unbind "$U\\n" #> 37
end
sleep 20
ls $P/$U                             #> iommu_group@ mdev_type@ power/ remove subsystem@ uevent
ls $B/devices                        #> 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001@
close d
wait unbinder                        #> 0
ls $P/$U                             #> mdev_type@ power/ remove subsystem@ uevent
cat $P/$U/uevent                     #> nothing
cat $T2/available_instances          #> 12
echo $B/drivers/mtty/unbind $U       #> ENODEV
echo $B/drivers/mtty/bind $U         #> ENODEV
echo $B/drivers_probe $U             #> 36
echo $B/drivers_probe $V             #> ENODEV
ls $T2/devices                       #> 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001@
echo $T1/create $U                   #> EEXIST
echo $P/$U/remove 1                  #> 1
echo $T1/create $U                   #> 36
`));

it('accesses of odd sizes across the registers of two ports, and beyond them', () =>
  tell(`
echo $T2/create \${U}x               #> 37
${opening}
write d R(BAR0)+3 u8:0x80            #> 1
write d R(BAR0) hex:0c00             #> 2
read d R(BAR0) 2                     #> 0c00
read d R(BAR0) 8                     #> 0c00000000000000
read d R(BAR0)+1 7                   #> 00c10000000000
write d R(BAR1)+7 u8:0x5a            #> 1
read d R(BAR1)+5 3                   #> 60b300
read d R(BAR1)+7 1                   #> 5a
read d R(BAR1)+0x10007 1             #> 5a
read d R(BAR1)+8 4                   #> 00000000
read d R(BAR0)+7 1                   #> 00
read d R(CONFIG)-2 4                 #> EFAULT
read d R(9) 1                        #> EFAULT
write d R(CONFIG)+0x10010 le32:0xc000 #> 4
read d R(CONFIG)+0x10 6              #> 01c000000100
lseek d 0 set                        #> ESPIPE
sread d 4                            #> 0c000000
swrite d u8:3                        #> 1
read d R(BAR0)+4 1                   #> 03
mmap m d R(BAR0) PAGE rw             #> EINVAL
poll d 0                             #> in out
`));

it('uevents on demand', () =>
  tell(`
echo $P/uevent add                   #> 3
echo $P/uevent "change\\n"            #> 7
echo $P/uevent "add $U A=1"          #> 44
echo $P/uevent "add $U A"            #> EINVAL
echo $P/uevent "add x"               #> EINVAL
echo $P/uevent ADD                   #> EINVAL
echo $P/uevent "\\n"                  #> EINVAL
cat $P/uevent                        #> nothing
echo $B/uevent remove                #> 6
cat $B/uevent                        #> EACCES
echo $B/drivers/mtty/uevent bind     #> 4
echo /sys/module/mtty/uevent offline #> 7
`));

it('what another user may do', () =>
  tell(`
echo $T1/create $U
spawn user fresh
  setuid 1000
  cat $P/$U/vendor/sample_mdev_dev   #> This is MDEV 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001
  echo $T1/create $V                 #> EACCES
  echo $P/$U/remove 1                #> EACCES
  echo $B/drivers_probe $U           #> EACCES
  chmod $P/$U/remove 666             #> EPERM
  run rmmod mtty                     #> 1
  open f $T1/name                    #> EACCES
  open f $T1/name rdonly             #> fd
end
wait user
chmod $P/$U/remove 222               #> 0
spawn user2 fresh
  setuid 1000
  echo $P/$U/remove 0                #> 1
  echo $P/$U/remove 1                #> 1
end
wait user2
ls $B/devices                        #> nothing
chmod $T1/name 666                   #> 0
echo $T1/name x                      #> EIO
`));
