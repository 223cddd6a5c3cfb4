/* A kernel module whose start is what the guest fails of. Set when assembling (--defsym): the failure, one of the names
   below, and of struct module of that kernel THIS_MODULE_SIZE and INIT_OFFSET, where its init lies. The macros NAME and
   VERMAGIC are in crash.inc. The kernel loads it without CRCs of its symbols, and is tainted. */
.include "crash.inc"
.section .modinfo, "a"
    .asciz "license=GPL"
    VERMAGIC
    .asciz "depends="
    .asciz "retpoline=Y"

.section .gnu.linkonce.this_module, "aw"
.globl __this_module
__this_module:
    .zero 24                            /* state, list; then the name */
    NAME
    .org INIT_OFFSET
    .quad init_module
    .org THIS_MODULE_SIZE

.section .rodata
file: .asciz "crash.S"
why: .asciz "a module was told to"
.balign 8
no_idt: .zero 10

.text
.globl init_module
init_module:

.ifdef BUG                              /* BUG(), as include/asm-generic/bug.h describes it */
1:  ud2
.pushsection __bug_table, "aw"
    .long 1b - ., file - .
    .word 42, 0
.popsection
.endif

.ifdef WARN                             /* WARN(): BUGFLAG_WARNING, taint 9 */
1:  ud2
.pushsection __bug_table, "aw"
    .long 1b - ., file - .
    .word 43, 1 + (9 << 8)
.popsection
.endif

.ifdef NULL_POINTER
    xor %eax, %eax
    mov 8(%rax), %rax
.endif

.ifdef DIVIDE
    xor %edx, %edx
    xor %ecx, %ecx
    div %ecx
.endif

.ifdef WILD_POINTER                     /* not canonical */
    movabs $0x0123456789abcdef, %rax
    mov (%rax), %rax
.endif

.ifdef SPIN                             /* with interrupts on, so that the clock sees it */
1:  pause
    jmp 1b
.endif

.ifdef SPIN_DEAF
    cli
    jmp .
.endif

.ifdef SLEEP                            /* uninterruptible */
    mov $6000, %edi
    call msleep
.endif

.ifdef PANIC
    mov $why, %rdi
    xor %eax, %eax
    call panic
.endif

.ifdef TRIPLE_FAULT
    lidt no_idt(%rip)
    int3
.endif

    xor %eax, %eax
    jmp __x86_return_thunk
