import { expect, test } from "vitest";
import { detect, KernelLog, kinds, titles } from "./support/triage-console.ts";

const log = (): KernelLog => new KernelLog().boot();
const trace = (...frames: string[]): string[] => [
  "Call Trace:",
  ...frames.map((name) => ` ${name}+0x5b/0x90`),
];
const WARNING = "WARNING: CPU: 1 PID: 345 at lib/foo.c:28 foo_print+0xba/0x110";

test("an oops of 2.6.18 counts without #", () => {
  const text = log().say(
    "Unable to handle kernel NULL pointer dereference at 0000000000000010 RIP: ",
    " [<ffffffff8003b2a1>] foo_open+0x12/0x34",
    "PGD 0 ",
    "Oops: 0000 [1] SMP ",
    "CPU 0 ",
  );
  expect(kinds(detect(`${text}`))).toEqual(["null-deref/oops"]);
  const bug = log().say("Kernel BUG at fs/nfs/file.c:321", "invalid opcode: 0000 [1] SMP ");
  expect(titles(detect(`${bug}`))).toEqual(["kernel BUG at fs/nfs/file.c:321"]);
  expect(kinds(detect(`${log().say("Oops: see [1] of the manual below")}`))).toEqual([]);
});

test.each([
  [
    "ODEBUG: free active (active state 0) object: ffff88 object type: timer_list hint: foo_timer+0x0/0x10",
    "ODEBUG: free active",
  ],
  [
    "ODEBUG: init destroyed (active state 0) object type: timer_list hint: foo_timer+0x0/0x10",
    "ODEBUG: init destroyed",
  ],
  ["ODEBUG: object ffffc9000d537a98 is on stack ffffc9000d530000, but NOT annotated.", "ODEBUG: object"],
  ["strcpy: detected buffer overflow: 20 byte write of buffer size 10", "strcpy: detected buffer overflow"],
  [
    'memcpy: detected field-spanning write (size 16) of single field "a->b" at x.c:12 (size 8)',
    "memcpy: detected field-spanning write",
  ],
])("%s says what a warning is of", (line, told) => {
  const text = log().say("------------[ cut here ]------------", line, WARNING, ...trace("bar_probe"));
  expect(detect(`${text}`).findings).toMatchObject([{ class: "warning", severity: "warning" }]);
  expect(titles(detect(`${text}`))[0]).toMatch(
    new RegExp(`^${told.replace(/[.*+?^$()|[\]\\]/g, "\\$&")} in `),
  );
});

test("a control-flow check that failed is what the kernel died of", () => {
  const cfi = "CFI failure at foo_call+0x12/0x34 [foo] (target: bar+0x0/0x10; expected type: 0x1234abcd)";
  const text = log().say(cfi, "invalid opcode: 0000 [#1] PREEMPT SMP NOPTI", ...trace("foo_call"));
  expect(kinds(detect(`${text}`))).toEqual(["kernel-bug/oops"]);
  expect(titles(detect(`${text}`))).toEqual(["CFI failure in foo_call"]);
  const endbr = log().say("traps: Missing ENDBR: foo_work+0x0/0x30", "------------[ cut here ]------------");
  endbr.say("kernel BUG at arch/x86/kernel/cet.c:102!", "Oops: invalid opcode: 0000 [#1] SMP");
  expect(titles(detect(`${endbr}`))).toEqual(["Missing ENDBR in foo_work"]);
});

test("a confidential guest that asked in vain to be ended", () => {
  const text = log().say("SEV: Unsupported exit-code 0x404 in #VC exception (IP: 0xffffffff81a3c2f1)");
  text.panic("Returned from Terminate-Request to Hypervisor");
  expect(kinds(detect(`${text}`))).toEqual(["trap/panic"]);
});

test("traces that went through a decoder name the guilty one", () => {
  const oops = log().say(
    "BUG: kernel NULL pointer dereference, address: 0000000000000008",
    "RIP: 0010:foo_read (drivers/misc/foo.c:123 (discriminator 3))",
    "Call Trace:",
    " <TASK>",
    "? show_regs (arch/x86/kernel/dumpstack.c:478)",
    "vfs_read (fs/read_write.c:470)",
  );
  expect(detect(`${oops}`).findings[0]!.details!.guilty).toBe("foo_read");
  const arm = log().say(
    "8<--- cut here ---",
    "Unable to handle kernel paging request at virtual address 003dfb44 when read",
    "PC is at paging_init (include/linux/page-flags.h:284 (discriminator 2))",
  );
  expect(titles(detect(`${arm}`))).toEqual(["Unable to handle kernel paging request in paging_init"]);
  expect(detect(`${arm}`).findings[0]!.details!.firstLine).toBeLessThan(
    detect(`${arm}`).findings[0]!.evidence[0]!.line!,
  );
});

test("a line break that the kernel forgot", () => {
  const glued =
    "kasan: GPF could be caused by NULL-ptr deref or user memory accessgeneral protection fault: 0000 [#1] SMP KASAN";
  expect(kinds(detect(`${log().say(glued, ...trace("foo_read"))}`))).toEqual(["gpf/oops"]);
  expect(
    kinds(detect(`${log().say("kasan: GPF could be caused by NULL-ptr deref or user memory access")}`)),
  ).toEqual([]);
});
