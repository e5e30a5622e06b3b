// Numbers of the system calls' arguments, as Linux has them on x86-64 and arm64 alike. Bits of one argument are one object.

/** Address families and kinds of sockets. Source: include/linux/socket.h, include/linux/net.h */
export const Af = { UNIX: 1 } as const;
export const Sock = { STREAM: 1, NONBLOCK: 0o4000, CLOEXEC: 0o2000000 } as const;

/** How a message is sent or received, and what is told of it. Source: include/linux/socket.h */
export const Msg = {
  CTRUNC: 0x8,
  TRUNC: 0x20,
  DONTWAIT: 0x40,
  NOSIGNAL: 0x4000,
  CMSG_CLOEXEC: 0x40000000,
} as const;

/** Level and type of the control message that carries descriptors. */
export const SOL_SOCKET = 1;
export const SCM_RIGHTS = 1;
/** Most descriptors that the kernel passes with one call. Source: include/net/scm.h SCM_MAX_FD */
export const SCM_MAX_FD = 253;

/** Socket options. Source: include/uapi/asm-generic/socket.h */
export const So = { SNDBUF: 7, RCVBUF: 8, PEERCRED: 17, ACCEPTCONN: 30 } as const;

/** Which directions of a connection are shut. */
export const Shut = { RD: 0, WR: 1, RDWR: 2 } as const;

/** What a mapping may be used for. Source: include/uapi/asm-generic/mman-common.h */
export const MapProt = { READ: 1, WRITE: 2 } as const;
export const MapFlag = { SHARED: 1, PRIVATE: 2, FIXED: 0x10, ANONYMOUS: 0x20, NORESERVE: 0x4000 } as const;

/** How a memfd is made, and which seals it has. Source: include/uapi/linux/memfd.h, fcntl.h */
export const Mfd = { CLOEXEC: 1, ALLOW_SEALING: 2 } as const;
export const Seal = { SEAL: 1, SHRINK: 2, GROW: 4, WRITE: 8, FUTURE_WRITE: 0x10 } as const;

/** How an eventfd is made. Source: include/linux/eventfd.h */
export const Efd = { SEMAPHORE: 1, NONBLOCK: 0o4000, CLOEXEC: 0o2000000 } as const;

/** Commands of fcntl. Source: include/uapi/asm-generic/fcntl.h, include/uapi/linux/fcntl.h */
export const Fcntl = {
  GETFD: 1,
  SETFD: 2,
  GETFL: 3,
  SETFL: 4,
  DUPFD_CLOEXEC: 1030,
  ADD_SEALS: 1033,
  GET_SEALS: 1034,
} as const;

/** How a file is open, as F_GETFL tells it. */
export const OpenFlag = { ACCMODE: 3, RDONLY: 0, WRONLY: 1, RDWR: 2, NONBLOCK: 0o4000 } as const;

/** What poll and epoll tell of a descriptor. Source: include/uapi/linux/eventpoll.h */
export const PollEvent = { IN: 0x1, OUT: 0x4, ERR: 0x8, HUP: 0x10, NVAL: 0x20, RDHUP: 0x2000 } as const;

/** What is done to the list of an epoll descriptor. */
export const EpollCtl = { ADD: 1, DEL: 2, MOD: 3 } as const;
export const EPOLL_CLOEXEC = 0o2000000;

/** Calls that older C libraries have no function for; the numbers are those of every architecture. */
export const SyscallNumber = { PIDFD_OPEN: 434, PIDFD_GETFD: 438, EPOLL_PWAIT2: 441 } as const;
