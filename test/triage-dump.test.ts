import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import type { JobContext } from "../src/core/job.ts";
import { triageDump } from "../src/jobs/triage-dump.ts";
import { classOfCrash, signatureOf } from "../src/triage/dump/crash-class.ts";
import type { DumpedVcpu, DumpFacts } from "../src/triage/dump/facts.ts";
import { judgeDump, systemText } from "../src/triage/dump/judge.ts";
import { mutantOf } from "./support/mutants.ts";
import { schemas } from "./support/schemas.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { buildKdump } from "./synth/kdump.ts";
import { note } from "./synth/notes.ts";
import { ringLog } from "./synth/printk.ts";

const SAMPLES = join(import.meta.dirname, "../samples");
const DATA = process.env.GUESTCORE_DATA ?? join(import.meta.dirname, "../../shared/data");
const SEED = 20261126;

const vcpu = (more: Partial<DumpedVcpu> = {}): DumpedVcpu => ({
  index: 0,
  rip: 0xffff_ffff_8100_0000n,
  rflags: 0x202n,
  where: "kernel",
  halted: undefined,
  symbol: undefined,
  loop: undefined,
  exit: undefined,
  current: true,
  idt: undefined,
  ...more,
});
const log = (...lines: string[]) => lines.map((text, i) => ({ time: BigInt(i + 1) * 1_000_000_000n, text }));
const facts = (more: Partial<DumpFacts> = {}): DumpFacts => ({
  source: "vmcore",
  of: "machine",
  release: "6.1.0",
  isLinux: true,
  log: log("Linux version 6.1.0"),
  logProblem: undefined,
  crash: undefined,
  panicCpu: undefined,
  taints: undefined,
  crashTime: undefined,
  crashKernel: undefined,
  vcpus: [],
  end: undefined,
  printed: [],
  ...more,
});
const rulesOf = (more: Partial<DumpFacts>) =>
  judgeDump(facts(more)).findings.map(({ rule, severity }) => [rule.replace("dump/", ""), severity]);
const MASKED = 0x2n;

describe("the kernel's log", () => {
  const OOPS = "BUG: kernel NULL pointer dereference, address: 0000000000000008";

  test("an oops and the panic that comes of it are one finding", () => {
    const all = log("Linux version", OOPS, "two\nlines", "Kernel panic - not syncing: Fatal exception");
    const { findings, events } = judgeDump(
      facts({ log: all, crash: { index: 1, title: OOPS }, panicCpu: 1 }),
    );
    expect(findings).toMatchObject([
      {
        rule: "dump/log-crash",
        class: "null-deref",
        severity: "panic",
        side: "guest",
        trust: "certain",
        survived: false,
        title: `${OOPS}; kernel panic: Fatal exception`,
        signature: "null-deref BUG: kernel NULL pointer dereference, address: X",
        at: { uptime: 2 },
        evidence: [
          { source: "vmcore:log", line: 2, text: OOPS },
          { source: "vmcore:log", line: 5, text: "Kernel panic - not syncing: Fatal exception" },
        ],
        details: { panic: "Fatal exception", panicCpu: 1, release: "6.1.0" },
      },
    ]);
    expect(events.map(({ kind, line }) => [kind, line])).toEqual([["dump/log-end", 5], ["dump/system", undefined]]); // biome-ignore format: short
  });

  test("an oops after which the kernel went on", () => {
    const crash = { index: 0, title: OOPS };
    expect(judgeDump(facts({ log: log(OOPS), crash })).findings).toMatchObject([{ severity: "oops" }]);
    expect(judgeDump(facts({ log: log(OOPS), crash })).findings[0]!.survived).toBeUndefined();
    // kexec from within the oops: no panic is printed.
    expect(rulesOf({ log: log(OOPS), crash, crashTime: 1 })).toEqual([["log-crash", "panic"]]);
  });

  test.each([
    ["BUG: unable to handle page fault for address: ffff", "page-fault", "oops"],
    ["general protection fault, maybe for address 0x0: 0000 [#1] SMP", "general-protection", "oops"],
    ["kernel BUG at mm/slub.c:1!", "kernel-bug", "oops"],
    ["watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [a:1]", "soft-lockup", "hang"],
    ["rcu: INFO: rcu_sched detected stalls on CPUs/tasks:", "rcu-stall", "hang"],
    ["rcu: INFO: rcu_preempt self-detected stall on CPU", "rcu-stall", "hang"],
    ["INFO: task a:1 blocked for more than 120 seconds.", "hung-task", "hang"],
    ["mce: [Hardware Error]: CPU 0: Machine Check Exception: 5 Bank 1: be", "machine-check", "warning"],
    ["WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2", "warning", "warning"],
    ["Kernel panic - not syncing: Attempted to kill init!", "panic", "panic"],
    ["Oops: 0002 [#1] SMP", "oops", "oops"],
    ["divide error: 0000 [#1] SMP", "oops", "oops"],
    ["sysrq: Trigger a crash", "sysrq-crash", "oops"],
    ["something else", "kernel-crash", "warning"],
  ])("%s", (title, name, severity) => {
    expect(classOfCrash(title)).toEqual({ class: name, severity });
  });

  test("signatures leave out addresses and numbers", () => {
    expect(signatureOf("BUG: at ffff888012345678 CPU 3 0xdead [a:17]")).toBe("BUG: at X CPU N X [a:N]");
  });

  test("that cannot be read, of a kernel that crashed", () => {
    expect(rulesOf({ log: undefined, logProblem: "gone", crashTime: 1_795_233_118 })).toEqual([["crashed", "panic"]]); // biome-ignore format: short
    expect(rulesOf({ panicCpu: 2 })).toEqual([["crashed", "panic"]]);
    expect(rulesOf({ log: undefined, logProblem: "gone" })).toEqual([]);
  });

  test("no crash kernel, which matters after a panic alone", () => {
    expect(rulesOf({ panicCpu: 2, crashKernel: false })).toEqual([["crashed", "panic"], ["no-crash-kernel", "notice"]]); // biome-ignore format: short
    expect(rulesOf({ panicCpu: 2, crashKernel: true })).toEqual([["crashed", "panic"]]);
    expect(rulesOf({ crashKernel: false })).toEqual([]);
  });

  test("a VMCS that the host printed", () => {
    const printed = [{ kind: "vmcs", line: 1, cause: undefined, reason: "VM-entry failure: INVALID_STATE (33)", broken: ["x"] }] as const; // biome-ignore format: short
    expect(judgeDump(facts({ printed })).findings).toMatchObject([
      { rule: "dump/vm-entry-failure", side: "host", severity: "panic", details: { broken: ["x"] } },
    ]);
  });
});

describe("processors", () => {
  const halted = { halted: true, rflags: MASKED } as const;

  test.each<[string, readonly Partial<DumpedVcpu>[], readonly (readonly [string, string])[]]>([
    ["idle", [{ halted: true }, {}], []],
    ["all halted for ever", [halted, halted], [["all-halted", "hang"]]],
    ["one of them awake", [halted, { rflags: MASKED }], []],
    ["one of them awake for interrupts", [halted, { halted: true }], []],
    ["a triple fault", [{ exit: { text: "TRIPLE_FAULT (2)", entryFailure: false, tripleFault: true } }], [["triple-fault", "panic"]]], // biome-ignore format: a table
    ["a VM-entry failure", [{ exit: { text: "VM-entry failure: INVALID_STATE (33)", entryFailure: true, tripleFault: false } }], [["vm-entry-failure", "panic"]]], // biome-ignore format: a table
    ["a loop with interrupts off", [{ loop: "jump to itself", rflags: MASKED }], [["loop", "hang"]]],
    ["a loop with interrupts on", [{ loop: "jump to itself" }], [["loop", "notice"]]],
    ["a loop of a process", [{ loop: "jump to itself", where: "user" }], []],
    ["hlt in a loop", [{ loop: "halt for ever", rflags: MASKED }], [["all-halted", "hang"]]],
    ["locks", [{ symbol: "native_queued_spin_lock_slowpath+0x1" }, { symbol: "native_queued_spin_lock_slowpath+0x9" }], [["lock-wait", "warning"]]], // biome-ignore format: a table
    ["one lock", [{ symbol: "native_queued_spin_lock_slowpath+0x1" }, {}], []],
    ["on its way down", [{ symbol: "panic+0x100" }], [["crash-path", "panic"]]],
  ])("%s", (_name, vcpus, expected) => {
    expect(rulesOf({ vcpus: vcpus.map((more, index) => vcpu({ index, ...more })) })).toEqual(expected);
  });

  test("after a panic halted processors are nothing of their own", () => {
    expect(rulesOf({ vcpus: [vcpu(halted)], panicCpu: 0 })).toEqual([["crashed", "panic"]]);
  });

  test("that halted as the kernel said", () => {
    expect(rulesOf({ vcpus: [vcpu(halted)], log: log("reboot: System halted") })).toEqual([["all-halted", "notice"]]); // biome-ignore format: short
  });

  test.each<[string, readonly Partial<DumpedVcpu>[], RegExp]>([
    ["firmware", [{ where: "real", rip: 0xfff0n }], /real mode: firmware/],
    ["UEFI", [{ rip: 0xfffc_1234n }], /firmware below 4 GiB/],
    ["Windows", [{ rip: 0xffff_f801_0000_0000n, idt: 0xffff_f801_2345_0000n }], /where Windows keeps them/],
    ["a small system", [{ rip: 0x7d10n }], /small system/],
    ["no registers", [], /no processor's registers/],
    ["who knows", [{ rip: 0xffff_ffff_8000_0000n }], /not known/],
  ])("of a machine without Linux: %s", (_name, vcpus, text) => {
    expect(systemText({ isLinux: false, vcpus: vcpus.map((more) => vcpu(more)) })).toMatch(text);
  });

  test("whatever they are, findings are of the closed set and bounded", () => {
    const word = fc.option(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), { nil: undefined });
    const any = fc.record({
      index: fc.nat(9000),
      rip: word,
      rflags: word,
      where: fc.constantFrom("user", "kernel", "real", "protected", "guest", "unknown"),
      halted: fc.constantFrom(true, false, undefined),
      symbol: fc.constantFrom(undefined, "panic+0x1", "osq_lock+0x1", "x"),
      loop: fc.constantFrom(undefined, "jump to itself", "halt for ever"),
      exit: fc.constantFrom(undefined, { text: "x", entryFailure: true, tripleFault: true }),
      current: fc.boolean(),
      idt: word,
    });
    fc.assert(
      fc.property(fc.array(any, { maxLength: 60 }), fc.boolean(), (vcpus, isLinux) => {
        const { findings } = judgeDump(facts({ vcpus: vcpus as DumpedVcpu[], isLinux }));
        for (const { evidence, severity } of findings) {
          expect(evidence.length).toBeLessThanOrEqual(16);
          expect(["panic", "oops", "hang", "warning", "notice"]).toContain(severity);
        }
      }),
      { seed: SEED, numRuns: 200 },
    );
  });
});

describe("the command", () => {
  const folder = mkdtempSync(join(tmpdir(), "guestcore-dump-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const BASE = 0xffff_ffff_8100_2000n;
  /** A dump that has nothing but a log and what VMCOREINFO says of it. */
  const dumpOf = (...lines: string[]): Buffer => {
    const records = lines.map((text, i) => ({ time: BigInt(i + 1) * 1_000_000_000n, level: 4, text }));
    const { bytes, keys } = ringLog(BASE, records, { descBits: 7, textBits: 13 });
    const image = Buffer.concat([bytes, Buffer.alloc(8192)]);
    const pages = new Map<number, Buffer>();
    for (let at = 0; at + 4096 <= image.length; at += 4096)
      pages.set(0x1002 + at / 4096, image.subarray(at, at + 4096));
    const info = ["OSRELEASE=6.1.0-synth", "NUMBER(phys_base)=0", ...keys, ""].join("\n");
    return buildKdump({ pages, notes: note("VMCOREINFO", 0, Buffer.from(info)) });
  };
  const write = (name: string, bytes: Buffer) => {
    writeFileSync(join(folder, name), bytes);
    return join(folder, name);
  };
  const run = async (...words: string[]) => {
    const terminal = new FakeTerminal();
    const code = await main(["triage", "dump", ...words], terminal);
    return { code, out: terminal.out.replaceAll(SAMPLES, "").replaceAll(folder, ""), err: terminal.err };
  };
  const json = async (...words: string[]) => {
    const document = JSON.parse((await run(...words, "--json")).out);
    const ajv = schemas();
    expect(ajv.validate("triage-dump.json", document), JSON.stringify(ajv.errors)).toBe(true);
    return document.result;
  };
  const CRASHED = [
    "Linux version 6.1.0-synth",
    "mce: [Hardware Error]: CPU 0: Machine Check: 0 Bank 5: 9c00004000010090",
    "BUG: kernel NULL pointer dereference, address: 0000000000000000",
    "Oops: 0002 [#1] PREEMPT SMP NOPTI",
    "Kernel panic - not syncing: Fatal exception",
  ];

  test("tells of a log's panic and of machine checks in it", async () => {
    const path = write("crashed", dumpOf(...CRASHED));
    const { code, out } = await run(path);
    expect(code).toBe(1);
    expect(out.split("\n").slice(0, 5).join("\n")).toMatchInlineSnapshot(`
      "/crashed: panic, Linux 6.1.0-synth
        panic    guest     BUG: kernel NULL pointer dereference; it did not go on
                           /crashed:log:3: [    3.000000] BUG: kernel NULL pointer dereference, address: 0000000000000000
        notice   hardware  machine check on CPU 0, bank 5: memory controller error, memory read, channel 0 (corrected); it went on afterwards
                           /crashed:log:2: mce: [Hardware Error]: CPU 0: Machine Check: 0 Bank 5: 9c00004000010090"
    `);
    const { findings, log: kept, linux, worst } = await json(path);
    expect(findings.map(({ rule }: { rule: string }) => rule)).toEqual(["dump/log-crash", "mce/x86"]);
    expect([worst, linux.release, kept.records, kept.tail.length]).toEqual(["panic", "6.1.0-synth", 5, 5]);
  });

  test("gives the log to a console's detector, as printk puts it", async () => {
    const seen: string[] = [];
    const context: JobContext = {
      progress: { start() {}, update() {}, finish() {} },
      warn() {},
      checkpoint: async () => {},
      temporaryDirectories: [folder],
    };
    const console = (source: string, text: Uint8Array) => {
      seen.push(source, Buffer.from(text).toString());
      return { findings: [], events: [{ kind: "console/x", source, text: "x" }] };
    };
    const path = write("hooked", dumpOf("first", "two\nlines"));
    const result = await triageDump(path, { guest: undefined, host: {}, console }, context);
    expect(seen).toEqual([`${path}:log`, "[    1.000000] first\n[    2.000000] two\n[    2.000000] lines\n"]);
    expect(result.events.some(({ kind }) => kind === "console/x")).toBe(true);
  });

  test("tells of samples: a bare guest, a host that crashed, a guest in it", async () => {
    expect(await run(join(SAMPLES, "nano-pc.dump.elf.zst"))).toMatchObject({
      code: 0,
      err: "",
      out: expect.stringMatching(/: clean, no Linux kernel\n[\s\S]*vcpu0 kernel, rip 0000000000007d10/),
    });
    const host = join(SAMPLES, "kvm-host-kernel.vmcore.zst");
    const { findings, panicCpu, vcpus, crashTime } = await json(host);
    expect(findings).toMatchObject([
      {
        rule: "dump/log-crash",
        class: "panic",
        severity: "panic",
        title: "Kernel panic - not syncing: sysrq triggered crash",
        details: { panicCpu: 1, pid: 1, comm: "init" },
      },
      { rule: "console/linux/soft-lockup", severity: "hang", survived: true },
    ]);
    expect([panicCpu, crashTime]).toEqual([1, 1_795_233_118]);
    expect(vcpus[1]).toMatchObject({ symbol: "__crash_kexec+0x11a", inCrashPath: true });
    const guest = await json(join(SAMPLES, "kvm-host.vmcore.zst"), "--guest", "1");
    expect(guest).toMatchObject({ of: "guest", linux: null, worst: "hang" });
    expect(guest.vcpus).toMatchObject([
      { where: "kernel", loop: "jump to itself", exit: { text: "EXTERNAL_INTERRUPT (1)" } },
      { where: "kernel" },
      { halted: true, loop: "halt for ever", exit: { text: "HLT (12)" } },
      { where: "real" },
    ]);
  });

  test("says when the log cannot be read", async () => {
    const { code, err } = await run(join(SAMPLES, "kvm-host.vmcore.zst"));
    expect(code).toBe(1);
    expect(err).toMatch(/^warning TRI501: /);
  });

  test("exits by what is wrong with the input", async () => {
    expect((await run(write("text", Buffer.from("no dump at all\n".repeat(100))))).code).toBe(3);
    expect((await run(join(folder, "missing"))).code).toBe(7);
    expect((await run(join(SAMPLES, "kvm-host.vmcore.zst"), "--guest", "9")).code).toBe(5);
    expect((await run(write("calm", dumpOf("Linux version 6.1.0-synth", "all is well")))).code).toBe(0);
  });

  test("damaged dumps end in an answer or in an error of ours", { timeout: 120_000 }, async () => {
    const original = dumpOf(...CRASHED);
    const codes = new Set<number>();
    for (let seed = 0; seed < 150; seed++) {
      const mutant = mutantOf(original, seed, 8, (chance) => chance.below(original.length - 8));
      codes.add((await run(write("mutant", mutant))).code);
    }
    for (const code of codes) expect([0, 1, 3, 4, 5]).toContain(code);
  });
});

const skip = existsSync(join(DATA, "svm/two-guests")) ? undefined : `no dumps in ${DATA}`;
describe.skipIf(skip !== undefined)(skip === undefined ? "real dumps" : `skipped: ${skip}`, () => {
  const result = async (...words: string[]) => {
    const terminal = new FakeTerminal();
    await main(["triage", "dump", ...words, "--json"], terminal);
    return JSON.parse(terminal.out).result;
  };
  const HOST = join(DATA, "svm/two-guests/vmcore.d23.elf.zst");

  test("a KVM/AMD host that sysrq brought down", { timeout: 120_000 }, async () => {
    const { findings, panicCpu, crashKernel, vcpus } = await result(HOST);
    expect(findings[0]).toMatchObject({ rule: "dump/log-crash", class: "panic", severity: "panic" });
    expect([panicCpu, crashKernel]).toEqual([0, true]);
    expect(vcpus.map(({ symbol }: { symbol: string }) => symbol.split("+")[0])).toEqual([
      "__crash_kexec",
      "svm_vcpu_run",
    ]);
  });

  test("its guest, which warned at boot and ran", { timeout: 120_000 }, async () => {
    const { findings, worst, linux, vcpus } = await result(HOST, "--guest", "web1");
    expect([worst, linux.nodeName, findings.length]).toEqual(["warning", "web1", 1]);
    expect(vcpus).toMatchObject([
      { where: "user", exit: { text: "VMEXIT_NMI" } },
      { halted: true, symbol: "native_safe_halt+0xb" },
    ]);
  });

  test("a guest of QEMU that ran", { timeout: 120_000 }, async () => {
    const found = await result(join(DATA, "qemu/tiny-q35/core.abrt.zst"));
    expect(found).toMatchObject({ worst: null, of: "qemu", crashKernel: false, taints: "", findings: [] });
  });
});
