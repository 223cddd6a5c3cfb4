/* gc-spin: a process without a C library that pins itself to vCPU 1 and spins with a known value in every
   register. spinnerRegisters in guests.ts lists the same values. */
.globl _start
_start:
    mov $203, %eax                      /* sched_setaffinity(0, 8, &mask) */
    xor %edi, %edi
    mov $8, %esi
    lea mask(%rip), %rdx
    syscall
    mov $158, %eax                      /* arch_prctl(ARCH_SET_FS, ...) */
    mov $0x1002, %edi
    mov $0x00007fab00001000, %rsi
    syscall
    mov $158, %eax                      /* arch_prctl(ARCH_SET_GS, ...) */
    mov $0x1001, %edi
    mov $0x00007fab00002000, %rsi
    syscall
    mov $0xa0a1a2a3a4a5a6a7, %rax
    mov $0xb0b1b2b3b4b5b6b7, %rbx
    mov $0xc0c1c2c3c4c5c6c7, %rcx
    mov $0xd0d1d2d3d4d5d6d7, %rdx
    mov $0x5150515051505150, %rsi
    mov $0xd1d0d1d0d1d0d1d0, %rdi
    mov $0xbebfbebfbebfbebf, %rbp
    mov $0x0800000000000008, %r8
    mov $0x0900000000000009, %r9
    mov $0x1000000000000010, %r10
    mov $0x1100000000000011, %r11
    mov $0x1200000000000012, %r12
    mov $0x1300000000000013, %r13
    mov $0x1400000000000014, %r14
    mov $0x1500000000000015, %r15
1:  pause
    jmp 1b
.balign 8
mask: .quad 2
