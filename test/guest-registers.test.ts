import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Vcpu } from "../src/guest/guest.ts";
import { withKvmRegisters } from "../src/guest/kvm-registers.ts";
import { withRunningState } from "../src/guest/running.ts";
import { decodeQemuCpuState, encodeQemuCpuState } from "../src/x86/qemu-cpu-state.ts";
import type { X86State } from "../src/x86/state.ts";
import { parseQemuNote } from "./e2e/registers.ts";
import { memoryFrom } from "./synth/memory.ts";
import { stateOf } from "./synth/x86-state.ts";

const CR0 = 0x8005_0033n;
const CR3 = 0x52f_2000n;
const CR4 = 0x31_06f0n;
const RSP = 0xffff_c900_0001_3e98n;
const RIP = 0xffff_ffff_8160_0a0an;
const RAX = 0x1111n;

/** What a VMCB holds: of the general registers RAX and RSP. */
const held: X86State = {
  ...stateOf({ cr0: CR0, cr3: CR3, cr4: CR4 }),
  ...Object.fromEntries(
    "rbx rcx rdx rsi rdi rbp r8 r9 r10 r11 r12 r13 r14 r15".split(" ").map((r) => [r, undefined]),
  ),
  rax: RAX,
  rsp: RSP,
  rip: RIP,
};

const vcpu = (others: Partial<Vcpu> = {}): Vcpu => ({
  index: 0,
  state: held,
  source: "VMCB at 0x1000",
  trust: "may-be-stale",
  halted: true,
  sources: {},
  caveats: ["RIP may be that of the HLT"],
  ...others,
});

/** struct kvm_vcpu_arch as a kernel lays it out: regs[17], regs_avail, regs_dirty, cr0 … cr4_guest_owned_bits. */
function arch(
  others: { dirty?: number; avail?: number; rip?: bigint; cr0?: bigint; cr4?: bigint; rax?: bigint } = {},
) {
  const bytes = Buffer.alloc(192);
  for (let i = 0; i < 16; i++) bytes.writeBigUInt64LE(BigInt(0x1_0000 + i), 8 * i);
  bytes.writeBigUInt64LE(others.rax ?? RAX, 0);
  bytes.writeBigUInt64LE(RSP, 4 * 8);
  bytes.writeBigUInt64LE(others.rip ?? RIP, 16 * 8);
  bytes.writeUInt32LE(others.avail ?? 0xffff_ffff, 136);
  bytes.writeUInt32LE(others.dirty ?? 0, 140);
  bytes.writeBigUInt64LE(others.cr0 ?? CR0, 144);
  bytes.writeBigUInt64LE(0x1_0008n, 152);
  bytes.writeBigUInt64LE(0xcafen, 160);
  bytes.writeBigUInt64LE(0n, 168);
  bytes.writeBigUInt64LE(others.cr4 ?? CR4, 176);
  bytes.writeBigUInt64LE(0x78en, 184);
  return bytes;
}

const hostWith = (...places: readonly (readonly [at: number, bytes: Buffer])[]) => {
  const bytes = Buffer.alloc(0x10_0000, 0x5a);
  for (const [at, own] of places) own.copy(bytes, at);
  return memoryFrom([{ address: 0x100_0000, bytes }]);
};

const svm = [{ index: 0, block: { arch: "svm" } }] as never;
const found = async (...places: readonly (readonly [number, Buffer])[]) =>
  (await withKvmRegisters(hostWith(...places), svm, [vcpu()]))[0]!;

describe("KVM's registers on AMD", () => {
  test("are found by RSP, wherever the structure lies, also across pages", async () => {
    for (const at of [0x2128, 0x3fa8, 0xff_f40 - 0xc00]) {
      const { state, sources } = await found([at, arch()]);
      expect(state).toMatchObject({
        rax: RAX,
        rcx: 0x1_0001n,
        rdx: 0x1_0002n,
        rbx: 0x1_0003n,
        rsp: RSP,
        r15: 0x1_000fn,
      });
      expect(state).toMatchObject({ rip: RIP, cr2: held.cr2 ?? 0xcafen });
      expect(sources?.rbx).toBe(`kvm_vcpu.arch.regs at 0x${(0x100_0000 + at).toString(16)}`);
    }
  });

  test("have RIP where it is newer than the VMCB's, and then no caveat", async () => {
    const { state, caveats } = await found([0x2000, arch({ dirty: 1 << 16, rip: RIP + 1n })]);
    expect(state.rip).toBe(RIP + 1n);
    expect(caveats).toEqual([]);
    expect((await found([0x2000, arch({ rip: RIP + 1n })])).state.rbx).toBeUndefined();
  });

  test("may differ in the control-register bits that the guest changes by itself, and in no others", async () => {
    expect((await found([0x2000, arch({ cr0: CR0 ^ 8n, cr4: CR4 ^ 0x80n })])).state.rbx).toBe(0x1_0003n);
    expect((await found([0x2000, arch({ cr0: CR0 ^ 1n })])).state.rbx).toBeUndefined();
    expect((await found([0x2000, arch({ cr4: CR4 ^ 0x20_0000n })])).state.rbx).toBeUndefined();
  });

  test("are not taken from a place where RAX differs, registers are not saved, or from one of two places", async () => {
    expect((await found([0x2000, arch({ rax: 1n })])).state.rbx).toBeUndefined();
    expect((await found([0x2000, arch({ avail: 0xfff0 })])).state.rbx).toBeUndefined();
    expect((await found([0x2000, arch({ avail: 0xffef, dirty: 1 << 16 })])).state.rbx).toBeUndefined();
    expect((await found([0x2000, arch()], [0x8000, arch()])).state.rbx).toBeUndefined();
    expect((await found()).state.rbx).toBeUndefined();
  });
});

describe("a vCPU that was running when the host was dumped from outside", () => {
  const cpu: X86State = { ...stateOf({ cr0: CR0, cr3: CR3, cr4: CR4 }), rip: 0x52_e65an, rax: 0x77n };

  test("has the registers of the processor it ran on", () => {
    const [running] = withRunningState([vcpu()], [{ state: { ...cpu, cr3: 0x1n } }, { state: cpu }]);
    expect(running).toMatchObject({ trust: "current", halted: false, caveats: [] });
    expect(running!.state).toMatchObject({ rip: 0x52_e65an, rax: 0x77n, efer: held.efer });
    expect(running!.source).toBe("the host's processor 1, which was in the guest; VMCB at 0x1000");
  });

  test("is told by CR3 and by the addresses of its tables, and a current one is left alone", () => {
    const other = { ...cpu, segments: { ...cpu.segments, tr: { ...cpu.segments.tr, base: 0x1234n } } };
    expect(withRunningState([vcpu()], [{ state: other }])).toEqual([vcpu()]);
    const current = vcpu({ trust: "current" });
    expect(withRunningState([current], [{ state: cpu }])).toEqual([current]);
  });
});

describe("vCPUs of one EPT pointer that ran when firmware dumped the host", () => {
  const EPTP = 0x7_701en;
  const controls = (...indexes: number[]) =>
    new Map(indexes.map((index) => [index, { eptp: EPTP, cr0Mask: ~8n, cr4Mask: 0x2000n }]));
  const cpu = (others: Partial<X86State> = {}) => ({
    state: { ...stateOf({ cr0: CR0, cr3: CR3, cr4: CR4 }), rip: 0x52_e65an, rax: 0x77n, ...others },
    inGuest: { eptp: EPTP | 0x40n },
  });
  const of = (index: number, others: Partial<X86State> = {}) =>
    vcpu({ index, state: { ...held, ...others }, source: `VMCS ${index}` });
  const ran = (vcpus: readonly Vcpu[]) => vcpus.map(({ state }) => state.rip === 0x52_e65an);

  test("with one GDT for all of them CR3 and the bits that the guest owns tell, or nothing does", () => {
    const alike = [of(0), of(1, { cr3: 0x9_9000n })];
    expect(ran(withRunningState(alike, [cpu()], controls(0, 1)))).toEqual([true, false]);
    expect(ran(withRunningState(alike, [cpu({ cr0: CR0 ^ 8n })], controls(0, 1)))).toEqual([false, false]);
    expect(ran(withRunningState(alike, [cpu({ cr4: CR4 ^ 0x80n })], controls(0, 1)))).toEqual([false, false]);
    const hypervisors = cpu({ cr0: CR0 ^ 1n, cr4: CR4 ^ 0x2000n });
    expect(ran(withRunningState(alike, [hypervisors], controls(0, 1)))).toEqual([true, false]);
    expect(ran(withRunningState(alike, [cpu({ cr3: 0x1000n })], controls(0, 1)))).toEqual([false, false]);
    expect(ran(withRunningState([of(0), of(1)], [cpu()], controls(0, 1)))).toEqual([false, false]);
  });

  test("one that has no VMCS, or is exact, is none of them", () => {
    expect(ran(withRunningState([of(0)], [cpu()]))).toEqual([false]);
    const exact = { ...of(0), trust: "current" as const };
    expect(ran(withRunningState([exact, of(1)], [cpu()], controls(0, 1)))).toEqual([false, true]);
  });

  test("what the hypervisor owns of CR0 and CR4, and EFER, are the VMCS's", () => {
    const others = { cr0: 0x13n, cr3: 0x1000n, cr4: 0x26a0n, efer: 0n };
    const [one] = withRunningState([of(0)], [cpu(others)], controls(0));
    const cr0 = (CR0 & ~8n) | (0x13n & 8n);
    expect(one!.state).toMatchObject({ cr0, cr3: 0x1000n, cr4: 0x6a0n, efer: held.efer });
    expect(one).toMatchObject({ trust: "partly-stale", halted: false });
  });
});

describe("struct QEMUCPUState", () => {
  const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
  const registers =
    "rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags cr0 cr2 cr3 cr4 kernelGsBase".split(
      " ",
    );

  test("decodes to what was encoded, and as an independent reader has it", () => {
    fc.assert(
      fc.property(fc.array(u64, { minLength: registers.length, maxLength: registers.length }), (values) => {
        const state = {
          ...stateOf({}),
          ...Object.fromEntries(registers.map((name, i) => [name, values[i]!])),
          efer: undefined,
        } as X86State;
        const desc = encodeQemuCpuState(state);
        expect(decodeQemuCpuState(desc)).toEqual(state);
        const read = parseQemuNote(desc).registers;
        expect(read.get("r15")).toBe(state.r15);
        expect(read.get("cr3")).toBe(state.cr3);
        expect(read.get("kernel_gs_base")).toBe(state.kernelGsBase);
        expect(read.get("tr_base")).toBe(state.segments.tr.base);
      }),
    );
  });

  test("of another version, or cut, is none", () => {
    const desc = encodeQemuCpuState(stateOf({}));
    expect(decodeQemuCpuState(desc.subarray(0, 431))).toBeUndefined();
    expect(decodeQemuCpuState(desc.subarray(0, 432))?.kernelGsBase).toBeUndefined();
    desc.writeUInt32LE(2, 0);
    expect(decodeQemuCpuState(desc)).toBeUndefined();
  });
});
