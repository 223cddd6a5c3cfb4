import { signatures } from "../signature.ts";

/** arm and arm64. */
export const LINUX_ARM = signatures([
  {
    id: "arm/null-deref",
    class: "null-deref",
    starts: [
      "Unable to handle kernel NULL pointer dereference",
      "Unable to handle NULL pointer",
      "8<--- cut here",
    ],
    pattern: /^Unable to handle (?:kernel )?NULL pointer dereference at virtual address/,
    title: "Unable to handle kernel NULL pointer dereference",
    inFrame: true,
    source: "arch/arm64/mm/fault.c: die_kernel_fault(); arch/arm/mm/fault.c",
    examples: [
      "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000008",
      "Unable to handle kernel NULL pointer dereference at virtual address 00000000 when read",
    ],
  },
  {
    id: "arm/page-fault",
    class: "page-fault",
    starts: ["Unable to handle kernel ", "Unable to handle paging"],
    pattern:
      /^Unable to handle (?:kernel )?(paging request|access to user memory outside uaccess routines|read from unreadable memory|write to read-only memory|execute from non-executable memory|execution of user memory|execution of user space memory|tag check fault)[\w ]{0,24} at virtual address/,
    title: "Unable to handle kernel $1",
    inFrame: true,
    source: "arch/arm64/mm/fault.c: __do_kernel_fault(); arch/arm/mm/fault.c",
    examples: [
      "Unable to handle kernel paging request at virtual address ffff800000000000",
      "Unable to handle kernel write to read-only memory at virtual address ffff800008000000",
    ],
  },
  {
    id: "arm/internal-error",
    class: "oops",
    role: "end",
    starts: ["Internal error: "],
    pattern: /^Internal error: (.{1,80}?)(?::? [0-9a-f]{1,16})? \[#\d+\]/,
    title: "Internal error: $1",
    inFrame: true,
    source: "arch/arm64/kernel/traps.c, arch/arm/kernel/traps.c: __die()",
    examples: [
      "Internal error: Oops: 0000000096000046 [#1] SMP",
      "Internal error: Oops - BUG: 00000000f2000800 [#1] SMP",
    ],
    negatives: ["Internal error: please call support"],
  },
  {
    id: "arm/bad-stack",
    class: "stack-overflow",
    starts: ["Insufficient stack space to handle exception"],
    pattern: /^Insufficient stack space to handle exception!/,
    title: "kernel stack overflow",
    inFrame: true,
    source: "arch/arm64/kernel/traps.c: panic_bad_stack(); arch/riscv/kernel/traps.c: handle_bad_stack()",
    examples: ["Insufficient stack space to handle exception!"],
  },
  {
    id: "arm/serror",
    class: "hardware-error",
    starts: ["SError Interrupt on CPU"],
    pattern: /^SError Interrupt on CPU\d+, code 0x[0-9a-f]+/,
    title: "SError interrupt",
    severity: "oops",
    source: "arch/arm64/kernel/traps.c: arm64_serror_panic()",
    examples: ["SError Interrupt on CPU0, code 0x00000000bf000002 -- SError"],
  },
  {
    id: "arm/bad-mode",
    class: "trap",
    starts: [
      "Bad mode in ",
      "Unhandled 64-bit",
      "Unhandled exception",
      "Unhandled prefetch abort",
      "Unhandled fault: ",
    ],
    pattern:
      /^(?:Bad mode in .{1,40} handler detected|Unhandled (?:64|32)-bit el1\w{1,20} exception|Unhandled fault: .{1,80} at 0x|Unhandled prefetch abort: )/,
    title: "unhandled exception",
    inFrame: true,
    source: "arch/arm64/kernel/traps.c: bad_mode(); arch/arm64/kernel/entry-common.c: __panic_unhandled()",
    examples: [
      "Bad mode in Error handler detected on CPU1, code 0xbf000002 -- SError",
      "Unhandled fault: imprecise external abort (0x1406) at 0x76f2b000",
    ],
  },
]);
