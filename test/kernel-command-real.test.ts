import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { schemas } from "./support/schemas.ts";
import { FakeTerminal } from "./support/terminal.ts";

/** Host dumps of a real KVM/AMD and a KVM/Intel host, Debian's 6.1.192, whose kernels sysrq-c brought down. */
const DATA = process.env.GUESTCORE_DATA ?? join(import.meta.dirname, "../../shared/data");
const xz = spawnSync("xz", ["--version"]).status === 0;

interface Listed {
  readonly pid: number;
  readonly tgid: number;
  readonly comm: string;
  readonly kind: string;
  readonly cpu: number;
  readonly running: boolean;
}

/** What drgn 0.0.22 says with debug information: of xtime_sec, ktime_sec, panic_cpu, tainted_mask, rq.curr. */
const HOSTS = [
  {
    name: "svm/two-guests",
    file: "vmcore.d23.elf.zst",
    modules: "l1.modules",
    threads: [132, 140],
    symbols: ["vm_list", "kvm_vcpu_kick", "svm_vcpu_run", "page_offset_base", "runqueues"],
    regs: { offset: 296, size: 136, count: 17, stride: 8 },
    machine: {
      nodeName: "hv1",
      crashTime: 1_795_233_118,
      time: 1_795_233_118,
      uptime: 67,
      crash: "sysrq: Trigger a crash",
      panicCpu: 0,
      taints: "",
      cpus: { online: [0, 1], present: [0, 1], possible: [0, 1] },
    },
    running: { 0: [206, "sh"], 1: [137, "CPU 0/KVM"] },
    states: { I: 40, S: 28, R: 2 },
  },
  {
    name: "vmx/pattern-guest",
    file: "vmcore.elf.zst",
    modules: "modules",
    threads: [],
    symbols: ["vm_list", "vmx_vcpu_run", "page_offset_base", "init_top_pgt", "phys_base", "kvm_lock"],
    regs: { offset: 296, size: 136, count: 17, stride: 8 },
    machine: {
      nodeName: "(none)",
      crashTime: 1_795_233_118,
      time: 1_795_233_118,
      uptime: 100,
      crash: "sysrq: Trigger a crash",
      panicCpu: 1,
      taints: "OEL",
      cpus: { online: [0, 1], present: [0, 1], possible: [0, 1] },
    },
    running: { 0: [159, "vmm"], 1: [1, "init"] },
    states: { I: 42, S: 19, R: 5 },
  },
] as const;

describe.each(HOSTS)("$name", ({ name, file, modules, threads, symbols, regs, machine, running, states }) => {
  const folder = join(DATA, name);
  const skip = !existsSync(folder) ? `no ${folder}` : xz ? undefined : "no xz command";

  describe.skipIf(skip !== undefined)(skip === undefined ? "real" : `skipped: ${skip}`, () => {
    const truth = (path: string) => readFileSync(join(folder, "truth", path), "latin1");
    // biome-ignore lint/suspicious/noExplicitAny: what the schema describes
    let result: any;
    let tasks: readonly Listed[];

    beforeAll(async () => {
      const asked = symbols.flatMap((symbol) => ["--symbol", symbol]);
      const words = ["kernel", join(folder, file), ...asked, "--type", "kvm_vcpu.arch.regs", "--type", "kvm"];
      const terminal = new FakeTerminal();
      expect([await main([...words, "--json"], terminal), terminal.err]).toEqual([0, ""]);
      const document = JSON.parse(terminal.out);
      const validate = schemas().getSchema("kernel.json")!;
      expect(validate(document), JSON.stringify(validate.errors)).toBe(true);
      ({ result } = document);
      tasks = result.tasks.list;
    }, 180_000);

    test("the machine is as it was", () => {
      expect(result.machine).toMatchObject(machine);
      expect(
        Object.fromEntries(result.machine.running.map((cpu: Listed) => [cpu.cpu, [cpu.pid, cpu.comm]])),
      ).toEqual(running);
      expect(result.machine.version).toMatch(/^#1 SMP PREEMPT_DYNAMIC Debian 6\.1\.192-2 /);
    });

    test("modules are those of /proc/modules", () => {
      const lines = [...truth(modules).matchAll(/^(\S+) (\d+) .* Live (0x[0-9a-f]+)$/gm)];
      expect(
        result.modules.list.map((module: { name: string; size: number; regions: { base: string }[] }) => [
          module.name,
          module.size,
          module.regions[0]!.base,
        ]),
      ).toEqual(lines.map(([, module, size, base]) => [module, Number(size), base]));
      expect(result.modules.complete).toBe(true);
    });

    test("tasks are in the states they were in, and those that run are what run queues say", () => {
      expect([result.tasks.complete, result.tasks.states]).toEqual([true, states]);
      const onCpu = tasks.filter((task) => task.running).map(({ cpu, pid, comm }) => [cpu, [pid, comm]]);
      expect(Object.fromEntries(onCpu)).toEqual(running);
    });

    test.each(threads)("threads of process %i are those ps showed", (pid) => {
      const lines = truth(`tasks.${pid}`).trim().split("\n");
      const found = tasks.filter(({ tgid }) => tgid === pid);
      expect(found.map((task) => `${task.pid} ${task.comm}`)).toEqual(lines);
      expect(found.map(({ kind }) => kind)).toEqual(lines.map((_, i) => (i === 0 ? "process" : "thread")));
    });

    test("symbols are those of /proc/kallsyms", () => {
      const packed = join(folder, "truth/l1.kallsyms.xz");
      const text = existsSync(packed)
        ? spawnSync("xz", ["-dc", packed], { encoding: "latin1", maxBuffer: 2 ** 26 }).stdout
        : truth("syms");
      for (const { query, matches } of result.found.symbols) {
        const [, address, module] = new RegExp(`^(\\w{16}) \\w ${query}(?:\\t\\[(\\w+)\\])?$`, "m").exec(
          text,
        )!;
        expect(matches).toMatchObject([
          { address: `0x${address}`, module: module ?? null, offset: `0x${"0".repeat(16)}` },
        ]);
        expect(matches[0].physical === null).toBe(matches[0].perCpu);
      }
    });

    test("types are those of the kernel and of kvm", () => {
      const [member, type] = result.found.types;
      expect(member.match).toMatchObject({ ...regs, declaration: "long unsigned int regs[17]", bits: null });
      expect(type.match.text[0]).toMatch(/^struct kvm \{ +\/\* size: \d+ \*\/$/);
      expect(result.types.btf.map((btf: Listed & { name: string }) => btf.name)).toContain("kvm");
    });
  });
});
