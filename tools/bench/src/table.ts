// Figures in columns.

const [kilo, mega, giga] = [1e3, 1e6, 1e9];

/** `1.25 us`: three digits and a unit. */
export function duration(ns: number): string {
  if (ns < kilo) return `${digits(ns)} ns`;
  if (ns < mega) return `${digits(ns / kilo)} us`;
  return ns < giga ? `${digits(ns / mega)} ms` : `${digits(ns / giga)} s`;
}

/** `803 k/s`: how often in a second. */
export function rate(ns: number): string {
  const perSecond = giga / ns;
  if (perSecond >= mega) return `${digits(perSecond / mega)} M/s`;
  return perSecond >= kilo ? `${digits(perSecond / kilo)} k/s` : `${digits(perSecond)} /s`;
}

/** `12.3 x` */
export function ratio(value: number): string {
  return `${digits(value)} x`;
}

function digits(value: number): string {
  if (value >= 100) return value.toFixed(0);
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/**
 * Rows in columns under a header: the first column to the left, the others to the right.
 */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)));
  const line = (row: readonly string[]) =>
    widths
      .map((width, column) => {
        const text = row[column] ?? '';
        return column === 0 ? text.padEnd(width) : text.padStart(width);
      })
      .join('  ')
      .trimEnd();
  return [line(header), widths.map((width) => '-'.repeat(width)).join('  '), ...rows.map(line)].join('\n');
}

/** As {@link table}, for a README. */
export function markdownTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(header), line(header.map((_, column) => (column === 0 ? '---' : '--:'))), ...rows.map(line)].join('\n');
}
