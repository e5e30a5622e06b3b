/* A directory that was opened: it has a place and a state, and nothing to read. */
import { SystemError } from '../errors.js';
import { File } from './file.js';

/** An open directory. */
export class DirectoryFile extends File {
  /** @param path - where it is */
  constructor(flags: number, path: string) {
    super({ flags, label: path, seek: 'normal' });
  }

  override read(): number {
    throw new SystemError('EISDIR', `${this.label} is a directory`);
  }
}
