import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { GuestcoreError } from "../src/core/errors.ts";
import { withNotes } from "../src/guest/from-notes.ts";
import type { Vcpu } from "../src/guest/guest.ts";
import { extract } from "../src/jobs/extract.ts";
import { inspect } from "../src/jobs/inspect.ts";
import { quiet } from "./support/memory-io.ts";
import { prstatusRegisters, readVmcore } from "./support/read-vmcore.ts";
import { schemas } from "./support/schemas.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { note } from "./synth/notes.ts";
import { random } from "./synth/pattern.ts";
import { buildQemuCore } from "./synth/qemu.ts";
import { firmware, longMode, mainRam } from "./synth/qemu-presets.ts";
import type { QemuSpec } from "./synth/qemu-spec.ts";
import { haltedVcpu, vmcbPage } from "./synth/vmcb.ts";
import { PLACES, REVISION, regionNote, vmcsInfo, vmcsPage } from "./synth/vmcs.ts";
import { table } from "./synth/vmcsinfo.ts";

/** Cores of KVM guests with notes of their vCPUs' VMCSs: what of each register is taken from where. */
const folder = mkdtempSync(join(tmpdir(), "guestcore-vcpu-notes-"));
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;

const CR3 = 0x1_0000n;
const IDT = 0xffff_ffff_8000_a000n;

/** Tables at 0x10000 to 0x12000 map the first 2 MiB at the kernel's addresses. */
const tablePage = (slot: number, entry: bigint): Buffer => {
  const page = Buffer.alloc(4096);
  page.writeBigUInt64LE(entry, 8 * slot);
  return page;
};
const blocks = [
  {
    ...mainRam(),
    pages: {
      16: tablePage(511, 0x1_1003n),
      17: tablePage(510, 0x1_2003n),
      18: tablePage(0, 0x83n),
      // Another guest's root may be anything here: an entry that leads to where this one has no memory.
      19: tablePage(511, 0x7000_0003n),
    },
  },
  ...firmware(),
];

const vmcs = (vcpu: number, fields: Record<string, bigint> = {}, options = {}): Buffer =>
  note(
    "VMCS",
    0,
    regionNote({
      vcpu,
      bytes: vmcsPage({
        GUEST_RIP: 0xffff_ffff_8010_0000n + BigInt(vcpu),
        GUEST_RSP: 0xffff_ffff_8020_0000n + BigInt(vcpu),
        GUEST_TR_BASE: 0xffff_ffff_8000_9000n + 0x100n * BigInt(vcpu),
        GUEST_CR3: CR3,
        GUEST_IDTR_BASE: IDT,
        ...fields,
      }),
      ...options,
    }),
  );
/** The machine has a fourth vCPU whose registers the core lost. */
const fourth: QemuSpec = {
  vcpus: [0, 1, 2, 3].map((index) => ({ registers: longMode(index), dirty: index === 0 })),
  patch: ({ process, addresses }) => process.putBytes(addresses.get("env:3")!, Buffer.alloc(600)),
};
const INFO = note("VMCSINFO", 0, vmcsInfo());

/** vCPU 0 is current, 1 and 2 are stale. */
const kvm = (notes: readonly Buffer[], spec: QemuSpec = {}): Buffer =>
  buildQemuCore({
    accel: "kvm",
    blocks,
    vcpus: [0, 1, 2].map((index) => ({ registers: longMode(index), dirty: index === 0 })),
    notes: (own) => [...own, ...notes],
    ...spec,
  }).core;

async function extracted(core: Buffer, options = {}, dryRun = false) {
  const input = join(folder, `core${files++}`);
  writeFileSync(input, core);
  const output = `${input}.vmcore`;
  const result = await extract(
    {
      input,
      output,
      format: "elf",
      vaddr: "direct-map",
      ram: new Map(),
      layout: undefined,
      dryRun,
      force: false,
      keepPartial: false,
      host: options,
    },
    quiet,
  );
  const codes = result.warnings.map(({ code }) => code);
  const told = (code: string) => result.warnings.find((warning) => warning.code === code)?.message;
  if (result.origin.kind !== "process") throw new Error("no process core");
  const uses = Object.fromEntries(result.origin.vcpuNotes.map(({ vcpu, use }) => [vcpu, use]));
  return { input, output, vcpus: result.guest.vcpus, uses, codes, told };
}

describe("a core whose vCPUs have VMCS notes", () => {
  const core = kvm([vmcs(0), vmcs(1), vmcs(2), vmcs(3), INFO], fourth);

  test("takes from them what QEMU's stale copy may have wrong, and nothing else", async () => {
    const { vcpus, uses, codes, told, output } = await extracted(core);
    expect(uses).toEqual({ 0: "not-needed", 1: "over-stale", 2: "over-stale", 3: "alone" });
    expect(vcpus.map(({ trust }) => trust)).toEqual(["current", "partly-stale", "partly-stale", "current"]);
    expect(vcpus[0]).not.toHaveProperty("sources");
    for (const index of [1, 2]) {
      const { state } = vcpus[index]!;
      expect(state).toMatchObject({
        rip: 0xffff_ffff_8010_0000n + BigInt(index),
        rsp: 0xffff_ffff_8020_0000n + BigInt(index),
        cr3: CR3,
        idt: { base: IDT, limit: 0xfff },
        rflags: 0x87n,
        efer: 0xd01n,
      });
      expect(state.segments.tr.base).toBe(0xffff_ffff_8000_9000n + 0x100n * BigInt(index));
      const { rax, r15, cr2, kernelGsBase } = longMode(index);
      expect(state).toMatchObject({ rax, r15, cr2, kernelGsBase });
    }
    const prstatus = readVmcore(readFileSync(output)).notes.filter(
      ({ name, type }) => name === "CORE" && type === 1,
    );
    expect(prstatus.map(({ desc }) => prstatusRegisters(desc).rip)).toEqual(
      vcpus.map(({ state }) => state.rip),
    );
    expect(prstatusRegisters(prstatus[1]!.desc).rax).toBe(longMode(1).rax);
    expect(codes).toEqual(["REG002", "REG001", "REG003"]);
    expect(told("REG001")).toMatch(
      /^rax, rbx, rcx, rdx, rsi, rdi, rbp, r8-r15, cr2, kernel_gs_base of 2 vCPUs \(1, 2\) are/,
    );
    expect(told("REG003")).toMatch(/^of 1 vCPU \(3\)/);
  });

  test("names the source of every register", async () => {
    const { vcpus } = await extracted(core);
    const { sources, source, caveats } = vcpus[1]!;
    expect(Object.keys(sources!)).toHaveLength(16 + 8 + 2 + 8);
    expect(sources).toMatchObject({
      rip: "VMCS note GUEST_RIP",
      rsp: "VMCS note GUEST_RSP",
      cr0: "VMCS note GUEST_CR0 with mask and read shadow",
      cs: "VMCS note GUEST_CS",
      idt: "VMCS note GUEST_IDTR",
      rax: "QEMU CPUX86State, stale",
      cr2: "QEMU CPUX86State, stale",
      kernelGsBase: "QEMU CPUX86State, stale",
    });
    expect(source).toMatch(/^VMCS note, 0x2549000 of the host; QEMU CPUX86State at 0x[0-9a-f]+, stale$/);
    expect(caveats).toHaveLength(1);
  });

  test("is told of to people and programs", async () => {
    const { input } = await extracted(core);
    const terminal = new FakeTerminal();
    expect(await main(["extract", input, "--dry-run"], terminal)).toBe(0);
    expect(terminal.out).toMatch(/vcpu1 .* partly stale$/m);
    expect(terminal.out).toContain(
      "  VMCS notes of vCPU 1, 2: rsp, rip, rflags, cr0, cr3, cr4, efer, gdt, idt, segments; QEMU's stale copy: rax,",
    );
    expect(terminal.out).toContain("  VMCS notes of vCPU 3: rsp, rip, ");
    expect(terminal.out).toContain("  VMCS notes of vCPU 0: not needed, QEMU's own registers are current");
    const json = new FakeTerminal();
    expect(await main(["extract", input, "--dry-run", "--json"], json)).toBe(0);
    const document = JSON.parse(json.out);
    const validate = schemas().getSchema("extract.json")!;
    expect(validate(document), JSON.stringify(validate.errors)).toBe(true);
    expect(document.result.process.vcpuNotes[1]).toEqual({
      owner: "VMCS",
      vcpu: 1,
      address: 0x254_9000,
      complete: true,
      use: "over-stale",
    });
  });

  test("is shown by info with the registers that extract gives", async () => {
    const { input, vcpus } = await extracted(core);
    const { process } = await inspect(input, quiet);
    expect(process?.qemu?.guest.vcpus.map(({ state, trust }) => [state.rip, trust])).toEqual(
      vcpus.map(({ state, trust }) => [state.rip, trust]),
    );
  });

  test("is as it was without them", async () => {
    const { vcpus, uses, codes, told } = await extracted(kvm([]));
    expect(uses).toEqual({});
    expect(vcpus.map(({ trust }) => trust)).toEqual(["current", "may-be-stale", "may-be-stale"]);
    expect([codes, told("REG001")]).toEqual([["REG001"], expect.stringMatching(/2 vCPUs \(1, 2\)/)]);
  });

  test("has vCPUs without a note beside those with one", async () => {
    const { vcpus, codes } = await extracted(kvm([vmcs(2), INFO]));
    expect(vcpus.map(({ trust }) => trust)).toEqual(["current", "may-be-stale", "partly-stale"]);
    expect(codes).toEqual(["REG001", "REG001"]);
  });
});

describe("notes that are not as they should be", () => {
  test("the host did not clear its VMCSs", async () => {
    const { vcpus, codes } = await extracted(kvm([vmcs(1, {}, { flags: 0 }), vmcs(2), INFO]));
    expect(vcpus.map(({ trust }) => trust)).toEqual(["current", "may-be-stale", "partly-stale"]);
    expect(codes).toEqual(["REG001", "REG004"]);
  });

  test.each([
    ["a cut one", note("VMCS", 0, regionNote({ vcpu: 1, bytes: vmcsPage() }).subarray(0, 999)), {}],
    ["one of a later version", vmcs(1, {}, { version: 2 }), {}],
    [
      "one that is no VMCS",
      note("VMCS", 0, regionNote({ vcpu: 1, bytes: Buffer.alloc(4096, 0x11) })),
      {
        1: "refused",
      },
    ],
    [
      "one of another revision",
      vmcs(1, {}, { bytes: Buffer.concat([Buffer.from([1, 0, 0, 0]), vmcsPage().subarray(4)]) }),
      {
        1: "refused",
      },
    ],
  ])("%s: the others are used", async (_, damaged, refused) => {
    const { vcpus, uses, codes } = await extracted(kvm([damaged, vmcs(2), INFO]));
    expect(uses).toEqual({ 2: "over-stale", ...refused });
    expect(vcpus.map(({ trust }) => trust)).toEqual(["current", "may-be-stale", "partly-stale"]);
    expect(codes.filter((code) => code === "VMN001")).toHaveLength(1);
  });

  test("no VMCSINFO, and a processor nobody knows: --vmcsinfo says it", async () => {
    const core = kvm([vmcs(1), vmcs(2)]);
    const without = await extracted(core);
    expect(without.uses).toEqual({ 1: "refused", 2: "refused" });
    expect(without.codes).toEqual(["REG001", "VMN002", "VMN001"]);
    const vmcsinfo = join(folder, "made-up.txt");
    writeFileSync(vmcsinfo, table(REVISION, PLACES));
    const given = await extracted(core, { vmcsinfo });
    expect(given.uses).toEqual({ 1: "over-stale", 2: "over-stale" });
    expect(given.codes).toEqual(["REG001"]);
  });

  test("VMCSINFO that cannot be read", async () => {
    const { codes, told } = await extracted(kvm([vmcs(1), note("VMCSINFO", 0, Buffer.from("nothing"))]));
    expect(codes).toContain("VMN002");
    expect(told("VMN002")).toMatch(/^the core's VMCSINFO cannot be read \(not VMCSINFO/);
  });

  test("several for one vCPU: the last is used", async () => {
    const { vcpus, codes } = await extracted(kvm([vmcs(1, { GUEST_RIP: 1n }), vmcs(1), vmcs(2), INFO]));
    expect(vcpus[1]!.state.rip).toBe(0xffff_ffff_8010_0001n);
    expect(codes).toEqual(["REG001", "VMN004"]);
  });

  test.each([
    ["page tables outside the guest's memory", { GUEST_CR3: 0x7000_0000n }],
    ["a table of theirs outside the guest's memory", { GUEST_CR3: 0x1_3000n }],
    ["page tables that do not map the IDT", { GUEST_IDTR_BASE: 0xffff_fe00_0000_0000n }],
  ])("%s: of another guest, and so are the others", async (_, fields) => {
    const { told, uses, vcpus } = await extracted(kvm([vmcs(1, fields), vmcs(2), INFO]));
    expect(told("VMN003")).toMatch(/^the notes of 1 vCPU \(1\) do not fit this guest/);
    expect(uses).toEqual({ 1: "refused", 2: "refused" });
    expect(vcpus.map(({ trust }) => trust)).toEqual(["current", "may-be-stale", "may-be-stale"]);
  });

  test("of a vCPU that the machine does not have", async () => {
    const { told, uses, vcpus } = await extracted(kvm([vmcs(1), vmcs(9005), INFO]));
    expect(told("VMN003")).toMatch(/^this machine has no vCPU 9005: /);
    expect(uses).toEqual({ 1: "over-stale", 9005: "refused" });
    expect(vcpus).toHaveLength(3);
  });

  test("the task register of another vCPU", async () => {
    const fields = { GUEST_TR_BASE: longMode(0).segments.tr.base };
    const { told, uses } = await extracted(kvm([vmcs(1, fields), INFO]));
    expect(told("VMN003")).toContain("task register");
    expect(uses).toEqual({ 1: "over-stale" });
  });

  test("a guest that ran under TCG", async () => {
    const { vcpus, uses, codes } = await extracted(kvm([vmcs(0), vmcs(9), INFO], { accel: "tcg" }));
    expect(vcpus.map(({ trust }) => trust)).toEqual(["current", "current", "current"]);
    expect(uses).toEqual({ 0: "not-needed", 9: "refused" });
    expect(codes).toEqual(["VMN003"]);
  });

  test("CR3 is the hypervisor's where EPT is off: QEMU's copy stays", async () => {
    const secondary = { SECONDARY_VM_EXEC_CONTROL: 0xe8n };
    const { vcpus, codes } = await extracted(
      kvm([vmcs(1, { ...secondary, GUEST_CR3: 0x7000_0000n }), vmcs(2), INFO]),
    );
    expect(vcpus[1]!.state.cr3).toBe(longMode(1).cr3);
    expect(vcpus[1]!.sources!.cr3).toBe("QEMU CPUX86State, stale");
    expect(codes).toEqual(["REG001"]);
  });
});

describe("VMCB notes", () => {
  const page = (vcpu: number) =>
    vmcbPage(
      haltedVcpu({
        cr3: 0x1_0000,
        segments: {
          idtr: { base: IDT, limit: 0xfff },
          tr: { selector: 0x40, attrib: 0x8b, limit: 0x67, base: IDT + 0x1000n * BigInt(vcpu) },
        },
      }),
    );
  const vmcb = (vcpu: number, bytes = page(vcpu)) => note("VMCB", 0, regionNote({ vcpu, bytes }));

  test("need no VMCSINFO, and hold RAX, CR2 and KERNEL_GS_BASE too", async () => {
    const { vcpus, uses, codes, told } = await extracted(kvm([vmcb(1), vmcb(2)]));
    expect(uses).toEqual({ 1: "over-stale", 2: "over-stale" });
    expect(vcpus[1]).toMatchObject({
      halted: true,
      state: { rax: 0xffff_ffff_8111_1111n, cr2: 0x7f12_3456_7890n, rbx: longMode(1).rbx, cr3: CR3 },
      sources: {
        rax: "VMCB note rax",
        kernelGsBase: "VMCB note kernel_gs_base",
        rbx: "QEMU CPUX86State, stale",
      },
    });
    expect(codes).toEqual(["REG001"]);
    expect(told("REG001")).toMatch(/^rbx, rcx, rdx, rsi, rdi, rbp, r8-r15 of 2 vCPUs/);
  });

  test("that are none are refused", async () => {
    const { uses, told } = await extracted(kvm([vmcb(1, Buffer.alloc(4096, 3))]));
    expect(uses).toEqual({ 1: "refused" });
    expect(told("VMN001")).toMatch(/it does not look like a VMCB$/);
  });
});

test("vCPUs that are known by their shape alone give way to notes", () => {
  const of = (index: number, trust: Vcpu["trust"]): Vcpu => ({
    index,
    state: { ...longMode(index), efer: 0xd01n } as unknown as Vcpu["state"],
    source: "",
    trust,
    halted: undefined,
  });
  const found = [0, 1, 2].map((index) => of(index, "may-be-stale"));
  const { vcpus, uses } = withNotes(found, [of(0, "current")], true);
  expect(vcpus.map(({ index, trust }) => [index, trust])).toEqual([[0, "current"]]);
  expect([...uses]).toEqual([[0, "alone"]]);
  expect(withNotes(found, [], true).vcpus).toEqual(found);
});

const COUNT = Number(process.env.GUESTCORE_MUTANTS ?? 60);
const SEED = Number(process.env.GUESTCORE_SEED ?? 20261125);

test(`${COUNT} mutants of the notes, seed ${SEED}`, { timeout: 120_000 }, async () => {
  const outcomes = { used: 0, refused: 0, error: 0 };
  for (let i = 0; i < COUNT; i++) {
    const chance = random(Math.imul(SEED, i + 1));
    const damaged = [vmcs(1), vmcs(2), INFO].map((bytes) => {
      const copy = Buffer.from(bytes);
      // Behind the note's own header, which parseNotes answers for.
      for (let n = chance.below(4); n > 0; n--) copy[20 + chance.below(copy.length - 20)] = chance.below(256);
      return copy;
    });
    try {
      const { uses, input } = await extracted(kvm(damaged), {}, true);
      rmSync(input);
      outcomes[Object.values(uses).includes("over-stale") ? "used" : "refused"]++;
    } catch (error) {
      if (!(error instanceof GuestcoreError)) throw new Error(`#${i}`, { cause: error });
      outcomes.error++;
    }
  }
  expect(outcomes.used).toBeGreaterThan(0);
  expect(outcomes.error).toBe(0);
});
