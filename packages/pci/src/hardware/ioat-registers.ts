/*
 * I/OAT by name: registers of the engine and of a channel, and descriptors. Source: drivers/dma/ioat/registers.h, hw.h
 */

/** Registers of the engine, from the start of its BAR. Channels follow, each as large as this part. */
export const IoatReg = {
  CHANNEL_COUNT: 0x00,
  TRANSFER_CAPACITY: 0x01,
  GENERAL_CONTROL: 0x02,
  INTERRUPT_CONTROL: 0x03,
  ATTENTION: 0x04,
  VERSION: 0x08,
  INTERRUPT_DELAY: 0x0c,
  DEVICE_STATUS: 0x0e,
  CAPABILITIES: 0x10,
  CHANNEL_SIZE: 0x80,
} as const;

/** Registers of a channel, from its start. */
export const ChannelReg = {
  CONTROL: 0x00,
  COMPATIBILITY: 0x02,
  COMMAND: 0x04,
  DMA_COUNT: 0x06,
  STATUS: 0x08,
  CHAIN_ADDRESS: 0x10,
  COMPLETION_ADDRESS: 0x18,
  DESCRIPTOR_ADDRESS: 0x20,
  ERROR: 0x28,
  ERROR_MASK: 0x2c,
} as const;

/** Bits of the interrupt control register. */
export const IoatIrq = { MASTER_ENABLE: 0x01, STATUS: 0x02, PENDING: 0x04, MSIX_VECTOR: 0x08 } as const;

/** What the engine can do. */
export const IoatCap = { FILL: 0x40, XOR: 0x100 } as const;

/** Bits of a channel's control register. */
export const ChannelControl = {
  REARM: 0x01,
  ERROR_COMPLETION: 0x04,
  ABORT_ON_ERROR: 0x08,
  ERROR_INTERRUPT: 0x10,
} as const;

/** Commands of a channel. */
export const ChannelCommand = { SUSPEND: 0x04, ABORT: 0x08, RESUME: 0x10, RESET: 0x20 } as const;

/** What a channel does. */
export const ChannelState = { ACTIVE: 0, DONE: 1, SUSPENDED: 2, HALTED: 3, ARMED: 4 } as const;

/** Why a channel has stopped. */
export const ChannelError = {
  SOURCE_ADDRESS: 0x0001,
  DESTINATION_ADDRESS: 0x0002,
  NEXT_ADDRESS: 0x0004,
  NEXT_ALIGNMENT: 0x0008,
  CHAIN_ADDRESS: 0x0010,
  COMMAND: 0x0020,
  READ_DATA: 0x0100,
  WRITE_DATA: 0x0200,
  CONTROL: 0x0400,
  LENGTH: 0x0800,
  COMPLETION_ADDRESS: 0x1000,
  XOR: 0x1_0000,
} as const;

/** Bytes of a descriptor, and its fields. */
export const Descriptor = {
  SIZE: 64,
  LENGTH: 0,
  CONTROL: 4,
  SOURCE: 8,
  DESTINATION: 16,
  NEXT: 24,
  /** The second to fifth source of an exclusive or. */
  MORE_SOURCES: 32,
  OPERATION_SHIFT: 24,
  INTERRUPT: 0x01,
  COMPLETION: 0x08,
  NULL: 0x20,
  SOURCES_SHIFT: 5,
  SOURCES_MASK: 0x7,
} as const;

/** Operations of a descriptor. */
export const Operation = { COPY: 0x00, FILL: 0x01, XOR: 0x87, XOR_VALIDATE: 0x88 } as const;

/** Registers in config space that tell of errors. */
export const IoatConfig = { CHANNEL_ERROR: 0x180, CHANNEL_ERROR_MASK: 0x184 } as const;
