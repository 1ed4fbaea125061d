"""Run a static AArch64 program of Linux on any processor, in the emulator of the package `unicorn`.

python aarch64.py PROGRAM [ARGUMENT...]

Serves the few system calls that the harness makes. Its output goes to stdout, its exit code is that of the
program.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

from unicorn import UC_ARCH_ARM64, UC_HOOK_INTR, UC_MODE_ARM, Uc
from unicorn.arm64_const import UC_ARM64_REG_CPACR_EL1, UC_ARM64_REG_SP, UC_ARM64_REG_X0, UC_ARM64_REG_X8

PAGE = 4096
STACK, STACK_SIZE = 0x7F0000000000, 1 << 23
HEAP = 0x600000000000
VECTORS_ON = 3 << 20
LOAD = 1  # a program header of a part to map
AT_PHDR, AT_PHENT, AT_PHNUM, AT_PAGESZ, AT_RANDOM = 3, 4, 5, 6, 25
NO_SYSTEM_CALL, NO_TERMINAL = -38, -25


def up(number: int) -> int:
    """The next multiple of a page."""
    return -(-number // PAGE) * PAGE


class Process:
    """A loaded program, and what it has written and mapped."""

    def __init__(self, program: Path, arguments: list[str]) -> None:
        self.code: int | None = None
        self._next = HEAP
        self.machine = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
        self.machine.reg_write(UC_ARM64_REG_CPACR_EL1, VECTORS_ON)
        data = program.read_bytes()
        self.entry, headers_at = struct.unpack_from("<QQ", data, 24)
        size, count = struct.unpack_from("<HH", data, 54)
        headers = 0
        for k in range(count):
            kind, _, offset, address, _, stored, memory, _ = struct.unpack_from(
                "<IIQQQQQQ", data, headers_at + k * size
            )
            if kind == LOAD:
                first = address // PAGE * PAGE
                self.machine.mem_map(first, up(address + memory) - first)
                self.machine.mem_write(address, data[offset : offset + stored])
                if offset <= headers_at < offset + stored:
                    headers = address + headers_at - offset
        self.machine.mem_map(STACK, STACK_SIZE)
        auxiliary = {AT_PHDR: headers, AT_PHENT: size, AT_PHNUM: count, AT_PAGESZ: PAGE}
        self._put_arguments([str(program), *arguments], auxiliary)
        self.machine.hook_add(UC_HOOK_INTR, self._system_call)

    def _put_arguments(self, words: list[str], auxiliary: dict[int, int]) -> None:
        at = STACK + STACK_SIZE - 4 * PAGE
        places = []
        for word in [*words, "0123456789abcdef"]:  # the last: AT_RANDOM
            text = word.encode() + b"\0"
            self.machine.mem_write(at, text)
            places.append(at)
            at += len(text)
        auxiliary = {**auxiliary, AT_RANDOM: places.pop()}
        pairs = [number for pair in auxiliary.items() for number in pair]
        table = [len(words), *places, 0, 0, *pairs, 0, 0]
        pointer = STACK + STACK_SIZE - 8 * PAGE
        self.machine.mem_write(pointer, struct.pack(f"<{len(table)}Q", *table))
        self.machine.reg_write(UC_ARM64_REG_SP, pointer)

    def _system_call(self, machine: Uc, number: int, _: object) -> None:
        call = machine.reg_read(UC_ARM64_REG_X8)
        x = [machine.reg_read(UC_ARM64_REG_X0 + k) for k in range(6)]
        answer = NO_SYSTEM_CALL
        if call in (93, 94):  # exit, exit_group
            self.code = x[0]
            machine.emu_stop()
            return
        if call == 64:  # write
            answer = self._write(x[0], x[1], x[2])
        elif call == 66:  # writev
            parts = (struct.unpack("<QQ", machine.mem_read(x[1] + 16 * k, 16)) for k in range(x[2]))
            answer = sum(self._write(x[0], *part) for part in parts)
        elif call == 214:  # brk: none, so that memory comes from mmap
            answer = 0
        elif call == 222:  # mmap
            answer, length = self._next, up(x[1])
            self._next += length + PAGE
            machine.mem_map(answer, length)
        elif call == 215:  # munmap
            machine.mem_unmap(x[0], up(x[1]))
            answer = 0
        elif call == 29:  # ioctl
            answer = NO_TERMINAL
        elif call in (96, 135, 226, 233):  # set_tid_address, rt_sigprocmask, mprotect, madvise
            answer = 0
        machine.reg_write(UC_ARM64_REG_X0, answer & (2**64 - 1))

    def _write(self, file: int, address: int, length: int) -> int:
        if length:
            stream = sys.stdout if file == 1 else sys.stderr
            stream.write(self.machine.mem_read(address, length).decode())
        return length

    def run(self) -> int:
        """Run to its end; the exit code."""
        self.machine.emu_start(self.entry, 0)
        return 1 if self.code is None else self.code


if __name__ == "__main__":
    sys.exit(Process(Path(sys.argv[1]), sys.argv[2:]).run())
