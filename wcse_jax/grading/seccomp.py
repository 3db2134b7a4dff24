"""A seccomp filter for programs that nobody has read, as classic BPF.

Denied are the calls with which a program makes processes, namespaces, mounts,
sockets, keys, shared memory or files without a name, reads other processes, or
reaches parts of the kernel that have been attacked before; and every call that
is newer than this list.  The rest of what a program could do is bounded by the
namespaces and limits of `sandbox`.

It is written by hand, since it is a list of numbers: the Python bindings of
libseccomp would be one more thing to install, for a filter of two hundred
instructions.

Source: linux/seccomp.h, linux/filter.h, linux/sched.h; the numbers of
asm/unistd_64.h (x86-64) and asm-generic/unistd.h (aarch64), Linux 6.1.
"""

import struct


# Everything above is unknown here, and answered as by an older kernel.
NEWEST = 450

# Name -> numbers on x86-64 and aarch64; None where there is no such call.
DENIED: dict[str, tuple[int | None, int | None]] = {
  'accept': (43, 202),
  'accept4': (288, 242),
  'acct': (163, 89),
  'add_key': (248, 217),
  'adjtimex': (159, 171),
  'bind': (49, 200),
  'bpf': (321, 280),
  'chroot': (161, 51),
  'clock_adjtime': (305, 266),
  'clock_settime': (227, 112),
  'connect': (42, 203),
  'create_module': (174, None),
  'delete_module': (176, 106),
  'fanotify_init': (300, 262),
  'fanotify_mark': (301, 263),
  'finit_module': (313, 273),
  'fsconfig': (431, 431),
  'fsmount': (432, 432),
  'fsopen': (430, 430),
  'fspick': (433, 433),
  'get_mempolicy': (239, 236),
  'init_module': (175, 105),
  'inotify_init': (253, None),
  'inotify_init1': (294, 26),
  'io_cancel': (210, 3),
  'io_destroy': (207, 1),
  'io_getevents': (208, 4),
  'io_pgetevents': (333, 292),
  'io_setup': (206, 0),
  'io_submit': (209, 2),
  'io_uring_enter': (426, 426),
  'io_uring_register': (427, 427),
  'io_uring_setup': (425, 425),
  'ioperm': (173, None),
  'iopl': (172, None),
  'ioprio_set': (251, 30),
  'kcmp': (312, 272),
  'kexec_file_load': (320, 294),
  'kexec_load': (246, 104),
  'keyctl': (250, 219),
  'listen': (50, 201),
  'lookup_dcookie': (212, 18),
  'mbind': (237, 235),
  'memfd_create': (319, 279),
  'memfd_secret': (447, 447),
  'migrate_pages': (256, 238),
  'mknod': (133, None),
  'mknodat': (259, 33),
  'modify_ldt': (154, None),
  'mount': (165, 40),
  'mount_setattr': (442, 442),
  'move_mount': (429, 429),
  'move_pages': (279, 239),
  'mq_open': (240, 180),
  'msgctl': (71, 187),
  'msgget': (68, 186),
  'msgrcv': (70, 188),
  'msgsnd': (69, 189),
  'name_to_handle_at': (303, 264),
  'nfsservctl': (180, 42),
  'open_by_handle_at': (304, 265),
  'open_tree': (428, 428),
  'perf_event_open': (298, 241),
  'personality': (135, 92),
  'pidfd_getfd': (438, 438),
  'pidfd_open': (434, 434),
  'pidfd_send_signal': (424, 424),
  'pivot_root': (155, 41),
  'process_madvise': (440, 440),
  'process_mrelease': (448, 448),
  'process_vm_readv': (310, 270),
  'process_vm_writev': (311, 271),
  'ptrace': (101, 117),
  'quotactl': (179, 60),
  'quotactl_fd': (443, 443),
  'reboot': (169, 142),
  'request_key': (249, 218),
  'sched_setattr': (314, 274),
  'seccomp': (317, 277),
  'semctl': (66, 191),
  'semget': (64, 190),
  'semop': (65, 193),
  'semtimedop': (220, 192),
  'set_mempolicy': (238, 237),
  'set_mempolicy_home_node': (450, 450),
  'setdomainname': (171, 162),
  'setgid': (106, 144),
  'setgroups': (116, 159),
  'sethostname': (170, 161),
  'setns': (308, 268),
  'setregid': (114, 143),
  'setresgid': (119, 149),
  'setresuid': (117, 147),
  'setreuid': (113, 145),
  'settimeofday': (164, 170),
  'setuid': (105, 146),
  'shmat': (30, 196),
  'shmctl': (31, 195),
  'shmget': (29, 194),
  'socket': (41, 198),
  'socketpair': (53, 199),
  'splice': (275, 76),
  'swapoff': (168, 225),
  'swapon': (167, 224),
  'sysfs': (139, None),
  'syslog': (103, 116),
  'tee': (276, 77),
  'umount2': (166, 39),
  'unshare': (272, 97),
  'uselib': (134, None),
  'userfaultfd': (323, 282),
  'ustat': (136, None),
  'vhangup': (153, 58),
  'vmsplice': (278, 75),
}
# Handled apart: `clone` by its flags, `clone3` (whose flags a filter cannot
# read) as unknown, so that the C library falls back on `clone`.
FORKS: dict[str, tuple[int | None, int | None]] = {
  'fork': (57, None),
  'vfork': (58, None),
}
CLONE, CLONE3, IOCTL = (56, 220), (435, 435), (16, 29)

# Machine -> its column above, and its AUDIT_ARCH.
MACHINES = {'x86_64': (0, 0xC000003E), 'aarch64': (1, 0xC00000B7)}

_CLONE_THREAD = 0x00010000
_CLONE_NEW = 0x7E020000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

_EPERM, _ENOSYS = 1, 38
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _RETURN = 0x20, 0x06
_IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT = 0x15, 0x35, 0x45
# Offsets in struct seccomp_data; arguments are little-endian 64-bit words.
_NUMBER, _ARCH, _ARGUMENT = 0, 4, (16, 24)


def build(machine: str, *, threads: bool = True, forks: bool = False) -> bytes:
  """Returns the filter as an array of struct sock_filter.

  Args:
    machine: one of `MACHINES`.
    threads: whether threads may be started.
    forks: whether processes may be started.

  Raises:
    KeyError: if the machine is unknown.
  """
  column, arch = MACHINES[machine]
  code: list[tuple[int, int, int, int]] = []

  def add(op: int, k: int, then: int = 0, otherwise: int = 0) -> None:
    code.append((op, then, otherwise, k))

  def deny_if(op: int, k: int, errno: int = _EPERM) -> None:
    add(op, k, 0, 1)
    add(_RETURN, _ERRNO | errno)

  add(_LOAD, _ARCH)
  add(_IF_EQUAL, arch, 1, 0)
  add(_RETURN, _KILL)
  add(_LOAD, _NUMBER)
  # This is the x32 interface, too, whose numbers start at 0x40000000.
  deny_if(_IF_AT_LEAST, NEWEST + 1, _ENOSYS)
  deny_if(_IF_EQUAL, CLONE3[column], _ENOSYS)
  names = DENIED if forks else DENIED | FORKS
  for numbers in names.values():
    if numbers[column] is not None:
      deny_if(_IF_EQUAL, numbers[column])

  clone: list[tuple[int, int, int, int]] = [
    (_LOAD, 0, 0, _ARGUMENT[0]),
    (_IF_ANY_BIT, 0, 1, _CLONE_NEW),
    (_RETURN, 0, 0, _ERRNO | _EPERM),
  ]
  if not threads:
    clone += [
      (_IF_ANY_BIT, 0, 1, _CLONE_THREAD),
      (_RETURN, 0, 0, _ERRNO | _EPERM),
    ]
  if not forks:
    clone += [
      (_IF_ANY_BIT, 1, 0, _CLONE_THREAD),
      (_RETURN, 0, 0, _ERRNO | _EPERM),
    ]
  clone.append((_RETURN, 0, 0, _ALLOW))
  add(_IF_EQUAL, CLONE[column], 0, len(clone))
  code += clone

  add(_IF_EQUAL, IOCTL[column], 0, 6)
  add(_LOAD, _ARGUMENT[1])
  deny_if(_IF_EQUAL, _TIOCSTI)
  deny_if(_IF_EQUAL, _TIOCLINUX)
  add(_RETURN, _ALLOW)
  add(_RETURN, _ALLOW)
  return b''.join(struct.pack('<HBBI', *line) for line in code)
