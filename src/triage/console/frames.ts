import { HELPER_STARTS, HELPERS } from "./helper-functions.ts";

/** `func+0x12/0x34`, with what compilers append and a module's name behind it. */
const SYMBOL = /^([A-Za-z_$.][\w$.]{1,127})\+0x[0-9a-f]{1,8}(?:\/0x[0-9a-f]{1,8})?/;
/** Addresses in front of a symbol, of x86 until 4.9, arm, riscv, s390, powerpc: `[<ffff…>] `, `([<…>] `, `[c000…] [c000…] `. */
const ADDRESSES = /^\(?(?:\[<?(?:0x)?[0-9a-f]{4,16}>?\] ?){1,2}/;
/** ` func file.c:12 [inline]` and ` func+… file.c:12`, of logs that went through a symboliser. */
const INLINED = /^([A-Za-z_$][\w$.]{1,127}) \S{1,200}:\d{1,7} \[inline\]/;
/** `[<8010c0ec>] (show_stack) from [<…>] (…)`, of arm; since 6.0 ` show_stack from dump_stack+0x…`. */
const ARM_FROM =
  /^\(?([A-Za-z_$][\w$.]{1,127})(?:\+0x[0-9a-f/x]{1,20})?\)? (?:\[\w{1,60}\] )?from (?:\[<|[A-Za-z_$][\w$.]{1,127}\+0x)/;
/** ` func (fs/foo.c:12 (discriminator 3))`, of logs that went through scripts/decode_stacktrace.sh. */
const DECODED = /^([A-Za-z_$][\w$.]{1,127}) \((?:[\w./-]{1,200}\.[chSs]|\?\?):[\d?]/;
/** BSD: `func() at func+0x12`, `#1 0xffff at func+0x12`. */
const BSD_FRAME = /^(?:#\d{1,3} 0x[0-9a-f]{4,16} at )?([A-Za-z_$][\w$.]{1,127})(?:\([^)]{0,200}\) at |\+0x)/;
const SUFFIX = /\.(?:isra|constprop|part|cold|llvm|lto_priv|localalias|clone|\d).*$/;

/** A function without what the compiler made of its name: `foo.isra.0.cold` is `foo`. */
export const normalised = (name: string): string => name.replace(SUFFIX, "").replace(/^\.(?=\w)/, "");

/** Name of `func+0x12/0x34 [module]`, or of a bare name; undefined when it is an address. */
export function functionOf(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const name = /^([A-Za-z_$.][\w$.]{1,127})/.exec(text)?.[1];
  return name === undefined || /^0x/.test(name) ? undefined : normalised(name);
}

/** The function of a line of a stack trace; undefined when it is none, or when the unwinder was not sure of it. */
export function frameOf(text: string): string | undefined {
  const line = text.trimStart().replace(ADDRESSES, "");
  if (line.startsWith("? ")) return undefined;
  const found =
    SYMBOL.exec(line) ??
    INLINED.exec(line) ??
    DECODED.exec(line) ??
    ARM_FROM.exec(line) ??
    BSD_FRAME.exec(line);
  return found === null ? undefined : normalised(found[1]!);
}

/** Where the CPU was, by architecture; of user space there is no name. */
const COUNTERS: readonly RegExp[] = [
  /^RIP: (?:0010|e030|0008):(?:\[<[0-9a-f]{4,16}>\] {1,2}(?:\[<[0-9a-f]{4,16}>\] )?)?(\S{1,160})/,
  /^(?:IP|RIP): (?:\[<[0-9a-f]{4,16}>\] ?)?(?:0010:)?([A-Za-z_]\S{1,160})/,
  /^EIP: (?:\d{4}:)?(?:\[<[0-9a-f]{4,16}>\] ?)?([A-Za-z_]\S{1,160})/,
  /^EIP is at (\S{1,160})/,
  /^pc : (?:\[<[0-9a-f]{4,16}>\] ?)?(\S{1,160})/,
  /^PC is at (\S{1,160})/,
  /^NIP \[[0-9a-f]{4,16}\] (\S{1,160})/,
  /^Krnl PSW : [0-9a-f]{16} [0-9a-f]{16} \((\S{1,160})/,
  /^epc : (?:[0-9a-f]{4,16} )?(\S{1,160})/,
  /^Stopped at +(\S{1,160}?):/,
  /^(?:epc|ERA|era) *: (?:[0-9a-f]{4,16} )?(\S{1,160})/,
  // sparc, m68k, parisc; alpha and ia64; arc
  /^(?:TPC: <|PC: \[<[0-9a-f]{8,16}>\] |IAOQ\[0\]: )([^\s>]{1,160})/,
  /^(?:pc|ip) is at (\S{1,160})/,
  /^\[ERET {2}\]: (\S{1,160})/,
];

/** The function that a line of registers says the CPU was in. */
export function counterOf(text: string): string | undefined {
  const line = text.trimStart();
  for (const pattern of COUNTERS) {
    const found = pattern.exec(line);
    if (found === null) continue;
    const rest = line.slice(line.indexOf(found[1]!));
    return SYMBOL.test(rest) || DECODED.test(rest) ? functionOf(found[1]) : undefined;
  }
  return undefined;
}

/** Who called what the CPU was in, where that keeps the return address in a register: arm, arm64, riscv. */
const LINK = /^(?:lr : |LR is at | *ra : )(?:\[<[0-9a-f]{4,16}>\] ?)?([A-Za-z_]\S{1,160})/;

/** The function that a line of registers says the CPU was to return to. */
export function linkOf(text: string): string | undefined {
  const found = LINK.exec(text);
  return found !== null && SYMBOL.test(found[1]!) ? functionOf(found[1]) : undefined;
}

/** Where every system call, thread or exception comes through: arch/{x86/entry,arm64/kernel,powerpc/kernel,s390/kernel,riscv/kernel}. */
const ENTRIES =
  /^(?:do_syscall_\d+|do_syscall_x64|x64_sys_call|__do_fast_syscall_32|do_(?:fast_syscall|int80_syscall)_32|entry_(?:SYSCALL|SYSENTER|INT80)\w*|el0t?_\w*|do_el0_svc\w*|el0_svc\w*|ret_from_\w+|ret_fast_syscall|syscall_(?:exit_to_user_mode|return|call)\w{0,40}|system_call\w*|__do_syscall|__se_sys_\w+|invoke_syscall|asm_\w+|do_trap_ecall_u|handle_syscall|do_syscall|interrupt_return\w*|sysret_check|system_call_fastpath)$/;

/** Whether a function is but the way into the kernel. */
export const isEntry = (name: string): boolean => ENTRIES.test(name);

/** Whether a function only tells of a failure, or is passed through on the way there, and is not to blame for it. */
export const isHelper = (name: string): boolean => !KASAN_TEST.test(name) && hasHelperName(name);

/** mm/kasan/kasan_test_c.c: called as what it tests. */
const KASAN_TEST = /^kasan_(?:(?:global|stack|alloca)_oob|memchr|memcmp|strings|bitops|atomics)/;

const hasHelperName = (name: string): boolean =>
  HELPERS.has(name) ||
  // include/linux/alloc_tag.h: so allocators are called since 6.10
  name.endsWith("_noprof") ||
  HELPER_STARTS.some((start) => name.startsWith(start));
