import { expect, it } from 'vitest';
import * as api from '../src/index.js';

it('exports these names and no others', () => {
  expect(Object.keys(api).sort()).toMatchInlineSnapshot(`
    [
      "ExplorationError",
      "FaultRunError",
      "GoldenNotFoundError",
      "ScriptError",
      "StepFailure",
      "compareTranscripts",
      "explore",
      "findGolden",
      "forEachFault",
      "formatDifference",
      "formatLine",
      "formatReplay",
      "formatSummary",
      "isStep",
      "loadDeviations",
      "loadScript",
      "loadTranscript",
      "modulesNeeded",
      "parseDeviations",
      "parseHeader",
      "parseScript",
      "parseTranscript",
      "recordScript",
      "replayFile",
      "replayScript",
      "runScript",
      "usesIommufd",
    ]
  `);
});
