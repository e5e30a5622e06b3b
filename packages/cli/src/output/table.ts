// Tables for people: columns, no frames.

import Table from 'cli-table3';
import type { Colours } from './terminal.js';

/** A column: its title, and on which side its text stands. */
export interface Column {
  readonly title: string;
  readonly align?: 'left' | 'right';
}

const bare = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '  ',
};

/**
 * Writes a table.
 *
 * @param rows - a text for each column; undefined shows as `-`
 * @returns lines with a line end each
 */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly (string | undefined)[])[],
  colours: Colours,
): string {
  const table = new Table({
    chars: bare,
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [], compact: true },
    colAligns: columns.map(({ align = 'left' }) => align),
    head: columns.map(({ title }) => colours.bold(title)),
  });
  for (const row of rows) table.push(row.map((cell) => cell ?? '-'));
  return `${table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n')}\n`;
}
