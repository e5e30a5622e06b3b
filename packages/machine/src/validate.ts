// From the complaints of a schema to one clear line for a person: where, what is wrong, what would be right.

import type { JsonSchema } from '@vfio/core';
import { Ajv2020, type ErrorObject } from 'ajv/dist/2020.js';

/** One thing wrong with some data. */
export interface Complaint {
  /** Keys and indices that lead to it. */
  readonly path: readonly (string | number)[];
  /** What is wrong, and what would be right. */
  readonly problem: string;
}

/**
 * Checks data against a schema.
 *
 * @returns the first thing that is wrong, undefined if nothing is
 */
export function firstComplaint(schema: JsonSchema, data: unknown): Complaint | undefined {
  const ajv = new Ajv2020({ allErrors: true, allowUnionTypes: true, strict: false, verbose: true });
  const validate = ajv.compile(schema);
  if (validate(data)) return undefined;
  const errors = validate.errors ?? [];
  // of a choice the complaints of its branches say more than the choice itself, and the deepest one most
  const telling = errors.filter((error) => error.keyword !== 'oneOf' && error.keyword !== 'anyOf');
  const [worst] = [...(telling.length > 0 ? telling : errors)].sort((a, b) => depth(b) - depth(a));
  return worst && { path: pathOf(worst), problem: explain(worst) };
}

function depth(error: ErrorObject): number {
  return pathOf(error).length;
}

function pathOf(error: ErrorObject): (string | number)[] {
  const keys = error.instancePath
    .split('/')
    .slice(1)
    .map((key) => key.replaceAll('~1', '/').replaceAll('~0', '~'))
    .map((key) => (/^\d+$/.test(key) ? Number(key) : key));
  const extra = error.keyword === 'additionalProperties' ? String(error.params.additionalProperty) : undefined;
  return extra === undefined ? keys : [...keys, extra];
}

function explain(error: ErrorObject): string {
  const { params, keyword, parentSchema } = error;
  const given = error.data === undefined ? '' : `is ${JSON.stringify(error.data)}: `;
  const title = titleOf(parentSchema);
  switch (keyword) {
    case 'enum':
      return `${given}use one of ${list(params.allowedValues)}`;
    case 'const':
      return `${given}it must be ${JSON.stringify(params.allowedValue)}`;
    case 'type':
      return `${given}it must be ${title ?? list(params.type, ' or ')}`;
    case 'required':
      return `'${String(params.missingProperty)}' is missing: add it`;
    case 'additionalProperties':
      return `is not known here: use one of ${list(Object.keys(propertiesOf(parentSchema)))}, or remove it`;
    case 'pattern':
      return `${given}it must ${title === undefined ? `match ${String(params.pattern)}` : `be ${title}`}`;
    case 'minimum':
    case 'maximum':
      return `${given}it must be ${title ?? `${String(params.comparison)} ${String(params.limit)}`}`;
    default:
      return `${given}it ${error.message ?? 'is not accepted'}`;
  }
}

function propertiesOf(schema: unknown): object {
  if (typeof schema !== 'object' || schema === null || !('properties' in schema)) return {};
  return typeof schema.properties === 'object' && schema.properties !== null ? schema.properties : {};
}

/** What a schema calls its values, if it says so: nobody wants to read a regular expression in a complaint. */
function titleOf(schema: unknown): string | undefined {
  if (typeof schema !== 'object' || schema === null || !('title' in schema)) return undefined;
  return typeof schema.title === 'string' ? schema.title : undefined;
}

function list(values: unknown, between = ', '): string {
  return Array.isArray(values) ? values.map(String).join(between) : String(values);
}

/** `mdev-samples.mtty.devices[0].type` */
export function pathText(path: readonly (string | number)[]): string {
  return path.reduce<string>((text, key) => {
    if (typeof key === 'number') return `${text}[${key}]`;
    return text ? `${text}.${key}` : key;
  }, '');
}
