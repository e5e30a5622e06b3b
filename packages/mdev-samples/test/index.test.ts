import { expect, it } from 'vitest';
import * as hardware from '../src/hardware/index.js';
import * as api from '../src/index.js';
import * as machine from '../src/machine.js';

it('has these public names', () => {
  expect(Object.keys(api).sort()).toMatchInlineSnapshot(`
    [
      "Geometry",
      "MbochsDevice",
      "MbochsType",
      "MdpyDevice",
      "MdpyType",
      "MttyDevice",
      "MttyType",
      "STREAM_MAGIC",
      "STREAM_VERSION",
      "defineMbochs",
      "defineMdpy",
      "defineMtty",
      "portRecord",
      "streamHeader",
      "streamSize",
    ]
  `);
  expect(Object.keys(hardware).sort()).toMatchInlineSnapshot(`
    [
      "Fcr",
      "Ier",
      "Iir",
      "Lcr",
      "Lsr",
      "Mcr",
      "Msr",
      "Uart16550",
      "UartRegister",
    ]
  `);
  expect(Object.keys(machine)).toMatchInlineSnapshot(`
    [
      "driverPackage",
    ]
  `);
});
