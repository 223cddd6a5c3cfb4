import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { agreementOf } from "../src/guest/agreement.ts";
import type { Vcpu } from "../src/guest/guest.ts";
import { type HostGuestMemory, memoryOf } from "../src/guest/host-guest.ts";
import { readVcpus } from "../src/jobs/extract-host.ts";
import { type HostDump as Host, openHost } from "../src/jobs/host.ts";
import { type Input, openInput } from "../src/jobs/input.ts";
import { nameOf } from "../src/kvm/owner.ts";
import type { KvmVm } from "../src/kvm/vms.ts";
import { ENCODED_REGISTERS, type X86State } from "../src/x86/state.ts";
import { type HostDump, openHostDump, whyNoHostDump } from "./support/host-dumps.ts";
import { quiet } from "./support/memory-io.ts";
import { physicalAt, readVmcore } from "./support/read-vmcore.ts";
import { schemas } from "./support/schemas.ts";
import { FakeTerminal } from "./support/terminal.ts";

const SVM = "svm/two-guests";
const VMX = "vmx/pattern-guest";
const PAGE = 4096;
const MINUTES = 60_000;
const titled = (folder: string): string => {
  const reason = whyNoHostDump(folder);
  return reason === undefined ? folder : `${folder} (skipped: ${reason})`;
};

const page = Buffer.alloc(PAGE);
const output = mkdtempSync(join(tmpdir(), "guestcore-kvm-"));
afterAll(() => rmSync(output, { recursive: true }));

/** A dump with the guests that its host's kernel lists. */
async function opened(folder: string, packed: string) {
  const dump = openHostDump(folder, packed);
  const input = await openInput(dump.path, quiet);
  return { dump, input, host: await openHost(input, {}, () => {}, quiet) };
}

const vmsOf = ({ guests }: Host): KvmVm[] => guests.map(({ vm }) => vm!);

/** Slots as the truth lists them. */
const slotsText = ({ slots }: KvmVm, space: number): string[] =>
  slots
    .filter(({ addressSpace }) => addressSpace === space)
    .toSorted((a, b) => a.id - b.id)
    .map(({ id, start, end, hva, flags }) => {
      const [gpa, size, at, bits] = [start, end - start, hva, flags].map((n) => `0x${n.toString(16)}`);
      return `as=${space} id=${id} gpa=${gpa} size=${size} hva=${at} flags=${bits}`;
    });

async function run(...argv: string[]) {
  const terminal = new FakeTerminal();
  const code = await main(argv, terminal);
  return { code, out: terminal.out, err: terminal.err };
}

const validate = schemas();
function jsonOf(kind: string, text: string) {
  const json = JSON.parse(text);
  const valid = validate.validate(`${kind}.json`, json);
  expect(validate.errors ?? []).toEqual([]);
  expect(valid).toBe(true);
  return json;
}

describe.skipIf(whyNoHostDump(SVM) !== undefined)(titled(SVM), () => {
  let dump: HostDump;
  let input: Input;
  let host: Host;
  let truth: readonly DrgnVm[];

  beforeAll(async () => {
    ({ dump, input, host } = await opened(SVM, "vmcore.d23.elf.zst"));
    // drgn follows vm_list, which begins with the newest.
    truth = drgnVms(dump.truth("drgn-with-debuginfo.txt")).toReversed();
  }, 5 * MINUTES);
  afterAll(() => {
    input.close();
    dump.close();
  });

  test("the VMs, their processes and names", () => {
    expect(host.kvmUnknown).toBeUndefined();
    expect(host.kernel!.problems).toEqual([]);
    expect(
      vmsOf(host).map(({ address, mm, owner, problems }) => ({
        address,
        mm,
        comm: owner?.task.comm,
        pid: owner?.task.tgid,
        problems,
      })),
    ).toEqual(truth.map(({ address, mm, comm, pid }) => ({ address, mm, comm, pid, problems: [] })));
    expect(vmsOf(host).map(({ owner }) => owner && nameOf(owner))).toEqual(["web1", "db1"]);
  });

  test("memslots of both address spaces", () => {
    for (const [i, vm] of vmsOf(host).entries()) {
      expect([...slotsText(vm, 0), ...slotsText(vm, 1)]).toEqual(truth[i]!.slots);
      expect(vm.slots.length).toBe(12);
    }
  });

  test("vCPUs: structures, threads, states, VMCBs", () => {
    for (const [i, { vcpus }] of vmsOf(host).entries()) {
      expect(
        vcpus.map(({ index, address, cpu, inGuest, mpState, thread, controlBlock }) => {
          return { index, address, cpu, mode: inGuest ? 1 : 0, mpState, thread, controlBlock };
        }),
      ).toEqual(truth[i]!.vcpus.map(({ regs, newer, control, ...rest }) => rest));
      expect(host.guests[i]!.vcpus.map(({ block }) => block?.address)).toEqual(
        truth[i]!.vcpus.map(({ controlBlock }) => controlBlock),
      );
    }
  });

  test("KVM's copies of the registers", () => {
    for (const [i, { vcpus }] of vmsOf(host).entries()) {
      for (const [n, { registers }] of vcpus.entries()) {
        const { regs, newer, control } = truth[i]!.vcpus[n]!;
        const { general, rip, cr0, cr2, cr3, cr4, efer } = registers!;
        expect([...ENCODED_REGISTERS.map((name) => general[name]), rip]).toEqual(regs);
        expect({ cr0, cr2, cr3, cr4, efer }).toEqual(control);
        expect(registers!.newer).toEqual({ rsp: false, rip: newer, cr3: false });
      }
    }
  });

  test("a vCPU's registers together: RIP from where it is newest, EFER the guest's own", () => {
    for (const [i, guest] of host.guests.entries()) {
      const vcpus = readVcpus(host, guest);
      expect(vcpus.length).toBe(truth[i]!.vcpus.length);
      for (const [n, { state, halted, trust }] of vcpus.entries()) {
        const { regs, control, mpState } = truth[i]!.vcpus[n]!;
        expect([...ENCODED_REGISTERS.map((name) => state[name]), state.rip]).toEqual(regs);
        expect(state).toMatchObject(control);
        expect(halted).toBe(mpState === 3);
        expect(trust).toBe("current");
      }
    }
  });

  test("registers of the stopped guest are those QEMU shows", () => {
    const text = dump.truth("db1.info-registers.txt");
    const [vcpu] = readVcpus(host, host.guests[1]!);
    const shown = (name: string) => BigInt(`0x${new RegExp(`\\b${name} *=([0-9a-f]+)`).exec(text)![1]}`);
    for (const name of [...ENCODED_REGISTERS, "rip", "cr0", "cr2", "cr3", "cr4", "efer"] as const)
      expect(vcpu!.state[name], name).toBe(shown(name.toUpperCase()));
    expect(vcpu!.state.rflags).toBe(shown("RFL"));
    const { dr0, dr1, dr2, dr3, dr6, dr7, cr8 } = vcpu!.system!;
    expect([dr0, dr1, dr2, dr3]).toEqual([0n, 0n, 0n, 0n]);
    expect([dr6, dr7, cr8]).toEqual([shown("DR6"), shown("DR7"), 0n]);
    expect(vcpu!.caveats).toEqual([]);
    const { legacy } = vcpu!.fpu!;
    const xmm = [...text.matchAll(/XMM(\d\d)=([0-9a-f]{16}) ([0-9a-f]{16})/g)];
    expect(xmm.length).toBe(16);
    for (const [, number, high, low] of xmm) {
      const at = 160 + 16 * Number(number);
      const found = [legacy.readBigUInt64LE(at + 8), legacy.readBigUInt64LE(at)];
      expect(found, `xmm${number}`).toEqual([BigInt(`0x${high}`), BigInt(`0x${low}`)]);
    }
    expect([legacy.readUInt16LE(0), legacy.readUInt32LE(24)]).toEqual([
      Number(shown("FCW")),
      Number(shown("MXCSR")),
    ]);
  });

  test("the FPU of a vCPU that ran was in the processor, that of one that waited is known", () => {
    const [running, waiting] = readVcpus(host, host.guests[0]!);
    expect([running!.fpu, waiting!.fpu?.legacy.length]).toEqual([undefined, 512]);
  });

  describe("memory", () => {
    const memories: HostGuestMemory[] = [];
    beforeAll(async () => {
      for (const guest of host.guests) memories.push((await memoryOf(host, guest))!);
    }, MINUTES);

    test("of the stopped guest, every page", () => {
      const { memory, slots } = memories[1]!;
      const expected = dump.truthBytes("db1.pages");
      const zero = createHash("sha256").update(Buffer.alloc(PAGE)).digest("hex").slice(0, 16);
      const seen = { same: 0, excluded: 0 };
      let at = 0;
      for (const [start, end] of [
        [0, 0x600_0000],
        [0xfffc_0000, 0x1_0000_0000],
      ] as const) {
        for (let address = start; address < end; address += PAGE, at += 8) {
          const digest = expected.toString("hex", at, at + 8);
          const state = memory.readPage(address, page);
          // The dump leaves out pages of zeros, which cannot be told from others left out.
          if (state === "excluded") expect(digest).toBe(zero);
          else expect(createHash("sha256").update(page).digest("hex").slice(0, 16)).toBe(digest);
          seen[state === "excluded" ? "excluded" : "same"]++;
        }
      }
      expect(at).toBe(expected.length);
      expect(seen).toEqual({ same: 20_174, excluded: 4466 });
      expect(slots!.facts).toMatchObject({ inMemory: 24_640 * PAGE, unknown: 0, complete: true });
    });

    test.each([
      [0, { equal: 24_134, slotsOnly: 172 }, { inMemory: 24_306, untouched: 8526 }],
      [1, { equal: 22_681, slotsOnly: 1959 }, { inMemory: 24_640, untouched: 0 }],
    ])("of guest %i is where its NPT has it, as far as that goes", async (i, pages, facts) => {
      const { slots, tables } = memories[i]!;
      const { equal, different, slotsOnly, tablesOnly } = await agreementOf(slots!, tables!);
      expect({ equal: equal / PAGE, slotsOnly: slotsOnly / PAGE }).toEqual(pages);
      // The three leaves beside memslots are of devices, and lead to no memory.
      expect([different, tablesOnly]).toEqual([0, 0]);
      const { inMemory, untouched, swapped, inFile, unknown } = slots!.facts;
      expect({ inMemory: inMemory / PAGE, untouched: untouched / PAGE }).toEqual(facts);
      expect([swapped, inFile, unknown]).toEqual([0, 0, 0]);
    });

    test.each([
      [0, "web1"],
      [1, "db1"],
    ])("of guest %i lies where QEMU itself says", (i, name) => {
      const lines = dump
        .truth(`${name}.gpa2.txt`)
        .matchAll(/Host physical address for (0x[0-9a-f]+) .*is (0x[0-9a-f]+)/g);
      const runs = [...memories[i]!.slots!.hostRuns()];
      let checked = 0;
      for (const [, guest, physical] of lines) {
        const run = runs.find(({ start, end }) => Number(guest) >= start && Number(guest) < end)!;
        expect(run.physical + Number(guest) - run.start, guest).toBe(Number(physical));
        checked++;
      }
      expect(checked).toBeGreaterThan(40);
    });
  });

  test("guests --check, as text and JSON", { timeout: 5 * MINUTES }, async () => {
    const text = await run("guests", dump.path, "--check", "--progress", "none");
    expect(text.code).toBe(0);
    expect(text.out).toMatch(/AMD SVM, 2 guests, 3 vCPUs/);
    expect(text.out).toMatch(
      /guest 1: web1, pid 132, 2 vCPUs, 128\.3 MiB \(94\.9 MiB resident, 33\.3 MiB untouched\)/,
    );
    expect(text.out).toMatch(/guest 2: db1, pid 140, 1 vCPU, 96\.3 MiB \(96\.3 MiB resident\)/);
    expect(text.out).toMatch(/agree in 88\.6 MiB; 7\.7 MiB in memslots only, 0 B in tables only/);
    expect(text.out).not.toMatch(/DIFFER|control blocks alone|undefined/);
    const { result } = jsonOf("guests", (await run("guests", dump.path, "--check", "--json")).out);
    expect(result.guests.map(({ name, pid }: { name: string; pid: number }) => [name, pid])).toEqual([
      ["web1", 132],
      ["db1", 140],
    ]);
    expect(result.host).not.toHaveProperty("kvmUnknown");
    expect(result.guests[1]).toMatchObject({
      arch: "svm",
      memory: { inMemory: 24_640 * PAGE, complete: true },
      agreement: { equal: 22_681 * PAGE, different: 0 },
      memslots: expect.arrayContaining([expect.objectContaining({ id: 5, start: 0x10_0000 })]),
      vcpus: [{ index: 0, thread: 145, cpu: 0, inGuest: false, mpState: "halted" }],
    });
  });

  test("extract --guest db1 writes that guest", { timeout: 5 * MINUTES }, async () => {
    const file = join(output, "db1.vmcore");
    const { code, out } = await run("extract", dump.path, "--guest", "db1", "-o", file, "--json");
    expect(code).toBe(0);
    const { result } = jsonOf("extract", out);
    const coverage = result.coverage;
    expect(coverage.missing).toBe(0);
    expect(coverage.present + coverage.zero + coverage.excluded).toBe(24_640 * PAGE);
    const core = readVmcore(readFileSync(file));
    const expected = dump.truthBytes("db1.pages");
    let same = 0;
    for (let at = 0; at < 0x600_0000; at += 16 * PAGE) {
      const bytes = physicalAt(core, at, PAGE);
      if (bytes === undefined) continue;
      const digest = createHash("sha256").update(bytes).digest("hex").slice(0, 16);
      if (digest === expected.toString("hex", (at / PAGE) * 8, (at / PAGE) * 8 + 8)) same++;
    }
    expect(same).toBeGreaterThan(1000);
  });

  test("a guest that is not there: the error names those that are", { timeout: 5 * MINUTES }, async () => {
    const { code, out, err } = await run("extract", dump.path, "--guest", "nobody", "--dry-run");
    expect([code, out]).toEqual([5, ""]);
    expect(err).toMatch(/this host has no guest nobody/);
    expect(err).toMatch(/choose one with --guest: 1 \(web1\), 2 \(db1\)/);
    const none = await run("extract", dump.path, "--dry-run");
    expect(none.code).toBe(2);
    expect(none.err).toMatch(/this host has 2 guests/);
  });
});

describe.skipIf(whyNoHostDump(VMX) !== undefined)(titled(VMX), () => {
  let dump: HostDump;
  let input: Input;
  let host: Host;
  let text: string;
  let vm: KvmVm;

  beforeAll(async () => {
    ({ dump, input, host } = await opened(VMX, "vmcore.elf.zst"));
    text = dump.truth("gt");
    vm = vmsOf(host)[0]!;
  }, 5 * MINUTES);
  afterAll(() => {
    input.close();
    dump.close();
  });

  /** `vcpu1.rip 0x…`: what KVM_GET_REGS, KVM_GET_SREGS and KVM_GET_MSRS told. */
  const told = (vcpu: number, name: string): bigint => {
    const start = `\nvcpu${vcpu}.${name} `;
    const at = text.indexOf(start);
    if (at < 0) throw new Error(`no ${start}`);
    return BigInt(/^\S+/.exec(text.slice(at + start.length, at + start.length + 32))![0]);
  };

  test("the VM, its process, memslots and threads", () => {
    expect(host.kvmUnknown).toBeUndefined();
    expect(host.kernel!.problems).toEqual([]);
    expect(host.guests.length).toBe(1);
    expect(vm.problems).toEqual([]);
    expect(vm.owner).toMatchObject({ task: { pid: 154, comm: "vmm" }, argv: ["/vmm", "pattern", "/tmp/gt"] });
    expect(nameOf(vm.owner!)).toBeUndefined();
    const slots = [...text.matchAll(/^slot(\d+) gpa=(\w+) size=(\w+) hva=(\w+) flags=(\d+)/gm)];
    // KVM's own slot for the APIC access page is not among them.
    expect(slotsText(vm, 0)).toEqual(
      slots.map(
        ([, id, gpa, size, hva, flags]) =>
          `as=0 id=${id} gpa=${gpa} size=${size} hva=${hva} flags=0x${flags}`,
      ),
    );
    expect(slotsText(vm, 1)).toEqual([]);
    // The last vCPU never ran: it has no thread.
    const threads = vm.vcpus.map(({ thread }) => thread ?? 0);
    expect(threads).toEqual([0, 1, 2, 3].map((vcpu) => Number(told(vcpu, "tid"))));
    expect(vm.vcpus.map(({ id }) => id)).toEqual([0, 1, 2, 3]);
  });

  test("each vCPU's VMCS is that which its thread last put", () => {
    const puts = [...dump.truth("vmcsdump.txt").matchAll(/^vmcs pa=(\w+) pid=(\d+)/gm)];
    const [first, second, ...others] = vm.vcpus.map(({ controlBlock }) => controlBlock);
    const of = (thread: number) =>
      puts.filter(([, , pid]) => Number(pid) === thread).map(([, pa]) => Number(pa));
    expect([[first], [second]]).toEqual([of(158), of(159)]);
    expect(new Set(others)).toEqual(new Set(of(154)));
    expect(host.guests[0]!.vcpus.map(({ block }) => block?.address)).toEqual([first, second, ...others]);
  });

  test("registers and MSRs are those that KVM told", () => {
    const vcpus = readVcpus(host, host.guests[0]!);
    expect(vcpus.length).toBe(4);
    for (const { index, state, system } of vcpus) {
      for (const name of [...ENCODED_REGISTERS, "rip", "cr0", "cr2", "cr3", "cr4", "efer"] as const)
        expect(state[name], `${name} of vCPU ${index}`).toBe(told(index, name));
      // RF is set by the exit that the crash NMI caused.
      expect(state.rflags & ~0x1_0000n).toBe(told(index, "rflags"));
      expect(system!.cr8).toBe(told(index, "cr8"));
      const msrs: Record<string, bigint | undefined> = {
        "msr[0xc0000081]": system!.star,
        "msr[0xc0000082]": system!.lstar,
        "msr[0xc0000083]": system!.cstar,
        "msr[0xc0000084]": system!.syscallMask,
        "msr[0xc0000102]": state.kernelGsBase,
        "msr[0xc0000103]": system!.tscAux,
      };
      for (const [name, value] of Object.entries(msrs)) {
        expect(value, `${name} of vCPU ${index}`).toBe(told(index, name));
      }
      expect(vm.vcpus[index]!.mpState === 3 || told(index, "mp_state") === 0n).toBe(true);
    }
    expect(vcpus.map(({ caveats }) => (caveats ?? []).some((one) => /GS_BASE/.test(one)))).toEqual([
      false,
      true,
      false,
      false,
    ]);
    expect(vm.vcpus.map(({ registers }) => registers!.newer)).toEqual([
      { rsp: false, rip: false, cr3: false },
      { rsp: false, rip: false, cr3: false },
      { rsp: false, rip: true, cr3: false },
      { rsp: true, rip: true, cr3: true },
    ]);
  });

  test("KVM alone tells as much where a VMCS is not known", () => {
    const blind = host.guests[0]!.vcpus.map((vcpu) => ({ ...vcpu, block: undefined }));
    const vcpus = readVcpus(host, { ...host.guests[0]!, vcpus: blind });
    expect(vcpus.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    const names = ["rax", "rbx", "r15", "cr2", "efer"] as const satisfies readonly (keyof X86State)[];
    for (const { index, state, caveats } of vcpus as readonly Vcpu[]) {
      for (const name of names) expect(state[name]).toBe(told(index, name));
      expect(caveats![0]).toMatch(/segments, descriptor tables and RFLAGS are unknown/);
    }
  });

  test("memory is what the VMM saw, pages that nobody touched included", async () => {
    const { memory, slots, tables } = (await memoryOf(host, host.guests[0]!))!;
    const found = text.matchAll(/^slot\d+ gpa=(\w+) size=(\w+) .*present_pages=(\d+) sha256=(\w+)/gm);
    let total = 0;
    for (const [, gpa, size, present, sha256] of found) {
      const hash = createHash("sha256");
      const states: Record<string, number> = {};
      for (let at = Number(gpa); at < Number(gpa) + Number(size); at += PAGE) {
        const state = memory.readPage(at, page);
        states[state] = (states[state] ?? 0) + 1;
        hash.update(page);
      }
      expect(hash.digest("hex")).toBe(sha256);
      expect(states.present).toBe(Number(present));
      expect(states).toEqual({ present: states.present, zero: Number(size) / PAGE - Number(present) });
      total += Number(present);
    }
    expect(total).toBe(3261);
    expect(slots!.facts).toMatchObject({ inMemory: total * PAGE, swapped: 0, inFile: 0, unknown: 0 });
    const { equal, different, slotsOnly, tablesOnly } = await agreementOf(slots!, tables!);
    // Page tables, descriptor tables and ROM that the VMM wrote and the guest never touched.
    expect([equal / PAGE, slotsOnly / PAGE]).toEqual([3222, 39]);
    expect([different, tablesOnly]).toEqual([0, 0]);
  });

  test("guests --check and extract without a choice", { timeout: 5 * MINUTES }, async () => {
    const { code, out } = await run("guests", dump.path, "--check", "--json");
    expect(code).toBe(0);
    const { result } = jsonOf("guests", out);
    expect(result.guests).toMatchObject([
      {
        process: "vmm",
        pid: 154,
        arch: "vmx",
        memory: { inMemory: 3261 * PAGE },
        agreement: { equal: 3222 * PAGE, different: 0, slotsOnly: 39 * PAGE, tablesOnly: 0, examples: [] },
      },
    ]);
    expect(result.guests[0]).not.toHaveProperty("name");
    const dry = jsonOf("extract", (await run("extract", dump.path, "--dry-run", "--json")).out).result;
    expect(dry.coverage).toMatchObject({ present: 3261 * PAGE, missing: 0, excluded: 0 });
  });
});

const REDUCED = "vmx/linux-guest";

describe.skipIf(whyNoHostDump(REDUCED) !== undefined)(titled(REDUCED), () => {
  test(
    "without the host's kernel data guests are told by control blocks, and it is said",
    async () => {
      const dump = openHostDump(REDUCED, "vmcore.reduced.elf.zst");
      try {
        const text = await run("guests", dump.path, "--check", "--progress", "none");
        expect(text.code).toBe(0);
        expect(text.out).toMatch(/^guest 1: 2 vCPUs, 111\.4 MiB mapped, EPT 4-level/m);
        expect(text.out).toMatch(/^note: told by control blocks alone; /m);
        expect(text.out).not.toMatch(/memslots/);
        const { result } = jsonOf("guests", (await run("guests", dump.path, "--check", "--json")).out);
        expect(result.host.kvmUnknown).toMatch(/./);
        expect(result.guests).toMatchObject([{ memory: null, arch: "vmx", tables: { complete: true } }]);
        expect(result.guests[0]).not.toHaveProperty("agreement");
        const nobody = await run("extract", dump.path, "--guest", "web1", "--dry-run");
        expect(nobody.code).toBe(5);
        expect(nobody.err).toMatch(/no guest web1[\s\S]*choose one with --guest: 1;/);
      } finally {
        dump.close();
      }
    },
    MINUTES,
  );
});

interface DrgnVm {
  readonly address: bigint;
  readonly comm: string;
  readonly pid: number;
  readonly mm: bigint;
  readonly slots: readonly string[];
  readonly vcpus: readonly {
    readonly index: number;
    readonly address: bigint;
    readonly cpu: number;
    readonly mode: number;
    readonly mpState: number;
    readonly thread: number;
    readonly controlBlock: number;
    /** RAX … R15, RIP. */
    readonly regs: readonly bigint[];
    /** Whether RIP is. */
    readonly newer: boolean;
    readonly control: Readonly<Record<"cr0" | "cr2" | "cr3" | "cr4" | "efer", bigint>>;
  }[];
}

/** What drgn told with debug information, VM by VM. */
function drgnVms(text: string): DrgnVm[] {
  return text
    .split(/^kvm /m)
    .slice(1)
    .map((part) => {
      const [, address, comm, pid, mm] = /^(\w+) stats \S+ task (\S+) (\d+) tgid \d+ mm (\w+)/.exec(part)!;
      const vcpus = part
        .split(/^ {2}vcpu /m)
        .slice(1)
        .map((one) => {
          const [, index, at, cpu, mode, mpState, thread, block] =
            /^(\d+) (\w+) svm \w+ cpu (\d+) mode (\d+) mp_state (\d+) pid (\d+) .*vmcb01\.pa (\w+)/.exec(
              one,
            )!;
          const [, regs, cr0, cr3, cr4, cr2, efer, dirty] =
            /arch\.regs \[([^\]]+)\] cr0 (\w+) cr3 (\w+) cr4 (\w+) cr2 (\w+) efer (\w+) avail \['\w+', '(\w+)'\]/.exec(
              one,
            )!;
          const [a, b, c, d, e] = [cr0!, cr2!, cr3!, cr4!, efer!].map(BigInt);
          return {
            index: Number(index),
            address: BigInt(at!),
            cpu: Number(cpu),
            mode: Number(mode),
            mpState: Number(mpState),
            thread: Number(thread),
            controlBlock: Number(block),
            regs: [...regs!.matchAll(/\w+/g)].map(([value]) => BigInt(value)),
            newer: (Number(dirty) & 0x1_0000) !== 0,
            control: { cr0: a!, cr2: b!, cr3: c!, cr4: d!, efer: e! },
          };
        });
      const slots = [...part.matchAll(/^ {3}slot (.*)$/gm)].map(([, slot]) => slot!);
      return { address: BigInt(address!), comm: comm!, pid: Number(pid), mm: BigInt(mm!), slots, vcpus };
    });
}
