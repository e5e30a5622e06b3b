// What to ask a compiler about the system's headers, and what its answers say about our layouts. Nothing here runs anything.

/** `capOffset` -> `cap_offset`: the rule by which members are named, backwards. */
export function snakeCase(name) {
  return name.replace(/([A-Z])/g, '_$1').toLowerCase();
}

/** The body of `struct name { ... }` in preprocessed C, without its braces; undefined when the header has no such struct. */
export function structBody(source, name) {
  const start = new RegExp(`\\bstruct\\s+${name}\\s*\\{`).exec(source);
  if (!start) return undefined;
  const from = start.index + start[0].length;
  for (let at = from, depth = 1; at < source.length; at++) {
    if (source[at] === '{') depth++;
    else if (source[at] === '}' && --depth === 0) return source.slice(from, at);
  }
  return undefined;
}

/** The name that a member has in C, `__reserved` for one; undefined when the header's struct does not have it (yet). */
export function memberName(body, name) {
  const plain = snakeCase(name);
  return [plain, `__${plain}`].find((candidate) =>
    new RegExp(`\\b${candidate}\\s*(?:\\[[^\\]]*\\]\\s*)*(?:__\\w+\\([^)]*\\)\\s*)?[;,]`).test(body),
  );
}

/**
 * The structs that both sides know, and their members that both know.
 *
 * @param layouts - ours: objects with the C name, `size` and `fields`
 * @param source - the headers, preprocessed
 */
export function intersect(layouts, source) {
  const known = [];
  for (const layout of layouts) {
    const body = structBody(source, layout.name);
    if (body === undefined) continue;
    const members = [];
    let missing = 0;
    for (const [name, { kind, offset, size }] of Object.entries(layout.fields)) {
      if (kind === 'pad') continue;
      const cName = memberName(body, name);
      if (cName === undefined) missing++;
      else members.push({ cName, offset, size, flexible: kind === 'tail' });
    }
    // a struct that has grown since is as long as the header's only up to what the header knows
    known.push({ name: layout.name, size: missing > 0 ? undefined : layout.size, members, missing });
  }
  return known;
}

/** A C program that prints a line for each number: `<what> <value>`. Macros that a header lacks are left out. */
export function program(headers, known, macros) {
  const lines = [];
  for (const { name, members } of known) {
    lines.push(`  printf("sizeof ${name} %zu\\n", sizeof(struct ${name}));`);
    for (const { cName, flexible } of members) {
      lines.push(`  printf("offsetof ${name}.${cName} %zu\\n", offsetof(struct ${name}, ${cName}));`);
      if (!flexible) lines.push(`  printf("sizeof ${name}.${cName} %zu\\n", sizeof(((struct ${name} *)0)->${cName}));`);
    }
  }
  for (const name of macros) {
    lines.push(`#ifdef ${name}`, `  printf("value ${name} %llu\\n", (unsigned long long)(${name}));`, '#endif');
  }
  const includes = ['stddef.h', 'stdio.h', ...headers].map((header) => `#include <${header}>`);
  return [...includes, 'int main(void)', '{', ...lines, '  return 0;', '}', ''].join('\n');
}

/** The program's output as a map. */
export function answers(output) {
  const map = new Map();
  for (const line of output.trim().split('\n')) {
    const at = line.lastIndexOf(' ');
    map.set(line.slice(0, at), Number(line.slice(at + 1)));
  }
  return map;
}

/**
 * Holds our numbers against the compiler's.
 *
 * @param numbers - macro names and our values
 * @returns a row for each struct, and one for each macro that differs
 */
export function compare(known, numbers, said) {
  const rows = known.map(({ name, size, members, missing }) => {
    const differences = [];
    const check = (what, ours) => {
      const theirs = said.get(what);
      if (theirs !== ours) differences.push(`${what} is ${theirs}, ours ${ours}`);
    };
    if (size !== undefined) check(`sizeof ${name}`, size);
    for (const { cName, offset, size: bytes, flexible } of members) {
      check(`offsetof ${name}.${cName}`, offset);
      if (!flexible) check(`sizeof ${name}.${cName}`, bytes);
    }
    return { name, size: said.get(`sizeof ${name}`), members: members.length, missing, differences };
  });
  for (const [name, ours] of Object.entries(numbers)) {
    const theirs = said.get(`value ${name}`);
    if (theirs !== undefined && theirs !== ours) {
      rows.push({ name, size: undefined, members: 0, missing: 0, differences: [`${name} is ${theirs}, ours ${ours}`] });
    }
  }
  return rows;
}

/** The rows in columns, differences below the row that they belong to. */
export function table(rows) {
  const width = Math.max(...rows.map(({ name }) => name.length), 6);
  const line = (name, size, members, verdict) =>
    `${name.padEnd(width)}  ${String(size).padStart(5)}  ${String(members).padStart(7)}  ${verdict}`;
  const lines = [line('struct', 'size', 'members', '')];
  for (const { name, size, members, missing, differences } of rows) {
    const note = missing > 0 ? `same, but for ${missing} newer than the header` : 'same';
    lines.push(line(name, size ?? '', members || '', differences.length > 0 ? 'DIFFERS' : note));
    for (const difference of differences) lines.push(`${' '.repeat(width)}  ${difference}`);
  }
  return lines.map((text) => text.trimEnd()).join('\n');
}
