import { describe, expect, test } from "vitest";
import { isDamage } from "../src/core/warnings.ts";
import type { Cluster, Clustered, ControlBlock } from "../src/guest/cluster.ts";
import type { Vcpu } from "../src/guest/guest.ts";
import { classify } from "../src/guest/host-guest.ts";
import { guestsOfKvm } from "../src/guest/kvm-guests.ts";
import { OWN_CR3, vcpuOfKvm, withKvmState } from "../src/guest/kvm-state.ts";
import { structureWarnings } from "../src/jobs/extract-host.ts";
import { regionsOf } from "../src/jobs/vcpu-notes-write.ts";
import type { KvmRegisters } from "../src/kvm/registers.ts";
import type { KvmVcpu } from "../src/kvm/vcpus.ts";
import type { KvmVm, KvmVms } from "../src/kvm/vms.ts";
import { EPT_FOUR_LEVEL } from "../src/x86/paging-shapes.ts";
import { ENCODED_REGISTERS, type GeneralRegister } from "../src/x86/state.ts";

const REGISTERS: KvmRegisters = {
  general: Object.fromEntries(ENCODED_REGISTERS.map((name, i) => [name, 0x1000n + BigInt(i)])) as Record<
    GeneralRegister,
    bigint
  >,
  rip: 0xf0f0n,
  newer: { rsp: false, rip: false, cr3: false },
  cached: { rsp: true, rip: true },
  cr0: 0x8005_0033n,
  cr2: 0x22n,
  cr3: 0x33_0000n,
  cr4: 0x44n,
  cr8: 8n,
  efer: 0xd01n,
  xcr0: 7n,
  debug: [1n, 2n, 3n, 4n, 6n, 7n],
};

const vcpu = (index: number, controlBlock: number | undefined, more: Partial<KvmVcpu> = {}): KvmVcpu => ({
  address: 0xffff_8880_0000_0000n + BigInt(index),
  index,
  id: index,
  cpu: 0,
  inGuest: false,
  inNested: false,
  mpState: 0,
  thread: 100 + index,
  controlBlock,
  registers: REGISTERS,
  msrs: {},
  kernelGsBase: undefined,
  fpu: "unknown",
  ...more,
});

const vm = (vcpus: readonly KvmVcpu[], problems: readonly string[] = []): KvmVm => ({
  address: 0xffff_c900_0000_0000n,
  mm: 1n,
  owner: undefined,
  slots: [],
  vcpus,
  problems,
});

const ROOT = { address: 0x9000, shape: EPT_FOUR_LEVEL };
const block = (address: number, root: ControlBlock["root"] = ROOT): ControlBlock => ({
  ...{ address, root, process: undefined, owner: undefined, order: undefined, clock: undefined },
  runsGuests: false,
  odd: undefined,
});

const member = (address: number, role: Clustered<ControlBlock>["role"] = "vcpu") => ({
  block: block(address),
  role,
  reason: undefined,
});
const cluster = (...members: Clustered<ControlBlock>[]): Cluster<ControlBlock> => ({ root: ROOT, members });

/** What became of each block, by address. */
const places = (
  vms: KvmVms,
  clusters: readonly Cluster<ControlBlock>[],
  others: readonly Clustered<ControlBlock>[] = [],
) => {
  const found = guestsOfKvm(vms, clusters, others);
  return classify(found.guests, found.others).map(({ block: { address }, role, guest, vcpu }) => [
    address,
    role,
    ...(guest === undefined ? [] : [guest]),
    ...(vcpu === undefined ? [] : [vcpu]),
  ]);
};

describe("guests as KVM lists them", () => {
  const whole = (...vms: KvmVm[]): KvmVms => ({ vms, problem: undefined });

  test("each vCPU with its control block, numbered in KVM's order", () => {
    const vms = whole(vm([vcpu(0, 0x3000)]), vm([vcpu(0, 0x2000), vcpu(1, 0x1000)]));
    const clusters = [cluster(member(0x1000), member(0x2000)), cluster(member(0x3000))];
    expect(places(vms, clusters)).toEqual([
      [0x1000, "vcpu", 2, 1],
      [0x2000, "vcpu", 2, 0],
      [0x3000, "vcpu", 1, 0],
    ]);
  });

  test("a vCPU whose block was not found is one all the same", () => {
    const { guests } = guestsOfKvm(whole(vm([vcpu(0, undefined), vcpu(1, 0x7000)])), [], []);
    expect(guests).toMatchObject([
      {
        id: 1,
        root: undefined,
        vcpus: [
          { index: 0, block: undefined },
          { index: 1, block: undefined },
        ],
      },
    ]);
  });

  test("the root is that of the first vCPU that has one", () => {
    const never = { ...member(0x1000), block: { ...block(0x1000), root: undefined } };
    const vms = whole(vm([vcpu(0, 0x1000), vcpu(1, 0x2000)]));
    expect(guestsOfKvm(vms, [cluster(never, member(0x2000))], []).guests[0]!.root).toBe(ROOT);
  });

  test("blocks of no VM are left over where the list is whole, and guests where it is not", () => {
    const clusters = [cluster(member(0x1000)), cluster(member(0x5000), member(0x6000, "nested"))];
    expect(places(whole(vm([vcpu(0, 0x1000)])), clusters)).toEqual([
      [0x1000, "vcpu", 1, 0],
      [0x5000, "foreign"],
      [0x6000, "foreign"],
    ]);
    const guests = [
      [0x1000, "vcpu", 1, 0],
      [0x5000, "vcpu", 2, 0],
      [0x6000, "nested", 2],
    ];
    expect(places({ vms: [vm([vcpu(0, 0x1000)])], problem: "vm_list is cut" }, clusters)).toEqual(guests);
    expect(places(whole(vm([vcpu(0, 0x1000)], ["a vCPU cannot be read"])), clusters)).toEqual(guests);
  });

  test("a VM's further blocks are copies and nested guests; where it is not all read, vCPUs", () => {
    const clusters = [cluster(member(0x1000), member(0x2000), member(0x3000, "nested"))];
    expect(places(whole(vm([vcpu(0, 0x1000)])), clusters)).toEqual([
      [0x1000, "vcpu", 1, 0],
      [0x2000, "copy", 1],
      [0x3000, "nested", 1],
    ]);
    const damaged = whole(vm([vcpu(3, 0x1000)], ["the vCPU at 0x10 cannot be read"]));
    expect(places(damaged, clusters)).toEqual([
      [0x1000, "vcpu", 1, 3],
      [0x2000, "vcpu", 1, 4],
      [0x3000, "nested", 1],
    ]);
    expect(guestsOfKvm(damaged, clusters, []).guests[0]!.vcpus[1]!.reason).toMatch(/could be read/);
  });

  test("VMs whose blocks were taken for one VM's each have their own, and no block twice", () => {
    const vms = whole(vm([vcpu(0, 0x1000)]), vm([vcpu(0, 0x2000)]));
    const clusters = [cluster(member(0x1000), member(0x2000), member(0x3000))];
    expect(places(vms, clusters, [member(0x9000, "foreign")])).toEqual([
      [0x1000, "vcpu", 1, 0],
      [0x2000, "vcpu", 2, 0],
      [0x3000, "copy", 1],
      [0x9000, "foreign"],
    ]);
  });
});

describe("registers with those that KVM keeps", () => {
  const NONE = { selector: 0, base: 0n, limit: 0, flags: 0 };
  const held: Vcpu = {
    index: 0,
    state: {
      ...Object.fromEntries(ENCODED_REGISTERS.map((name) => [name, undefined])),
      ...{ rsp: 0xa000n, rip: 0xb000n, rflags: 2n, cr0: 0x33n, cr2: undefined, cr3: 0xc000n, cr4: 0x20n },
      ...{ efer: 0x500n, kernelGsBase: undefined, gdt: { base: 0n, limit: 0 }, idt: { base: 0n, limit: 0 } },
      segments: { es: NONE, cs: NONE, ss: NONE, ds: NONE, fs: NONE, gs: NONE, ldt: NONE, tr: NONE },
    } as Vcpu["state"],
    source: "VMCS at 0x1000",
    trust: "current",
    halted: false,
    sources: { rsp: "VMCS GUEST_RSP", rip: "VMCS GUEST_RIP", cr3: "VMCS GUEST_CR3" },
    caveats: ["RIP may be that of the HLT", "EFER is a guess", "a segment is odd"],
  };
  const withRegisters = (change: Partial<KvmRegisters>, more: Partial<KvmVcpu> = {}) =>
    vcpu(0, 0x1000, { registers: { ...REGISTERS, ...change }, ...more });

  test("general registers, CR2 and EFER are KVM's; the rest is the block's", () => {
    const { state, sources, caveats, system } = withKvmState(held, withRegisters({}));
    expect(state).toMatchObject({ rax: 0x1000n, r15: 0x100fn, rsp: 0xa000n, rip: 0xb000n, cr3: 0xc000n });
    expect(state).toMatchObject({ cr0: 0x33n, cr2: 0x22n, efer: 0xd01n });
    expect(sources?.rax).toBe("kvm_vcpu.arch.regs at 0xffff888000000000");
    expect(sources?.rsp).toBe("VMCS GUEST_RSP");
    expect(caveats).toEqual(["RIP may be that of the HLT", "a segment is odd"]);
    expect(system).toMatchObject({ cr8: 8n, xcr0: 7n, dr0: 1n, dr3: 4n, dr6: 6n, dr7: 7n });
  });

  test("what KVM has not written back is newer", () => {
    const newer = { rsp: true, rip: true, cr3: true };
    const { state, caveats } = withKvmState(held, withRegisters({ newer }));
    expect(state).toMatchObject({ rsp: 0x1004n, rip: 0xf0f0n, cr3: 0x33_0000n });
    expect(caveats).toEqual(["a segment is odd"]);
  });

  test("CR3 of a block that holds the hypervisor's", () => {
    const { cr3: _, ...sources } = held.sources!;
    const shadow = { ...held, sources, caveats: [OWN_CR3] };
    expect(withKvmState(shadow, withRegisters({}))).toMatchObject({
      state: { cr3: 0x33_0000n },
      caveats: [],
    });
    const unknown = withKvmState(shadow, withRegisters({ cr3: undefined }));
    expect(unknown).toMatchObject({ state: { cr3: 0xc000n }, caveats: [OWN_CR3] });
  });

  test("a caveat stays where KVM's copy is not known", () => {
    const { state, caveats } = withKvmState(held, withRegisters({ efer: undefined, cr2: undefined }));
    expect(state).toMatchObject({ efer: 0x500n, cr2: undefined });
    expect(caveats).toContain("EFER is a guess");
    expect(withKvmState(held, vcpu(0, 0x1000, { registers: undefined }))).toBe(held);
  });

  test("KERNEL_GS_BASE with a word on its age", () => {
    const fresh = withKvmState(held, withRegisters({}, { kernelGsBase: { value: 5n, stale: false } }));
    expect(fresh.state.kernelGsBase).toBe(5n);
    expect(fresh.caveats!.join()).not.toMatch(/GS_BASE/);
    const stale = withKvmState(held, withRegisters({}, { kernelGsBase: { value: 5n, stale: true } }));
    expect(stale.caveats!.join()).toMatch(/KERNEL_GS_BASE is of the time when the vCPU was loaded/);
  });

  test("of a vCPU that ran a guest of its own KVM keeps that one's: nothing is taken", () => {
    const kernelGsBase = { value: 5n, stale: false };
    const newer = { rsp: true, rip: true, cr3: true };
    const nested = withRegisters({ newer }, { inNested: true, kernelGsBase, msrs: { lstar: 1n } });
    const { state, sources, caveats, system } = withKvmState(held, nested);
    expect({ state, sources, system }).toEqual({
      state: held.state,
      sources: held.sources,
      system: undefined,
    });
    expect(caveats).toEqual([...held.caveats!, expect.stringMatching(/^the vCPU ran a guest of its own/)]);
    expect(vcpuOfKvm(0, nested, "current")).toBeUndefined();
  });

  test("a note of such a vCPU carries none either", () => {
    const regions = (kvm: KvmVcpu) => {
      const candidate = { bytes: Buffer.alloc(4096) };
      const block = { arch: "svm", address: 0x1000, candidate };
      const guest = { vcpus: [{ index: 0, block, kvm }] } as unknown as Parameters<typeof regionsOf>[1];
      return regionsOf({ kdump: true }, guest).notes;
    };
    expect(regions(withRegisters({}))[0]).toMatchObject({ kept: { registers: { rip: 0xf0f0n } } });
    expect(regions(withRegisters({}, { inNested: true }))[0]).not.toHaveProperty("kept");
  });

  test("a vCPU that only KVM tells of", () => {
    const found = vcpuOfKvm(2, withRegisters({}, { mpState: 3 }), "current")!;
    expect(found).toMatchObject({ index: 2, halted: true, trust: "current" });
    expect(found.state).toMatchObject({ rip: 0xf0f0n, rsp: 0x1004n, cr0: 0x8005_0033n, cr3: 0x33_0000n });
    expect(found.caveats!.join()).toMatch(/segments, descriptor tables and RFLAGS are unknown/);
    expect(vcpuOfKvm(0, vcpu(0, 0x1000, { registers: undefined }), "current")).toBeUndefined();
  });
});

test("a VM that could not be read whole is damage, and --strict does not let it pass", () => {
  expect(structureWarnings(undefined)).toEqual([]);
  expect(structureWarnings({ problems: [] })).toEqual([]);
  const [warning, ...others] = structureWarnings({ problems: ["a memslot cannot be read", "a vCPU too"] });
  expect(others).toEqual([]);
  expect(warning).toMatchObject({
    code: "GST010",
    message: expect.stringContaining("a memslot cannot be read; a vCPU too"),
  });
  expect(isDamage(warning!)).toBe(true);
});
