// Virtual machines that devices are given to. A file only remembers the machine; the device holds it from its first open
// to its last close.

import type { KvmVm } from '@vfio/host';
import type { VfioDevice } from './device.js';

/**
 * First open: takes a reference on the machine that the file was told of, unless that is on its way out. Whoever opens
 * finds it in `device.kvm`, on a kernel with KVM.
 *
 * @source drivers/vfio/vfio_main.c vfio_device_get_kvm_safe()
 */
export function takeKvm(device: VfioDevice, kvm: KvmVm | undefined): void {
  if (device.vfio.options.kvm && kvm?.getSafe()) device.kvm = kvm;
}

/**
 * Last close, or a first open that failed: gives it back.
 *
 * @source drivers/vfio/vfio_main.c vfio_device_put_kvm()
 */
export function putKvm(device: VfioDevice): void {
  const { kvm } = device;
  device.kvm = undefined;
  kvm?.put();
}
