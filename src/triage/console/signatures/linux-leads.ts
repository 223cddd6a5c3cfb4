import { signatures } from "../signature.ts";

/** What Linux says before the first line of a report, and which names it better than that line does. */
export const LINUX_LEADS = signatures([
  {
    id: "linux/stack-overrun",
    class: "stack-overflow",
    starts: ["Thread overran stack", "corrupted stack end", "do_IRQ: stack overflow"],
    pattern: /^(?:Thread overran stack, or stack corrupted|do_IRQ: stack overflow: )/,
    role: "lead",
    title: "kernel stack overflow",
    source: "arch/x86/mm/fault.c: show_fault_oops(), until 5.0; arch/x86/kernel/irq_32.c",
    examples: ["Thread overran stack, or stack corrupted"],
  },
  {
    id: "linux/nx-page",
    class: "page-fault",
    role: "lead",
    starts: [
      "kernel tried to execute NX",
      "unable to execute userspace code",
      "BUG: unable to handle kernel execution",
    ],
    pattern: /^(?:kernel tried to execute NX-protected page|unable to execute userspace code)/,
    title: "kernel tried to execute NX-protected page",
    source: 'arch/x86/mm/fault.c: show_fault_oops(), in front of "BUG: unable to handle"',
    examples: ["kernel tried to execute NX-protected page - exploit attempt? (uid: 0)"],
  },
  {
    id: "linux/list-corruption",
    class: "kernel-bug",
    role: "lead",
    starts: ["list_add corruption", "list_del corruption", "list_add double add", "slab: double free"],
    pattern: /^(?:list_(?:add|del) (?:corruption|double add)|slab: double free detected)/,
    title: "list corruption",
    source: "lib/list_debug.c: __list_add_valid(), __list_del_entry_valid(); BUG() or WARN() comes next",
    examples: ["list_add corruption. next->prev should be prev (ffffffff), but was 0. (next=ffff)."],
  },
  {
    id: "linux/usercopy",
    class: "kernel-bug",
    role: "lead",
    starts: [
      "usercopy: Kernel memory ",
      "usercopy: kernel memory ",
      "detected buffer overflow in ",
      "kernel memory overwrite attempt",
      "kernel memory exposure attempt",
    ],
    pattern:
      /^(?:usercopy: )?(?:[kK]ernel memory (?:exposure|overwrite) attempt detected|detected buffer overflow in )/,
    title: "usercopy or FORTIFY check",
    source: "mm/usercopy.c: usercopy_abort(); lib/string_helpers.c: fortify_panic(); BUG() comes next",
    examples: [
      "usercopy: Kernel memory exposure attempt detected from SLUB object 'kmalloc-64' (offset 0, size 128)!",
      "detected buffer overflow in memset",
    ],
    negatives: ["Spectre V1 : Mitigation: usercopy/swapgs barriers and __user pointer sanitization"],
  },
  {
    id: "linux/fortify",
    class: "warning",
    role: "lead",
    tells: true,
    starts: [
      ...["memcpy", "memset", "memmove", "memchr", "memcmp", "memscan", "kmemdup", "strcpy", "strncpy"],
      ...["strcat", "strncat", "strlcat", "strlen", "strnlen", "strlcpy", "strscpy"],
    ].map((name) => `${name}: detected `),
    pattern:
      /^(\w{3,12}: detected (?:buffer overflow|field-spanning write))(?:: \d+ byte (?:read|write) of buffer size \d+| \(size \d+\) of (?:single|array of) )/,
    title: "$1",
    source: "lib/string_helpers.c: __fortify_report(); include/linux/fortify-string.h: fortify_memcpy_chk()",
    examples: [
      "strcpy: detected buffer overflow: 20 byte write of buffer size 10",
      'memcpy: detected field-spanning write (size 16) of single field "a->b" at drivers/foo.c:12 (size 8)',
    ],
    negatives: ["udev: detected buffer overflow in a book"],
  },
  {
    id: "linux/refcount",
    class: "warning",
    role: "lead",
    tells: true,
    starts: ["refcount_t: ", "ODEBUG: ", "skb_panic", "skbuff: skb_"],
    pattern:
      /^(?:(refcount_t: (?:saturated|underflow|addition on 0|increment on 0|decrement hit 0|hit)[\w; -]{0,40})|(ODEBUG: [a-z_ ]{1,24}) \(active state \d|(ODEBUG: object) \S{1,24} is (?:NOT )?on stack|skbuff: skb_(?:over|under)_panic|skb_(?:over|under)_panic)/,
    title: "$1",
    source: "lib/refcount.c: refcount_warn_saturate(); lib/debugobjects.c; net/core/skbuff.c: skb_panic()",
    examples: [
      "refcount_t: underflow; use-after-free.",
      "skbuff: skb_over_panic: text:ffffffff81 len:66 put:66",
    ],
    negatives: ["skb_panic: counters enabled"],
  },
  {
    id: "linux/report-begins",
    class: "warning",
    role: "lead",
    starts: ["------------[ cut here", "==================", "8<--- cut here ---"],
    pattern: /^(?:-{12}\[ cut here \]-{12}$|8<--- cut here ---$|={18,100}$)/,
    title: "report",
    source: "include/asm-generic/bug.h: CUT_HERE; mm/kasan/report.c: start_report()",
    examples: ["------------[ cut here ]------------", "8<--- cut here ---"],
  },
]);
