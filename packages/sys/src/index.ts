export type { Calls, Watch } from './calls.js';
export {
  Fcntl,
  MapProt,
  OpenFlag,
  PollEvent,
  SCM_MAX_FD,
  Seal,
  Shut,
} from './constants.js';
export { Epoll } from './epoll.js';
export { EventCalls, eventfd } from './eventfd.js';
export { Fd } from './fd.js';
export { accessOf, dup, type FileStat, fstat, isShrinkSealed, memfd } from './files.js';
export { Linux, type LinuxOptions, type MapOptions } from './linux.js';
export { NativeMemory } from './memory.js';
export type { OpenResource, OpenTable, ResourceKind } from './open-table.js';
export { pidfdGetfd, pidfdOpen } from './pidfd.js';
export { Reactor, type ReactorOptions, type Watcher } from './reactor.js';
export { NOT_NOW, Transfer } from './transfer.js';
export {
  adoptListener,
  adoptSocket,
  connectUnix,
  listenUnix,
  socketPair,
  UnixListener,
  UnixSocket,
} from './unix-socket.js';
