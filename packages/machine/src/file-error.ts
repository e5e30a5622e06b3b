// What is wrong with a machine file: where, and what to do about it.

/** Where in a file, counted from 1. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

/**
 * A machine file that can not be used. The message is one line for a person: `lab.yaml:12:9: ...: fix`.
 */
export class MachineFileError extends Error {
  override readonly name = 'MachineFileError';
  /** The file, or `machine` for an object. */
  readonly file: string;
  readonly position: Position | undefined;
  /** Where in the data: `mdev-samples.mtty.devices[0].type`. */
  readonly path: string;

  constructor(file: string, path: string, problem: string, position?: Position, options?: ErrorOptions) {
    const where = position ? `${file}:${position.line}:${position.column}` : file;
    super(path ? `${where}: ${path}: ${problem}` : `${where}: ${problem}`, options);
    this.file = file;
    this.path = path;
    this.position = position;
  }
}
