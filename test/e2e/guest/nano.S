/* A whole guest in one boot sector: enters long mode, fills its memory, says READY on COM1 and spins with known
   registers. Set when assembling (--defsym): LOW_MIB, the end of RAM below 4 GiB, and HIGH_MIB, RAM above it.

   Of 16 pages about 6 become zero (written, so that the host must keep them), 5 repeat a text, 5 are random.
   Pages that are not zero begin with their own address. The same file makes the core of `npm run bench`. */
.set PML4, 0x1000
.set PDPT, 0x2000
.set GIB, 0x40000000

.code16
.globl _start
_start:
    cli
    cld
    ljmp $0, $flat
flat:
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7c00, %sp
    mov $PML4, %di
    xor %eax, %eax
    mov $0x800, %cx
    rep stosl
    movl $(PDPT + 3), PML4
    mov $PDPT, %di                      /* 16 GiB in pages of 1 GiB, virtual = physical */
    mov $0x83, %eax
    xor %edx, %edx
    mov $16, %cx
1:  stosl
    xchg %eax, %edx
    stosl
    xchg %eax, %edx
    add $GIB, %eax
    adc $0, %edx
    loop 1b
    mov $PML4, %eax
    mov %eax, %cr3
    mov %cr4, %eax
    or $0x20, %eax                      /* PAE */
    mov %eax, %cr4
    mov $0xc0000080, %ecx               /* EFER: SCE, LME */
    rdmsr
    or $0x101, %eax
    wrmsr
    lgdt gdtr
    mov %cr0, %eax
    or $0x80010001, %eax                /* PG, WP, PE */
    mov %eax, %cr0
    ljmp $8, $long

.code64
long:
    mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    mov $0x9e3779b97f4a7c15, %r8        /* state of the generator, never zero */
    mov $0x100000, %edi
    mov $(LOW_MIB * 0x100000), %rsi
    call fill
.if HIGH_MIB
    mov $(4 * GIB), %rdi
    mov $(4 * GIB + HIGH_MIB * 0x100000), %rsi
    call fill
.endif
    mov $0xc0000081, %ecx               /* STAR, as whoever sets EFER.SCE does */
    xor %eax, %eax
    mov $0x00130008, %edx
    wrmsr
    mov $0xc0000101, %ecx               /* GS.base */
    mov $0x00abc000, %eax
    mov $0xffff8880, %edx
    wrmsr
    inc %ecx                            /* KERNEL_GS_BASE */
    mov $0x00def000, %eax
    wrmsr
    mov $ready, %esi
    mov $0x3f8, %edx
2:  lodsb
    out %al, %dx
    test %al, %al
    jnz 2b
    mov $0x1122334455667788, %rax
    mov $0x99aabbccddeeff00, %rbx
    mov $0xffffffff81234567, %rbp
    mov $0x1400000000000014, %r14
    mov $0x1500000000000015, %r15
    stc
3:  pause
    jmp 3b

/* Fills [rdi, rsi). */
fill:
    mov %rdi, %rax
    shr $12, %rax
    imul $0x3779b1, %rax, %rax
    shr $16, %eax
    and $15, %eax
    mov $512, %ecx
    cmp $6, %eax
    jb 5f
    mov %rdi, (%rdi)
    add $8, %rdi
    dec %ecx
    cmp $11, %eax
    jb 6f
4:  mov %r8, %rax                       /* xorshift64 */
    shl $13, %rax
    xor %rax, %r8
    mov %r8, %rax
    shr $7, %rax
    xor %rax, %r8
    mov %r8, %rax
    shl $17, %rax
    xor %rax, %r8
    mov %r8, %rax
    stosq
    loop 4b
    jmp 7f
5:  xor %eax, %eax
    rep stosq
    jmp 7f
6:  mov $0x2065726f63747365, %rax       /* "estcore " */
    rep stosq
7:  cmp %rsi, %rdi
    jb fill
    ret

ready: .asciz "READY\n"
.balign 8
gdt: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdtr: .word gdtr - gdt - 1
    .long gdt
.org 510
.word 0xaa55
