import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { schemas } from "./support/schemas.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { buildKdump } from "./synth/kdump.ts";
import { RELEASE, TEXT } from "./synth/linux-guest.ts";
import { buildLinuxKernel, type KernelSpec, kernelBtf } from "./synth/linux-kernel.ts";
import type { Piece } from "./synth/memory.ts";
import { note } from "./synth/notes.ts";
import { buildVmlinux } from "./synth/vmlinux.ts";

const folder = mkdtempSync(join(tmpdir(), "guestcore-kernel-"));
afterAll(() => rmSync(folder, { recursive: true }));
const PAGE = 4096;

/** The present pages of a memory, those of zeros too. */
function pagesOf(pieces: readonly Piece[]): Map<number, Buffer> {
  const pages = new Map<number, Buffer>();
  for (const piece of pieces) {
    if (!("bytes" in piece)) continue;
    for (let at = 0; at < piece.bytes.length; at += PAGE) {
      const page = Buffer.alloc(PAGE);
      page.set(piece.bytes.subarray(at, at + PAGE));
      pages.set((piece.address + at) / PAGE, page);
    }
  }
  return pages;
}

function dump(name: string, spec: KernelSpec = {}): string {
  const { pieces, vmcoreinfo } = buildLinuxKernel(spec);
  const path = join(folder, name);
  const notes = note("VMCOREINFO", 0, Buffer.from(vmcoreinfo, "latin1"));
  writeFileSync(path, buildKdump({ pages: pagesOf(pieces), notes }));
  return path;
}

function file(name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

const run = async (...words: string[]) => {
  const terminal = new FakeTerminal();
  return { status: await main(["kernel", ...words], terminal), out: terminal.out, err: terminal.err };
};
const validate = schemas().getSchema("kernel.json")!;
const json = async (...words: string[]) => {
  const { status, out } = await run(...words, "--json");
  const document = JSON.parse(out);
  expect(validate(document), JSON.stringify(validate.errors)).toBe(true);
  const codes: string[] = document.warnings.map(({ code }: { code: string }) => code);
  return { status, result: document.result, codes };
};

const whole = dump("whole");
const bare = dump("bare", { kallsyms: false, btf: false });
const BUILD_ID = "eb4fbcd037e7253717950bf2b93bd5566f47c56f";
const LINKED = 0xffff_ffff_8100_0000n;
/** The synthetic kernel's vmlinux, before KASLR moved it. */
const vmlinux = (options: { buildId?: string; move?: bigint; btf?: Uint8Array } = {}): Buffer => {
  const { move = TEXT - LINKED } = options;
  const symbols = buildLinuxKernel().symbols.map((symbol) =>
    symbol.type === "A" ? symbol : { ...symbol, address: symbol.address - move },
  );
  return buildVmlinux({ buildId: BUILD_ID, ...options, symbols });
};

describe("guestcore kernel", () => {
  test("sums a kernel up; what a guest wrote is escaped", async () => {
    const { status, out, err } = await run(whole);
    expect([status, err]).toEqual([0, ""]);
    expect(out.replace(folder, "")).toBe(
      `/whole: Linux ${RELEASE}, x86_64
  build-id       ${BUILD_ID}
  version        #1 SMP synthetic
  host name      synth
  command line   console=ttyS0 \\x1b]0;x\\x07quiet
  address space  4-level paging, KASLR +0x19000000, phys_base -0x19000000, page_offset 0xffff9c0140000000, image 0xffffffff9a000000, 10.0 MiB
  time           crashed 2026-11-21T03:51:58Z, up 1 day 1:02:01
  log            sysrq: Trigger a crash
  panic          on CPU 1, which ran vm\\x1b[31m (70)
  CPUs           2 online, 2 present, 4 possible
  running        CPU 1: vm\\x1b[31m (70)
  tainted        PWO
  symbols        22 of kallsyms (absolute-percpu, found by VMCOREINFO); 1 of modules
  types          22 in 1.2 KiB of BTF
  modules        1, 12.0 KiB
  tasks          5: 2 processes, 1 further thread, 2 of the kernel; 2 S, 1 D, 1 I, 1 R
`,
    );
  });

  test("lists tasks and modules", async () => {
    const { out } = await run(whole, "--tasks", "--modules");
    expect(out.split("\n")).toEqual([
      "module  size   base                state  taints",
      "kvm     12288  0xffffffffc0600000  live   PO",
      "pid  tgid  ppid  state  cpu  name",
      "1    1     0     S      0    init",
      "2    2     0     S      1    [kthreadd]",
      "3    3     2     I      0    [rcu_gp]",
      "70   70    1     R      1*   vm\\x1b[31m",
      "71   70    1     D      0    worker",
      "",
    ]);
  });

  test("looks symbols and addresses up", async () => {
    const words = ["show_regs", "kvm_vcpu_kick+0x10", "0xffffffff9a001004", "ffffffff9a500100", "runqueues"];
    const { status, out } = await run(whole, ...words.flatMap((word) => ["--symbol", word]));
    expect(status).toBe(0);
    expect(out.split("\n")).toEqual([
      "0xffffffff9a001100 t show_regs at 0x000001001100",
      "0xffffffff9a600000 t show_regs not mapped",
      "0xffffffffc0600110 T kvm_vcpu_kick+0x10 [kvm] not mapped",
      "0xffffffff9a001004 T vprintk+0x4 at 0x000001001004",
      "0xffffffff9a500100 D __cpu_online_mask at 0x000001500100",
      "0x0000000000001000 A runqueues per-CPU offset or absolute",
      "",
    ]);
    // In the direct map nothing has a name.
    expect((await run(whole, "--symbol", "0xffff9c0140002000")).out).toBe(
      "0xffff9c0140002000 - no symbol at 0x000000002000\n",
    );
  });

  test("shows types, and where members are", async () => {
    const { out } = await run(whole, "--type", "struct list_head", "--type", "task_struct.comm");
    expect(out).toBe(
      "struct list_head {  /* size: 16 */\n  void *next;       /* 0 8 */\n  void *prev;       /* 8 8 */\n};\n" +
        "task_struct.comm: char comm[16]; /* offset 96, size 16, 16 of 1 */\n",
    );
  });

  test("ends with 5 when something asked for is not there, and says what", async () => {
    const words = ["--symbol", "printk", "--symbol", "_text", "--type", "kvm", "--type", "task_struct.com"];
    const { status, out, err } = await run(whole, ...words);
    expect([status, out]).toEqual([5, "0xffffffff9a000000 T _text at 0x000001000000\n"]);
    expect(err.match(/KRN013.*/g)).toEqual([
      "KRN013: this kernel has no symbol or address printk, as far as is known",
      "KRN013: this kernel has no type or member kvm, as far as is known",
      "KRN013: this kernel has no type or member task_struct.com, as far as is known",
    ]);
    expect((await run(whole, "--symbol", "0x10")).status).toBe(5);
  });

  test("JSON has all of it, as the schema says", async () => {
    const words = [
      "--symbol",
      "show_regs",
      "--symbol",
      "x",
      "--type",
      "rq",
      "--type",
      "rq.curr",
      "--type",
      "x",
    ];
    const { status, result, codes } = await json(whole, ...words);
    expect([status, codes]).toEqual([5, ["KRN013", "KRN013"]]);
    expect(result.machine).toMatchObject({
      crashTime: 1_795_233_118,
      time: 1_795_233_118,
      uptime: 90_121,
      lastLogged: "0x0000000df8475800",
      crash: "sysrq: Trigger a crash",
      panicCpu: 1,
      taints: "PWO",
      cpus: { online: [0, 1], present: [0, 1], possible: [0, 1, 2, 3] },
      running: [
        { cpu: 0, pid: null, comm: null },
        { cpu: 1, pid: 70, comm: "vm\x1b[31m" },
      ],
    });
    expect(result.tasks.states).toEqual({ S: 2, D: 1, I: 1, R: 1 });
    expect(result.tasks.list.map(({ kind }: { kind: string }) => kind)).toEqual([
      "process",
      "kernel",
      "kernel",
      "process",
      "thread",
    ]);
    expect(result.found.symbols.map(({ matches }: { matches: unknown[] }) => matches.length)).toEqual([2, 0]);
    expect(result.found.types.map(({ match }: { match: { kind: string } | null }) => match?.kind)).toEqual([
      "type",
      "member",
      undefined,
    ]);
    expect(result.symbols).toMatchObject({ source: "kallsyms", foundBy: "VMCOREINFO", missing: null });
  });

  test("a kernel that did not panic", async () => {
    const { out } = await run(dump("calm", { panicCpu: -1 }));
    expect(out).not.toContain("  panic");
  });
});

describe("without kallsyms or BTF in memory", () => {
  test("what is known is shown, and what would help", async () => {
    const { status, out, err } = await run(bare);
    expect(status).toBe(0);
    expect(err).toMatch(/warning KRN009: .*\n {2}hint: --vmlinux/);
    expect(err).toMatch(/warning KRN010: .*\n {2}hint: .*--btf/);
    expect(out).toMatch(/time +crashed .*, last record of the log after 0:01:00/);
    expect(out).toMatch(/symbols +not known\n {2}types +not known\n$/);
    const { result } = await json(bare);
    expect([result.modules, result.tasks, result.machine.panicCpu]).toEqual([null, null, null]);
    expect(result.symbols.missing).toMatch(/does not say where the symbol table is/);
  });

  test("files have them", async () => {
    const elf = file("vmlinux", vmlinux({ btf: kernelBtf() }));
    const { result, codes } = await json(bare, "--vmlinux", elf, "--btf", elf);
    const { result: told } = await json(whole);
    expect(codes).toEqual([]);
    expect(result.symbols).toMatchObject({ source: "vmlinux", file: elf, shift: "0x0000000019000000" });
    expect(result.types.source).toBe("file");
    expect([result.machine, result.tasks, result.modules]).toEqual([told.machine, told.tasks, told.modules]);
    expect((await run(bare, "--vmlinux", elf)).out).toMatch(
      /symbols +22 of .*vmlinux, moved by 0x19000000\n/,
    );
    // Types alone say what they are, symbols alone name modules.
    expect((await run(bare, "--btf", elf, "--type", "rq.curr")).out).toMatch(/offset 40/);
    expect((await json(bare, "--vmlinux", elf)).result.modules.list).toMatchObject([
      { name: "kvm", state: null },
    ]);
  });

  test("BTF may be a file of its own, or a directory as /sys/kernel/btf", async () => {
    const raw = file("raw.btf", kernelBtf());
    expect((await json(bare, "--btf", raw)).result.types.btf).toMatchObject([{ count: expect.any(Number) }]);
    const directory = join(folder, "btf");
    mkdirSync(join(directory, "deeper"), { recursive: true });
    for (const [name, bytes] of Object.entries({
      vmlinux: kernelBtf(),
      kvm: kernelBtf(),
      README: Buffer.from("not BTF at all, and longer than a header"),
      broken: kernelBtf().subarray(0, 30),
    }))
      writeFileSync(join(directory, name), bytes);
    const { result, codes } = await json(bare, "--btf", directory);
    expect(result.types.btf.map(({ name }: { name: string }) => name)).toEqual(["vmlinux", "kvm"]);
    expect(codes).toContain("KRN008");
    rmSync(join(directory, "vmlinux"));
    const { status, err } = await run(bare, "--btf", directory);
    expect([status, err]).toEqual([5, expect.stringMatching(/no file vmlinux/)]);
  });

  test("functions alone are no help where variables are wanted", async () => {
    const path = dump("functions", { functionsOnly: true });
    const { result, codes } = await json(path);
    expect(codes).toContain("KRN009");
    expect(result.symbols.missing).toMatch(/CONFIG_KALLSYMS_ALL/);
    expect((await run(path, "--symbol", "vprintk")).status).toBe(0);
    const elf = file("vmlinux-2", vmlinux());
    const helped = await json(path, "--vmlinux", elf);
    expect(helped.codes).not.toContain("KRN009");
    expect(helped.result.symbols.source).toBe("vmlinux");
  });

  test.each<[string, Uint8Array, RegExp]>([
    ["another build", vmlinux({ buildId: "00".repeat(20) }), /its build-id is 0{40}, not eb4f/],
    ["no build-id, elsewhere", moved(), /no banner at 0x/],
  ])("a vmlinux of %s is not used", async (name, bytes, reason) => {
    const elf = file(`vmlinux ${name}`, bytes);
    const { status, err } = await run(bare, "--vmlinux", elf);
    expect(status).toBe(0);
    expect(err).toMatch(/warning KRN008: /);
    expect(err).toMatch(reason);
  });

  test("types that do not fit are not used", async () => {
    const { err } = await run(
      bare,
      "--vmlinux",
      file("v", vmlinux()),
      "--btf",
      file("other.btf", kernelBtf(112)),
    );
    expect(err).toMatch(/warning KRN008: .*other\.btf is not used: they do not fit/);
  });

  test("files that are none end the job", async () => {
    const text = file("text", Buffer.from("hello"));
    expect(await run(bare, "--vmlinux", text)).toMatchObject({
      status: 3,
      err: expect.stringMatching(/text: not an ELF vmlinux\n {2}hint: .*vmlinuz/),
    });
    expect((await run(bare, "--btf", text)).status).toBe(3);
    expect((await run(bare, "--btf", join(folder, "nowhere"))).status).toBe(7);
  });
});

/** A vmlinux without a build-id whose banner is elsewhere than in memory. */
function moved(): Buffer {
  const symbols = buildLinuxKernel().symbols.map((symbol) =>
    symbol.name === "linux_banner" ? { ...symbol, address: symbol.address + 0x100n } : symbol,
  );
  return buildVmlinux({ symbols });
}

test("every job that looks for guests takes the files, and tells when they are another kernel's", async () => {
  const other = file("another", vmlinux({ buildId: "11".repeat(20) }));
  const terminal = new FakeTerminal();
  expect(await main(["guests", bare, "--vmlinux", other], terminal)).toBe(0);
  expect(terminal.err).toMatch(/warning KRN008: .*another is not used: it is of another kernel/);
});
