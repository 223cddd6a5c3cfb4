import { describe, expect, test } from "vitest";
import type { LinuxKernel } from "../src/kernel/open-kernel.ts";
import { knownVmcs } from "../src/kvm/known-vmcs.ts";
import type { KvmVcpu } from "../src/kvm/vcpus.ts";
import { type MemberRow, symbolsOf, typesOf } from "./support/kernel-tables.ts";
import { readerOf } from "./support/synth-kernel.ts";

/** An imaginary kernel: one vCPU's structures, per-CPU offsets and variables on a few pages. */
const VMX = 0xffff_8880_0010_0000n;
const MMU = VMX + 0x800n;
const VARIABLES = VMX + 0x1000n;
const REGION = VMX + 0x2000n;
/** In `readerOf` the lowest page is at 0. */
const physical = (virtual: bigint): bigint => virtual - VMX;

const MEMBERS: Readonly<Record<string, MemberRow>> = {
  "vcpu_vmx.vcpu": [0, 0x400],
  "kvm_vcpu.guest_debug": [0x28, 4],
  "kvm_vcpu.arch.regs": [0x40, 8, 17],
  "kvm_vcpu.arch.regs_avail": [0xd0, 4],
  "kvm_vcpu.arch.regs_dirty": [0xd4, 4],
  "kvm_vcpu.arch.cr0": 0xd8,
  "kvm_vcpu.arch.cr0_guest_owned_bits": 0xe0,
  "kvm_vcpu.arch.cr3": 0xe8,
  "kvm_vcpu.arch.mp_state": [0xf0, 4],
  "kvm_vcpu.arch.mmu": 0xf8,
  "kvm_vcpu.arch.root_mmu": [0x100, 0x40],
  "kvm_mmu.root.hpa": 0x10,
  "kvm_mmu.root_role": [0x18, 4],
  "vcpu_vmx.exit_reason": [0x400, 4],
  "vcpu_vmx.vpid": [0x404, 4],
  "vcpu_vmx.rmode.vm86_active": [0x408, 4],
  "vcpu_vmx.vmcs01": [0x480, 0x80],
  "vcpu_vmx.loaded_vmcs": 0x410,
  "vcpu_vmx.pml_pg": 0x418,
  "vcpu_vmx.msr_autoload.host.val": [0x440, 16],
  "loaded_vmcs.cpu": [0x10, 4],
  "loaded_vmcs.host_state.cr3": 0x18,
  "loaded_vmcs.host_state.rsp": 0x20,
  "loaded_vmcs.host_state.fs_sel": [0x28, 2],
  "loaded_vmcs.controls_shadow.exec": [0x30, 4],
  "loaded_vmcs.controls_shadow.secondary_exec": [0x34, 4],
  "cpu_entry_area.gdt": [0, 1, 4096],
  "cpu_entry_area.entry_stack_page.stack": [0x1000, 0x1000],
  "cpu_entry_area.tss.x86_tss": [0x2040, 0x68],
};
const SIZES = { cpu_entry_area: 0x3b000, entry_stack: 0x1000, page: 64 };
const CONSTANTS = { VCPU_EXREG_CR3: 19n };

interface Poke {
  readonly at: number;
  readonly value: bigint;
  readonly size?: 2 | 4;
}

function known(pokes: readonly Poke[], symbols: Readonly<Record<string, bigint>> = {}) {
  const bytes = Buffer.alloc(0x3000);
  const put = ({ at, value, size }: Poke) => {
    if (size === 2) bytes.writeUInt16LE(Number(value), at);
    else if (size === 4) bytes.writeUInt32LE(Number(value), at);
    else bytes.writeBigUInt64LE(value, at);
  };
  for (const poke of [...ENTERED, ...pokes]) put(poke);
  const kernel = {
    reader: readerOf({ at: VMX, bytes }),
    types: typesOf(MEMBERS, SIZES, CONSTANTS),
    symbols: symbolsOf(symbols),
  } as unknown as LinuxKernel;
  const vcpu = { address: VMX, controlBlock: Number(physical(REGION)) } as KvmVcpu;
  const region = knownVmcs(kernel, vcpu);
  return (name: string) => region?.known.get(name);
}

/** Loaded, entered once, with EPT. */
const ENTERED: readonly Poke[] = [
  { at: 0x410, value: VMX + 0x480n },
  { at: 0x4a0, value: 0xffff_c900_0012_3000n },
  { at: 0x4b0, value: 0x8000_0000n, size: 4 },
  { at: 0x4b4, value: 0x82n, size: 4 },
  { at: 0xf8, value: MMU },
  { at: 0x810, value: 0x1234_5000n },
  { at: 0x818, value: 0x1_0004n, size: 4 },
];

describe("controls and addresses", () => {
  test("the EPT pointer, but for accessed and dirty bits", () => {
    const eptp = known([])("EPT_POINTER");
    expect(eptp).toMatchObject({ value: 0x1234_501en, trust: "written" });
    expect(eptp!.mask! & 0x40n).toBe(0n);
    expect(known([{ at: 0x818, value: 5n, size: 4 }])("EPT_POINTER")?.value).toBe(0x1234_5026n);
  });

  test("no EPT pointer without EPT, without tables, or of a guest's guest", () => {
    expect(known([{ at: 0x4b4, value: 0x80n, size: 4 }])("EPT_POINTER")).toBeUndefined();
    expect(known([{ at: 0x810, value: (1n << 64n) - 1n }])("EPT_POINTER")).toBeUndefined();
    expect(known([{ at: 0x410, value: VMX + 0x700n }])("EPT_POINTER")).toBeUndefined();
  });

  test("structures within vcpu_vmx, by the kernel's page tables", () => {
    expect(known([])("VM_EXIT_MSR_LOAD_ADDR")?.value).toBe(0x440n);
  });

  test("the page that logs modifications, by its struct page", () => {
    const base = 0xffff_ea00_0000_0000n;
    const pokes = [
      { at: 0x1010, value: base },
      { at: 0x418, value: base + 64n * 0x777n },
    ];
    expect(known(pokes, { vmemmap_base: VARIABLES + 0x10n })("PML_ADDRESS")?.value).toBe(0x77_7000n);
    const odd = [pokes[0]!, { at: 0x418, value: base + 3n }];
    expect(known(odd, { vmemmap_base: VARIABLES + 0x10n })("PML_ADDRESS")).toBeUndefined();
  });

  test("0 is no VPID, and secondary controls that are off are not there", () => {
    expect(known([])("VIRTUAL_PROCESSOR_ID")).toBeUndefined();
    expect(known([{ at: 0x404, value: 7n, size: 4 }])("VIRTUAL_PROCESSOR_ID")?.value).toBe(7n);
    expect(known([{ at: 0x4b0, value: 0n, size: 4 }])("SECONDARY_VM_EXEC_CONTROL")).toBeUndefined();
  });
});

describe("host state", () => {
  test("what a processor has in its cpu_entry_area, in order or where it was drawn", () => {
    const cpu = { at: 0x490, value: 2n, size: 4 } as const;
    const area = 0xffff_fe00_0000_1000n;
    expect(known([cpu])("HOST_GDTR_BASE")?.value).toBe(area + 2n * 0x3b000n);
    expect(known([cpu])("HOST_TR_BASE")?.value).toBe(area + 2n * 0x3b000n + 0x2040n);
    expect(known([cpu])("HOST_IA32_SYSENTER_ESP")?.value).toBe(area + 2n * 0x3b000n + 0x2000n);
    const drawn = known(
      [cpu, { at: 0x1030, value: 0x1000n }, { at: 0x1000 + 0x1000 + 0x20, value: 9n, size: 4 }],
      { __per_cpu_offset: VARIABLES + 0x20n, _cea_offset: VARIABLES + 0x20n },
    );
    expect(drawn("HOST_GDTR_BASE")?.value).toBe(area + 9n * 0x3b000n);
    const nowhere = { at: 0x490, value: 0xffff_ffffn, size: 4 } as const;
    expect(known([nowhere])("HOST_GDTR_BASE")).toBeUndefined();
  });

  test("a selector that VM entry does not allow is 0 in the VMCS", () => {
    expect(known([{ at: 0x4a8, value: 0x38n, size: 2 }])("HOST_FS_SELECTOR")?.value).toBe(0x38n);
    expect(known([{ at: 0x4a8, value: 0x3bn, size: 2 }])("HOST_FS_SELECTOR")?.value).toBe(0n);
  });
});

describe("guest state", () => {
  const rip = { at: 0x40 + 8 * 16, value: 0xffff_ffff_8123_4567n };

  test("RIP that is cached, older, newer, and of a halted vCPU", () => {
    const bit = 0x1_0000n;
    const cached = { at: 0xd0, value: bit, size: 4 } as const;
    const dirty = { at: 0xd4, value: bit, size: 4 } as const;
    expect(known([rip, cached])("GUEST_RIP")).toMatchObject({ value: rip.value, trust: "written" });
    expect(known([rip])("GUEST_RIP")).toMatchObject({ trust: "stale" });
    expect(known([rip, cached, dirty])("GUEST_RIP")).toMatchObject({ trust: "stale", below: 15n });
    const halted = [
      { at: 0x400, value: 12n, size: 4 },
      { at: 0xf0, value: 3n, size: 4 },
    ] as const;
    expect(known([rip, cached, dirty, ...halted])("GUEST_RIP")).toMatchObject({
      trust: "derived",
      below: 15n,
    });
  });

  test("nothing of registers before the first entry", () => {
    const never = { at: 0x4a0, value: 0n };
    expect(known([rip, never])("GUEST_RIP")).toBeUndefined();
    expect(known([rip, never])("GUEST_RSP")).toBeUndefined();
  });

  test("CR3 where the guest's is in the VMCS, CR0 but for bits that the guest owns", () => {
    const cr3 = { at: 0xe8, value: 0x7_7000n };
    const cached = { at: 0xd0, value: 1n << 19n, size: 4 } as const;
    expect(known([cr3, cached])("GUEST_CR3")).toMatchObject({ value: 0x7_7000n, trust: "written" });
    expect(known([cr3, cached, { at: 0x4b4, value: 0n, size: 4 }])("GUEST_CR3")).toBeUndefined();
    const cr0 = [
      { at: 0xd8, value: 0xe000_0011n },
      { at: 0xe0, value: 8n },
    ];
    const held = known(cr0)("GUEST_CR0");
    expect(held).toMatchObject({ value: 0x8000_0031n, trust: "derived" });
    expect(held!.mask! & 8n).toBe(0n);
    expect(known(cr0)("CR0_GUEST_HOST_MASK")?.value).toBe((1n << 64n) - 1n - 8n);
  });
});

test("a kernel that does not describe vCPUs of Intel's, or a VMCS that is not in the dump", () => {
  const reader = readerOf({ at: VMX, bytes: Buffer.alloc(0x1000) });
  const symbols = symbolsOf({});
  const vcpu = { address: VMX, controlBlock: Number(physical(REGION)) } as KvmVcpu;
  const described = { reader, symbols, types: typesOf(MEMBERS) } as unknown as LinuxKernel;
  const foreign = { reader, symbols, types: typesOf({}) } as unknown as LinuxKernel;
  expect(knownVmcs(described, vcpu)).toBeUndefined();
  expect(knownVmcs(foreign, vcpu)).toBeUndefined();
});
