export type { ResourcePool } from './common/pool.js';
export { MttyDevice, type MttyDeviceOptions } from './mtty/device.js';
export { defineMtty, type MttyOptions, MttyType } from './mtty/driver.js';
export type { SerialPort, SerialPortFactory, SerialPortState } from './mtty/hw.js';
export { portRecord, STREAM_MAGIC, STREAM_VERSION, type StreamHeader, streamHeader, streamSize } from './mtty/uapi.js';
