/*
 * Bridges: ports of PCI Express and the bridge to conventional PCI. They have a bus behind them, and a bit that resets it.
 */
import { BridgeControl, BridgeReg, ExpType, HeaderType, PciClass, Reg } from '../bus/regs.js';
import { addExpress } from './capabilities/express.js';
import { addMsi } from './capabilities/msi.js';
import { addPowerManagement } from './capabilities/power-management.js';
import { addAcs, addAer } from './capabilities/simple.js';
import { EmulatedFunction, type FunctionOptions, type ResetKind } from './function.js';
import { EmulatedSegment } from './segment.js';

const IO_32 = 0x0101;
const PREF_64 = 0x0001_0001;
const CONTROL_BITS = 0x0f_5f;
const BRIDGE_CLASS = (PciClass.BRIDGE_PCI << 8) | 0;
const IDS = { RED_HAT: 0x1b36, ROOT_PORT: 0x000c, PCI_BRIDGE: 0x000e } as const;

/** A bridge: two buses, and windows between them. */
export class EmulatedBridge extends EmulatedFunction {
  readonly secondary = new EmulatedSegment();

  constructor(options: FunctionOptions) {
    super(options);
    const { config } = this;
    config.set(Reg.HEADER_TYPE, 1, HeaderType.BRIDGE | (options.multifunction ? HeaderType.MFD : 0));
    // Where a device has its subsystem, a bridge has a window.
    config.set(Reg.SUBSYSTEM_VENDOR_ID, 4, 0);
    this.#windows();
    config.hook(BridgeReg.BRIDGE_CONTROL, {
      written: (before) => {
        const set = (config.get(BridgeReg.BRIDGE_CONTROL, 2) & BridgeControl.BUS_RESET) !== 0;
        if (set && ((before >>> 16) & BridgeControl.BUS_RESET) === 0) this.secondary.reset();
      },
    });
  }

  /** Whoever resets a bridge resets everything behind it. */
  override reset(kind: ResetKind): void {
    super.reset(kind);
    this.secondary.reset();
  }

  #windows(): void {
    const { config } = this;
    config.allow(BridgeReg.PRIMARY_BUS, 4, 0xff_ffff);
    config.set(BridgeReg.IO_BASE, 2, IO_32);
    config.allow(BridgeReg.IO_BASE, 2, 0xf0f0);
    config.allow(BridgeReg.MEMORY_BASE, 4, 0xfff0_fff0);
    config.set(BridgeReg.PREF_MEMORY_BASE, 4, PREF_64);
    config.allow(BridgeReg.PREF_MEMORY_BASE, 4, 0xfff0_fff0);
    config.allow(BridgeReg.PREF_BASE_UPPER32, 4, 0xffff_ffff);
    config.allow(BridgeReg.PREF_LIMIT_UPPER32, 4, 0xffff_ffff);
    config.allow(BridgeReg.IO_BASE_UPPER16, 4, 0xffff_ffff);
    config.allow(BridgeReg.BRIDGE_CONTROL, 2, CONTROL_BITS);
    config.clearOnOne(BridgeReg.SEC_STATUS, 2, 0xf900);
  }
}

/** What a port is like. */
export interface PortOptions {
  /** A card can be taken out while the machine runs. */
  readonly slot?: boolean;
  /** It keeps what is below apart. True by default. */
  readonly acs?: boolean;
  readonly multifunction?: boolean;
}

/** A root port, as those of QEMU. */
export function rootPort(options: PortOptions = {}): EmulatedBridge {
  return port(ExpType.ROOT_PORT, options);
}

/** The upstream port of a switch: its bus has downstream ports. */
export function upstreamPort(options: PortOptions = {}): EmulatedBridge {
  return port(ExpType.UPSTREAM, { ...options, slot: false, acs: false });
}

/** A downstream port of a switch. */
export function downstreamPort(options: PortOptions = {}): EmulatedBridge {
  return port(ExpType.DOWNSTREAM, options);
}

/** A bridge from PCI Express to a conventional bus. What is behind it can not be told apart. */
export function pciBridge({ multifunction = false }: Pick<PortOptions, 'multifunction'> = {}): EmulatedBridge {
  const { RED_HAT: vendor, PCI_BRIDGE: device } = IDS;
  const bridge = new EmulatedBridge({ vendor, device, classCode: BRIDGE_CLASS, pin: 1, multifunction, extended: true });
  addExpress(bridge, { type: ExpType.PCI_BRIDGE });
  addPowerManagement(bridge);
  addMsi(bridge, { vectors: 1 });
  addAer(bridge);
  return bridge;
}

function port(type: number, { slot = true, acs = true, multifunction = false }: PortOptions): EmulatedBridge {
  const { RED_HAT: vendor, ROOT_PORT: device } = IDS;
  const bridge = new EmulatedBridge({
    vendor,
    device,
    classCode: BRIDGE_CLASS,
    pin: 1,
    multifunction,
    extended: true,
  });
  addExpress(bridge, { type, slot, ari: type !== ExpType.UPSTREAM });
  addPowerManagement(bridge);
  addMsi(bridge, { vectors: 1, maskable: true });
  addAer(bridge);
  if (acs) addAcs(bridge);
  return bridge;
}
