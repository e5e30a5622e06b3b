/** Config space of mdpy: a display whose one capability tells the guest what its memory looks like. */
import { ConfigOffset } from '../common/config-space.js';
import { BAR_PREFETCH, DisplayConfigSpace } from '../common/display-config.js';
import { DRM_FORMAT_XRGB8888 } from '../common/gfx-plane.js';
import type { Geometry } from './framebuffer.js';

/** Vendor 0x1b36, device 0x000f. Source: samples/vfio-mdev/mdpy-defs.h */
const DEVICE_ID = 0x000f_1b36;
/** There are capabilities. */
const STATUS = 0x0010;
/** Source: include/uapi/linux/pci_regs.h PCI_CAP_ID_VNDR */
const CAP_ID_VENDOR = 0x09;

/** The vendor's capability. Source: samples/vfio-mdev/mdpy-defs.h MDPY_VENDORCAP_* */
export const VendorCap = { OFFSET: 0x40, SIZE: 0x10, FORMAT: 0x44, WIDTH: 0x48, HEIGHT: 0x4c } as const;

/**
 * The 255 bytes of config space.
 *
 * @source samples/vfio-mdev/mdpy.c mdpy_create_config_space()
 */
export class MdpyConfigSpace extends DisplayConfigSpace {
  constructor({ width, height, memorySize }: Geometry) {
    super({ id: DEVICE_ID, bars: [{ offset: ConfigOffset.BAR0, size: memorySize, flags: BAR_PREFETCH }] });
    this.store16(ConfigOffset.STATUS, STATUS);
    this.bytes[ConfigOffset.CAPABILITIES] = VendorCap.OFFSET;
    this.bytes.set([CAP_ID_VENDOR, 0, VendorCap.SIZE], VendorCap.OFFSET); // with no next one
    this.store32(VendorCap.FORMAT, DRM_FORMAT_XRGB8888);
    this.store32(VendorCap.WIDTH, width);
    this.store32(VendorCap.HEIGHT, height);
  }
}
