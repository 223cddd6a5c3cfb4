import { signatures } from "../signature.ts";

/**
 * Pieces of the telling lines, for logs of serial lines that lost or doubled characters and for lines that somebody
 * typed from a screen. Nothing that looks like a quotation may stand before them; they are hints, never certain.
 */
export const GARBLED = signatures([
  {
    id: "garbled/panic",
    class: "panic",
    role: "panic",
    contains: "ot syncing",
    pattern:
      /^[^\w\s"'=<>|/:$#+*-]{0,8} ?(?:[Kk]?e?r?n?e?l? ?)[Pp]?an{1,2}i+c? ?[-\u2013:]{0,2} ?n?ot syncing ?:? ?(.{0,200})/,
    title: "Kernel panic - not syncing: $1",
    trust: "likely",
    source: "kernel/panic.c: panic()",
    examples: [
      "Kernel pannic - not syncing: VFS: Unable to mount root fs",
      "kernel panic - not syncing: Attempted to kill init!",
      "nel panic - not syncing: Fatal exception",
    ],
    negatives: [
      "grep 'Kernel panic - not syncing' log",
      "clocks are not syncing: ntp",
      "Checking for Kernel panic - not syncing: none found",
      "-[   12.345678] Kernel panic - not syncing: x",
      "init: last time: Kernel panic - not syncing: x",
    ],
  },
  {
    id: "garbled/panic-end",
    class: "panic",
    contains: "---[ end Kernel panic - not syncing",
    pattern: /^(?![\s>|#/+*-])[^"'`]{1,200}---\[ end Kernel panic - not syncing(?:: (.{0,300}?))? \]---/,
    title: "Kernel panic - not syncing: $1",
    severity: "warning",
    trust: "possible",
    source: "kernel/panic.c: panic(), behind something that nobody knows",
    examples: ["node7/console ---[ end Kernel panic - not syncing: Fatal exception ]---"],
    negatives: [
      "> x ---[ end Kernel panic - not syncing: Fatal exception ]---",
      'expect "---[ end Kernel panic - not syncing: Fatal exception ]---"',
    ],
  },
  {
    id: "garbled/null-deref",
    class: "null-deref",
    contains: "ULL pointer deref",
    pattern:
      /^[^"'=<>|/$#:]{0,6}:?[^"'=<>|/$#:]{0,24}?(?:ke|er|rn|ne|el)[kernl]{0,4} N?ULL pointer dereferen?ce,? ?(?:at|address) ?\(?[0-9a-fn]/,
    title: "BUG: kernel NULL pointer dereference",
    inFrame: true,
    trust: "possible",
    source: "arch/x86/mm/fault.c: show_fault_oops()",
    examples: [
      "BU: unable to handle kernl NULL pointer dereference at 00000018",
      "BUG: unable to hande kernel NULL pointer dereference at 0018",
    ],
    negatives: ["gdb: 'kernel NULL pointer dereference' explained"],
  },
  {
    id: "garbled/page-fault",
    class: "page-fault",
    contains: "o handle kernel paging reque",
    pattern: /^[^"'=<>|/$#]{0,20}?o handle kernel paging reque/,
    title: "BUG: unable to handle kernel paging request",
    inFrame: true,
    trust: "possible",
    source: "arch/x86/mm/fault.c: show_fault_oops()",
    examples: ["UG: unable to handle kernel paging request at ffffc900"],
  },
]);
