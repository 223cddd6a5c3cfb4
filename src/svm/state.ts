import type { Segment, SegmentRegister, TableRegister, X86State } from "../x86/state.ts";
import { EFER_SVME } from "./bits.ts";
import { exitCodeName, isEntryFailure, stopsBeforeInstruction } from "./exit-codes.ts";
import type { VmcbFieldName } from "./fields.ts";
import { fieldNumber, fieldValue, type Vmcb } from "./vmcb.ts";

/** Registers as a VMCB holds them. */
export interface VmcbState {
  readonly state: X86State;
  /** Register → field of the VMCB. A register that is not here is not in a VMCB. */
  readonly sources: Readonly<Record<string, VmcbFieldName>>;
  /** What may make a register differ from the guest's own, a sentence each. */
  readonly caveats: readonly string[];
}

const SOURCES = {
  rax: "rax",
  rsp: "rsp",
  rip: "rip",
  rflags: "rflags",
  cr0: "cr0",
  cr2: "cr2",
  cr3: "cr3",
  cr4: "cr4",
  efer: "efer",
  kernelGsBase: "kernel_gs_base",
} as const satisfies Record<string, VmcbFieldName>;

const SEGMENTS: Readonly<Record<SegmentRegister, Stored>> = {
  es: "es",
  cs: "cs",
  ss: "ss",
  ds: "ds",
  fs: "fs",
  gs: "gs",
  ldt: "ldtr",
  tr: "tr",
};
type Stored = "es" | "cs" | "ss" | "ds" | "fs" | "gs" | "ldtr" | "tr";

const SEGMENT_SOURCES = Object.fromEntries(
  Object.entries(SEGMENTS).map(([register, stored]) => [register, `${stored}.selector`] as const),
);

/**
 * Registers of the guest, or of the host where the page is a host save area. EFER comes without SVME, which every VMCB
 * has set whatever the guest's own EFER says. CPL stands in for the DPL of SS, which the processor does not keep in
 * step (APM Vol. 2 §15.5.1).
 * @returns undefined for an SEV-ES guest: its registers are in the VMSA, encrypted
 */
export function stateOf(vmcb: Vmcb): VmcbState | undefined {
  if (vmcb.hostState && !vmcb.controlUnused) return undefined;
  const value = (name: VmcbFieldName) => fieldValue(vmcb, name);
  const saved = hasVmsaveState(vmcb);
  const state: X86State = {
    rax: value("rax"),
    rbx: undefined,
    rcx: undefined,
    rdx: undefined,
    rsi: undefined,
    rdi: undefined,
    rsp: value("rsp"),
    rbp: undefined,
    r8: undefined,
    r9: undefined,
    r10: undefined,
    r11: undefined,
    r12: undefined,
    r13: undefined,
    r14: undefined,
    r15: undefined,
    rip: value("rip"),
    rflags: value("rflags"),
    segments: segmentsOf(vmcb),
    gdt: tableOf(vmcb, "gdtr"),
    idt: tableOf(vmcb, "idtr"),
    cr0: value("cr0"),
    cr2: value("cr2"),
    cr3: value("cr3"),
    cr4: value("cr4"),
    efer: value("efer") & ~EFER_SVME,
    kernelGsBase: saved ? value("kernel_gs_base") : undefined,
  };
  const sources: Record<string, VmcbFieldName> = {
    ...SOURCES,
    ...SEGMENT_SOURCES,
    gdt: "gdtr.base",
    idt: "idtr.base",
  };
  if (!saved) for (const register of VMSAVED) delete sources[register];
  return { state, sources, caveats: caveatsOf(vmcb, saved) };
}

/** What only VMSAVE writes (APM Vol. 2 §15.5.2), of what `X86State` has. */
const VMSAVED = ["fs", "gs", "ldt", "tr", "kernelGsBase"] as const;

/** Whether VMSAVE ever wrote to the page: no processor has a TR and an LDTR without a type. */
export const hasVmsaveState = (vmcb: Vmcb): boolean =>
  (fieldNumber(vmcb, "tr.attrib") | fieldNumber(vmcb, "ldtr.attrib")) !== 0;

function caveatsOf(vmcb: Vmcb, saved: boolean): string[] {
  const code = fieldValue(vmcb, "exit_code");
  const caveats: string[] = [];
  if (vmcb.controlUnused) return caveats;
  if (isEntryFailure(code)) caveats.push("VMRUN refused this state; the guest did not run with it");
  if (stopsBeforeInstruction(code)) {
    caveats.push(
      `RIP is that of the instruction which caused ${exitCodeName(code)}; KVM may have carried it out since and keeps the RIP behind it in kvm_vcpu.arch.regs`,
    );
  }
  if (!saved) {
    caveats.push(
      "FS, GS, LDTR, TR, KernelGsBase and the SYSCALL registers are missing: no VMSAVE went to this VMCB (KVM keeps them for a nested guest in the vCPU's first VMCB)",
    );
  }
  return caveats;
}

function segmentsOf(vmcb: Vmcb): X86State["segments"] {
  const entries = Object.entries(SEGMENTS).map(([register, stored]) => [register, segmentOf(vmcb, stored)]);
  return Object.fromEntries(entries) as Record<SegmentRegister, Segment>;
}

const DPL = 0x60;

/** Bits 11:0 of an attribute word are bits 55:52 and 47:40 of the descriptor (APM Vol. 2 §15.5.1). */
function segmentOf(vmcb: Vmcb, stored: Stored): Segment {
  const attrib = fieldNumber(vmcb, `${stored}.attrib`);
  const access = stored === "ss" ? (attrib & ~DPL) | ((fieldNumber(vmcb, "cpl") & 3) << 5) : attrib;
  return {
    selector: fieldNumber(vmcb, `${stored}.selector`),
    base: fieldValue(vmcb, `${stored}.base`),
    limit: fieldNumber(vmcb, `${stored}.limit`),
    flags: ((access & 0xff) << 8) | ((access & 0xf00) << 12),
  };
}

const tableOf = (vmcb: Vmcb, stored: "gdtr" | "idtr"): TableRegister => ({
  base: fieldValue(vmcb, `${stored}.base`),
  limit: fieldNumber(vmcb, `${stored}.limit`),
});
