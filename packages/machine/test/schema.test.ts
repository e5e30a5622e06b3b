import { readFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { describe, expect, it } from 'vitest';
import { machineSchema } from '../src/index.js';
import { ownKeys } from '../src/schema.js';

const read = (path: string): unknown => JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'));

describe('the schema of machine files', () => {
  it('is published as it is used; after a change run: npm run schema', () => {
    expect(read('../schema/machine-v1.schema.json')).toEqual(machineSchema);
  });

  it('is published where it says that it is', () => {
    const { exports } = read('../package.json') as { exports: Record<string, string> };
    expect(exports['./schema.json']).toBe('./schema/machine-v1.schema.json');
    expect(machineSchema.$id).toBe(`https://unpkg.com/@vfio/machine${exports['./schema.json']?.slice(1)}`);
  });

  it('is a JSON Schema of 2020-12 without mistakes', () => {
    // strict: unknown keywords, and keywords that their type has no use for, are mistakes
    const ajv = new Ajv2020({ strict: true, allowUnionTypes: true, strictTypes: false, strictRequired: false });
    expect(() => ajv.compile(machineSchema)).not.toThrow();
  });

  it('describes the keys that are no sections of drivers, and no others', () => {
    expect(Object.keys(machineSchema.properties as object).sort()).toEqual([...ownKeys].sort());
  });

  it.each(['mdev'])('accepts the machine of the transcripts: %s', async (name) => {
    const { parse } = await import('yaml');
    const text = readFileSync(new URL(`../../../transcripts/machines/${name}.yaml`, import.meta.url), 'utf8');
    const validate = new Ajv2020({ strict: false }).compile(machineSchema);
    expect([validate(parse(text)), validate.errors]).toEqual([true, null]);
  });
});
