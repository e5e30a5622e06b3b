import { expect, it } from 'vitest';
import * as api from '../src/index.js';

it('has these public names', () => {
  expect(Object.keys(api).sort()).toMatchInlineSnapshot(`
    [
      "MdevBus",
      "MdevDevice",
      "MdevDriver",
      "MdevParent",
      "MdevType",
      "defineMdev",
      "mdevBus",
      "mdevRegisterDriver",
      "mdevRegisterParent",
      "mdevUnregisterDriver",
      "mdevUnregisterParent",
    ]
  `);
});
