import { expect, it } from 'vitest';
import * as api from '../src/index.js';

it('exports these names and no others', () => {
  expect(Object.keys(api).sort()).toMatchInlineSnapshot(`
    [
      "ConformanceError",
      "ExplorationError",
      "FaultRunError",
      "GoldenNotFoundError",
      "ScriptError",
      "StepFailure",
      "compareTranscripts",
      "conformanceCases",
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
      "testDriver",
      "usesIommufd",
    ]
  `);
});
