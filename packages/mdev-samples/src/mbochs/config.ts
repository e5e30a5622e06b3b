/** Config space of mbochs: the display adapter of Bochs, with video memory in BAR0 and registers in BAR2. */
import { ConfigOffset } from '../common/config-space.js';
import { BAR_PREFETCH, DisplayConfigSpace } from '../common/display-config.js';
import { MMIO_SIZE } from './mmio.js';

/** Vendor 0x1234, device 0x1111: QEMU's VGA adapter, which the driver bochs-drm takes. */
const DEVICE_ID = 0x1111_1234;

/**
 * The 255 bytes of config space. There are no capabilities.
 *
 * @source samples/vfio-mdev/mbochs.c mbochs_create_config_space()
 */
export class MbochsConfigSpace extends DisplayConfigSpace {
  /** @param memorySize - bytes of video memory */
  constructor(memorySize: number) {
    super({
      id: DEVICE_ID,
      bars: [
        { offset: ConfigOffset.BAR0, size: memorySize, flags: BAR_PREFETCH },
        { offset: ConfigOffset.BAR2, size: MMIO_SIZE, flags: 0 },
      ],
    });
  }
}
