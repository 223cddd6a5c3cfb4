/**
 * VMCS and VMCB dumps as KVM and Xen print them, written from their format strings: `dump_vmcs` of Linux 4.4, 5.13 and
 * 6.16, `vmcs_dump_vcpu` of Xen 4.2 and 4.20, `dump_vmcb` of Linux 6.16, `svm_vmcb_dump` of Xen 4.20.
 */
type Read = (name: string) => bigint;

const h = (value: bigint, digits: number): string => value.toString(16).padStart(digits, "0");
const x64 = (value: bigint): string => `0x${h(value, 16)}`;

const KVM_SEGMENTS = ["CS:  ", "DS:  ", "SS:  ", "ES:  ", "FS:  ", "GS:  "];
const register = (label: string): string => label.replace(/[: ]/g, "");

export type KvmVersion = "4.4" | "5.13" | "6.16";

const kvmSegment = (read: Read, label: string): string => {
  const name = `GUEST_${register(label)}`;
  return `${label} sel=0x${h(read(`${name}_SELECTOR`), 4)}, attr=0x${h(read(`${name}_AR_BYTES`), 5)}, limit=0x${h(read(`${name}_LIMIT`), 8)}, base=${x64(read(`${name}_BASE`))}`;
};
const kvmTable = (read: Read, label: string): string => {
  const name = `GUEST_${register(label)}`;
  return `${label}                           limit=0x${h(read(`${name}_LIMIT`), 8)}, base=${x64(read(`${name}_BASE`))}`;
};

/** MSRs on the list of the VM-entry MSR-load area, as 5.13 and later print them. */
export type Msrs = readonly (readonly [index: number, value: bigint])[];

export function kvmLog(read: Read, version: KvmVersion, msrs: Msrs = []): string[] {
  const old = version === "4.4";
  const pat = (read("VM_ENTRY_CONTROLS") & 0x4000n) !== 0n;
  const efer = (read("VM_ENTRY_CONTROLS") & 0x8000n) !== 0n;
  const lines: string[] = [];
  if (!old) lines.push("VMCS 00000000f971be22, last attempted VM-entry on CPU 3");
  lines.push(
    "*** Guest State ***",
    `CR0: actual=${x64(read("GUEST_CR0"))}, shadow=${x64(read("CR0_READ_SHADOW"))}, gh_mask=${h(read("CR0_GUEST_HOST_MASK"), 16)}`,
    `CR4: actual=${x64(read("GUEST_CR4"))}, shadow=${x64(read("CR4_READ_SHADOW"))}, gh_mask=${h(read("CR4_GUEST_HOST_MASK"), 16)}`,
    `CR3 = ${x64(read("GUEST_CR3"))}`,
  );
  if (!old) {
    lines.push(
      `PDPTR0 = ${x64(read("GUEST_PDPTR0"))}  PDPTR1 = ${x64(read("GUEST_PDPTR1"))}`,
      `PDPTR2 = ${x64(read("GUEST_PDPTR2"))}  PDPTR3 = ${x64(read("GUEST_PDPTR3"))}`,
    );
  }
  lines.push(
    `RSP = ${x64(read("GUEST_RSP"))}  RIP = ${x64(read("GUEST_RIP"))}`,
    `RFLAGS=0x${h(read("GUEST_RFLAGS"), 8)}         DR7 = ${x64(read("GUEST_DR7"))}`,
    `Sysenter RSP=${h(read("GUEST_SYSENTER_ESP"), 16)} CS:RIP=${h(read("GUEST_SYSENTER_CS"), 4)}:${h(read("GUEST_SYSENTER_EIP"), 16)}`,
    ...KVM_SEGMENTS.map((label) => kvmSegment(read, label)),
    kvmTable(read, "GDTR:"),
    kvmSegment(read, "LDTR:"),
    kvmTable(read, "IDTR:"),
    kvmSegment(read, "TR:  "),
  );
  if (old) {
    if (pat || efer) {
      lines.push(`EFER =     ${x64(read("GUEST_IA32_EFER"))}  PAT = ${x64(read("GUEST_IA32_PAT"))}`);
    }
  } else {
    lines.push(efer ? `EFER= ${x64(read("GUEST_IA32_EFER"))}` : `EFER= ${x64(0xd01n)} (effective)`);
    if (pat) lines.push(`PAT = ${x64(read("GUEST_IA32_PAT"))}`);
  }
  lines.push(
    `DebugCtl = ${x64(read("GUEST_IA32_DEBUGCTL"))}  DebugExceptions = ${x64(read("GUEST_PENDING_DBG_EXCEPTIONS"))}`,
    `Interruptibility = ${h(read("GUEST_INTERRUPTIBILITY_INFO"), 8)}  ActivityState = ${h(read("GUEST_ACTIVITY_STATE"), 8)}`,
  );
  if (!old && msrs.length > 0) {
    lines.push("MSR guest autoload:");
    msrs.forEach(([index, value], i) => {
      lines.push(`  ${String(i).padStart(2)}: msr=0x${h(BigInt(index), 8)} value=${x64(value)}`);
    });
  }
  lines.push(
    "*** Host State ***",
    `RIP = ${x64(read("HOST_RIP"))}  RSP = ${x64(read("HOST_RSP"))}`,
    `CS=${h(read("HOST_CS_SELECTOR"), 4)} SS=${h(read("HOST_SS_SELECTOR"), 4)} DS=${h(read("HOST_DS_SELECTOR"), 4)} ES=${h(read("HOST_ES_SELECTOR"), 4)} FS=${h(read("HOST_FS_SELECTOR"), 4)} GS=${h(read("HOST_GS_SELECTOR"), 4)} TR=${h(read("HOST_TR_SELECTOR"), 4)}`,
    ...hostLines(read),
  );
  const [loadsEfer, loadsPat] = [0x20_0000n, 0x8_0000n].map((bit) => (read("VM_EXIT_CONTROLS") & bit) !== 0n);
  if (old && (loadsEfer || loadsPat)) {
    lines.push(`EFER = ${x64(read("HOST_IA32_EFER"))}  PAT = ${x64(read("HOST_IA32_PAT"))}`);
  }
  if (!old && loadsEfer) lines.push(`EFER= ${x64(read("HOST_IA32_EFER"))}`);
  if (!old && loadsPat) lines.push(`PAT = ${x64(read("HOST_IA32_PAT"))}`);
  lines.push("*** Control State ***", ...kvmControls(read, version), ...eventLines(read));
  lines.push(`TSC Offset = ${x64(read("TSC_OFFSET"))}`);
  if ((read("CPU_BASED_VM_EXEC_CONTROL") & 0x20_0000n) !== 0n) {
    lines.push(
      `SVI|RVI = ${h(read("GUEST_INTR_STATUS") >> 8n, 2)}|${h(read("GUEST_INTR_STATUS") & 0xffn, 2)} TPR Threshold = 0x${h(read("TPR_THRESHOLD"), 2)}`,
      `APIC-access addr = ${x64(read("APIC_ACCESS_ADDR"))} virt-APIC addr = ${x64(read("VIRTUAL_APIC_PAGE_ADDR"))}`,
    );
  }
  lines.push(
    `EPT pointer = ${x64(read("EPT_POINTER"))}`,
    `PLE Gap=${h(read("PLE_GAP"), 8)} Window=${h(read("PLE_WINDOW"), 8)}`,
    `Virtual processor ID = 0x${h(read("VIRTUAL_PROCESSOR_ID"), 4)}`,
  );
  return lines;
}

function kvmControls(read: Read, version: KvmVersion): string[] {
  const pin = h(read("PIN_BASED_VM_EXEC_CONTROL"), 8);
  const primary = h(read("CPU_BASED_VM_EXEC_CONTROL"), 8);
  const secondary = h(read("SECONDARY_VM_EXEC_CONTROL"), 8);
  const [entry, exit] = [h(read("VM_ENTRY_CONTROLS"), 8), h(read("VM_EXIT_CONTROLS"), 8)];
  if (version === "6.16") {
    return [
      `CPUBased=0x${primary} SecondaryExec=0x${secondary} TertiaryExec=${x64(read("TERTIARY_VM_EXEC_CONTROL"))}`,
      `PinBased=0x${pin} EntryControls=${entry} ExitControls=${exit}`,
    ];
  }
  return [
    `PinBased=${pin} CPUBased=${primary} SecondaryExec=${secondary}`,
    `EntryControls=${entry} ExitControls=${exit}`,
  ];
}

const hostLines = (read: Read): string[] => [
  `FSBase=${h(read("HOST_FS_BASE"), 16)} GSBase=${h(read("HOST_GS_BASE"), 16)} TRBase=${h(read("HOST_TR_BASE"), 16)}`,
  `GDTBase=${h(read("HOST_GDTR_BASE"), 16)} IDTBase=${h(read("HOST_IDTR_BASE"), 16)}`,
  `CR0=${h(read("HOST_CR0"), 16)} CR3=${h(read("HOST_CR3"), 16)} CR4=${h(read("HOST_CR4"), 16)}`,
  `Sysenter RSP=${h(read("HOST_IA32_SYSENTER_ESP"), 16)} CS:RIP=${h(read("HOST_IA32_SYSENTER_CS"), 4)}:${h(read("HOST_IA32_SYSENTER_EIP"), 16)}`,
];

const eventLines = (read: Read): string[] => [
  `ExceptionBitmap=${h(read("EXCEPTION_BITMAP"), 8)} PFECmask=${h(read("PAGE_FAULT_ERROR_CODE_MASK"), 8)} PFECmatch=${h(read("PAGE_FAULT_ERROR_CODE_MATCH"), 8)}`,
  `VMEntry: intr_info=${h(read("VM_ENTRY_INTR_INFO_FIELD"), 8)} errcode=${h(read("VM_ENTRY_EXCEPTION_ERROR_CODE"), 8)} ilen=${h(read("VM_ENTRY_INSTRUCTION_LEN"), 8)}`,
  `VMExit: intr_info=${h(read("VM_EXIT_INTR_INFO"), 8)} errcode=${h(read("VM_EXIT_INTR_ERROR_CODE"), 8)} ilen=${h(read("VM_EXIT_INSTRUCTION_LEN"), 8)}`,
  `        reason=${h(read("VM_EXIT_REASON"), 8)} qualification=${h(read("EXIT_QUALIFICATION"), 16)}`,
  `IDTVectoring: info=${h(read("IDT_VECTORING_INFO_FIELD"), 8)} errcode=${h(read("IDT_VECTORING_ERROR_CODE"), 8)}`,
];

const XEN_REGISTERS = ["  CS", "  DS", "  SS", "  ES", "  FS", "  GS"];

/** @param liveRip what Xen keeps itself */
export function xenLog(read: Read, liveRip: bigint): string[] {
  const segment = (label: string): string => {
    const name = `GUEST_${label.trim()}`;
    return `${label}: ${h(read(`${name}_SELECTOR`), 4)} ${h(read(`${name}_AR_BYTES`), 5)} ${h(read(`${name}_LIMIT`), 8)} ${h(read(`${name}_BASE`), 16)}`;
  };
  const table = (label: string): string =>
    `${label}:            ${h(read(`GUEST_${label}_LIMIT`), 8)} ${h(read(`GUEST_${label}_BASE`), 16)}`;
  return [
    "*** Guest State ***",
    `CR0: actual=${x64(read("GUEST_CR0"))}, shadow=${x64(read("CR0_READ_SHADOW"))}, gh_mask=${h(read("CR0_GUEST_HOST_MASK"), 16)}`,
    `CR4: actual=${x64(read("GUEST_CR4"))}, shadow=${x64(read("CR4_READ_SHADOW"))}, gh_mask=${h(read("CR4_GUEST_HOST_MASK"), 16)}`,
    `CR3 = ${x64(read("GUEST_CR3"))}`,
    `RSP = ${x64(read("GUEST_RSP"))} (${x64(read("GUEST_RSP"))})  RIP = ${x64(read("GUEST_RIP"))} (${x64(liveRip)})`,
    `RFLAGS=0x${h(read("GUEST_RFLAGS"), 8)} (0x${h(read("GUEST_RFLAGS"), 8)})  DR7 = ${x64(read("GUEST_DR7"))}`,
    `Sysenter RSP=${h(read("GUEST_SYSENTER_ESP"), 16)} CS:RIP=${h(read("GUEST_SYSENTER_CS"), 4)}:${h(read("GUEST_SYSENTER_EIP"), 16)}`,
    "       sel  attr  limit   base",
    ...XEN_REGISTERS.map(segment),
    table("GDTR"),
    segment("LDTR"),
    table("IDTR"),
    segment("  TR"),
    `EFER(VMCS) = ${x64(read("GUEST_IA32_EFER"))}  PAT = ${x64(read("GUEST_IA32_PAT"))}`,
    `PreemptionTimer = 0x${h(read("VMX_PREEMPTION_TIMER_VALUE"), 8)}  SM Base = 0x${h(read("GUEST_SMBASE"), 8)}`,
    `DebugCtl = ${x64(read("GUEST_IA32_DEBUGCTL"))}  DebugExceptions = ${x64(read("GUEST_PENDING_DBG_EXCEPTIONS"))}`,
    `Interruptibility = ${h(read("GUEST_INTERRUPTIBILITY_INFO"), 8)}  ActivityState = ${h(read("GUEST_ACTIVITY_STATE"), 8)}`,
    "*** Host State ***",
    `RIP = ${x64(read("HOST_RIP"))} (vmx_asm_vmexit_handler)  RSP = ${x64(read("HOST_RSP"))}`,
    `CS=${h(read("HOST_CS_SELECTOR"), 4)} SS=${h(read("HOST_SS_SELECTOR"), 4)} DS=${h(read("HOST_DS_SELECTOR"), 4)} ES=${h(read("HOST_ES_SELECTOR"), 4)} FS=${h(read("HOST_FS_SELECTOR"), 4)} GS=${h(read("HOST_GS_SELECTOR"), 4)} TR=${h(read("HOST_TR_SELECTOR"), 4)}`,
    ...hostLines(read),
    `EFER = ${x64(read("HOST_IA32_EFER"))}  PAT = ${x64(read("HOST_IA32_PAT"))}`,
    "*** Control State ***",
    ...kvmControls(read, "4.4"),
    ...eventLines(read),
    `TSC Offset = ${x64(read("TSC_OFFSET"))}  TSC Multiplier = ${x64(read("TSC_MULTIPLIER"))}`,
    `TPR Threshold = 0x${h(read("TPR_THRESHOLD"), 2)}  PostedIntrVec = 0x${h(read("POSTED_INTR_NV"), 2)}`,
    `EPT pointer = ${x64(read("EPT_POINTER"))}  EPTP index = 0x${h(read("EPTP_INDEX"), 4)}`,
    `Virtual processor ID = 0x${h(read("VIRTUAL_PROCESSOR_ID"), 4)} VMfunc controls = ${h(read("VM_FUNCTION_CONTROL"), 16)}`,
    "**************************************",
  ];
}

/** Xen 4.2's form, as far as it is another. */
export function oldXenLog(read: Read): string[] {
  const segment = (name: string): string =>
    `${name}: sel=0x${h(read(`GUEST_${name}_SELECTOR`), 4)}, attr=0x${h(read(`GUEST_${name}_AR_BYTES`), 4)}, limit=0x${h(read(`GUEST_${name}_LIMIT`), 8)}, base=${x64(read(`GUEST_${name}_BASE`))}`;
  const table = (name: string): string =>
    `${name}:                           limit=0x${h(read(`GUEST_${name}_LIMIT`), 8)}, base=${x64(read(`GUEST_${name}_BASE`))}`;
  return [
    "*** Guest State ***",
    `CR0: actual=${x64(read("GUEST_CR0"))}, shadow=${x64(read("CR0_READ_SHADOW"))}, gh_mask=${h(read("CR0_GUEST_HOST_MASK"), 16)}`,
    `CR4: actual=${x64(read("GUEST_CR4"))}, shadow=${x64(read("CR4_READ_SHADOW"))}, gh_mask=${h(read("CR4_GUEST_HOST_MASK"), 16)}`,
    `CR3: actual=${x64(read("GUEST_CR3"))}, target_count=${read("CR3_TARGET_COUNT")}`,
    `     target0=${h(read("CR3_TARGET_VALUE0"), 16)}, target1=${h(read("CR3_TARGET_VALUE1"), 16)}`,
    `     target2=${h(read("CR3_TARGET_VALUE2"), 16)}, target3=${h(read("CR3_TARGET_VALUE3"), 16)}`,
    `RSP = ${x64(read("GUEST_RSP"))} (${x64(read("GUEST_RSP"))})  RIP = ${x64(read("GUEST_RIP"))} (${x64(read("GUEST_RIP"))})`,
    `RFLAGS=${x64(read("GUEST_RFLAGS"))} (${x64(read("GUEST_RFLAGS"))})  DR7 = ${x64(read("GUEST_DR7"))}`,
    `Sysenter RSP=${h(read("GUEST_SYSENTER_ESP"), 16)} CS:RIP=${h(read("GUEST_SYSENTER_CS"), 4)}:${h(read("GUEST_SYSENTER_EIP"), 16)}`,
    ...["CS", "DS", "SS", "ES", "FS", "GS"].map(segment),
    table("GDTR"),
    segment("LDTR"),
    table("IDTR"),
    segment("TR"),
    `Guest PAT = ${x64(read("GUEST_IA32_PAT"))}`,
    `TSC Offset = ${h(read("TSC_OFFSET"), 16)}`,
    `DebugCtl=${h(read("GUEST_IA32_DEBUGCTL"), 16)} DebugExceptions=${h(read("GUEST_PENDING_DBG_EXCEPTIONS"), 16)}`,
    `Interruptibility=${h(read("GUEST_INTERRUPTIBILITY_INFO"), 4)} ActivityState=${h(read("GUEST_ACTIVITY_STATE"), 4)}`,
    "*** Host State ***",
    `RSP = ${x64(read("HOST_RSP"))}  RIP = ${x64(read("HOST_RIP"))}`,
    `CS=${h(read("HOST_CS_SELECTOR"), 4)} DS=${h(read("HOST_DS_SELECTOR"), 4)} ES=${h(read("HOST_ES_SELECTOR"), 4)} FS=${h(read("HOST_FS_SELECTOR"), 4)} GS=${h(read("HOST_GS_SELECTOR"), 4)} SS=${h(read("HOST_SS_SELECTOR"), 4)} TR=${h(read("HOST_TR_SELECTOR"), 4)}`,
    ...hostLines(read),
    `Host PAT = ${x64(read("HOST_IA32_PAT"))}`,
    "*** Control State ***",
    ...kvmControls(read, "4.4"),
    ...eventLines(read),
    `TPR Threshold = 0x${h(read("TPR_THRESHOLD"), 2)}`,
    `EPT pointer = ${x64(read("EPT_POINTER"))}`,
    `Virtual processor ID = 0x${h(read("VIRTUAL_PROCESSOR_ID"), 4)}`,
  ];
}

const pad = (name: string): string => name.padEnd(20);

/** A VMCB dump of Linux 6.16, with registers whose values are told apart by their index. */
export const KVM_VMCB_LOG: readonly string[] = [
  "SVM vCPU0 VMCB 00000000759a48a5, last attempted VMRUN on CPU 7",
  "VMCB Control Area:",
  `${pad("cr_read:")}0010`,
  `${pad("cr_write:")}0019`,
  `${pad("dr_read:")}0080`,
  `${pad("dr_write:")}0081`,
  `${pad("exceptions:")}00060042`,
  `${pad("intercepts:")}bccc8007 0111ce43`,
  `${pad("pause filter count:")}3000`,
  "pause filter threshold:128",
  `${pad("iopm_base_pa:")}0000000148e44000`,
  `${pad("msrpm_base_pa:")}0000000276e3e000`,
  `${pad("tsc_offset:")}ffff6b01ea8aa6f6`,
  `${pad("asid:")}13`,
  `${pad("tlb_ctl:")}0`,
  `${pad("int_ctl:")}07000200`,
  `${pad("int_vector:")}00000042`,
  `${pad("int_state:")}00000001`,
  `${pad("exit_code:")}ffffffff`,
  `${pad("exit_info1:")}0000000000000000`,
  `${pad("exit_info2:")}0000000005050010`,
  `${pad("exit_int_info:")}80000b0d`,
  `${pad("exit_int_info_err:")}0000000c`,
  `${pad("nested_ctl:")}1`,
  `${pad("nested_cr3:")}000000022fc06000`,
  `${pad("avic_vapic_bar:")}00000000fee00000`,
  `${pad("ghcb:")}00000000bfeda000`,
  `${pad("event_inj:")}80000b0e`,
  `${pad("event_inj_err:")}0000000a`,
  `${pad("virt_ext:")}3`,
  `${pad("next_rip:")}ffffffff8184f05a`,
  `${pad("avic_backing_page:")}0000000112a40000`,
  `${pad("avic_logical_id:")}0000000112a41000`,
  `${pad("avic_physical_id:")}0000000112a42003`,
  `${pad("vmsa_pa:")}00000005d35c0000`,
  "allowed_sev_features:8000000000000001",
  `${pad("guest_sev_features:")}0000000000000081`,
  "VMCB State Save Area:",
  "es:   s: 0000 a: 0092 l: 0000ffff b: 0000000000000000",
  "cs:   s: 9900 a: 009a l: 0000ffff b: 0000000000099000",
  "ss:   s: 0018 a: 0c93 l: ffffffff b: 0000000000000000",
  "ds:   s: 002b a: 0cf3 l: ffffffff b: 0000000000000001",
  "fs:   s: 0053 a: 0cf3 l: ffffffff b: 00007f04a6b666c0",
  "gs:   s: 002b a: 0cf3 l: ffffffff b: ffff8cdf5e400000",
  "gdtr: s: 0000 a: 0000 l: 0000007f b: fffffe0000001000",
  "ldtr: s: 0000 a: 0000 l: 00000000 b: 0000000000000002",
  "idtr: s: 0000 a: 0000 l: 00000fff b: fffffe0000000000",
  "tr:   s: 0040 a: 008b l: 00000067 b: fffffe0000003000",
  "vmpl: 0   cpl:  3               efer:          0000000000001d01",
  "cr0:            0000000080050033 cr2:          00007f0012345678",
  "cr3:            0000000002a10000 cr4:          00000000000006f0",
  "dr6:            00000000ffff0ff0 dr7:          0000000000000400",
  "rip:            ffffffff8184f058 rflags:       0000000000000246",
  "rsp:            ffffc90000013e98 rax:          000000000000beef",
  "star:           0023001000000000 lstar:        ffffffff81a00080",
  "cstar:          ffffffff81a01600 sfmask:       0000000000047700",
  "kernel_gs_base: 0000000000000000 sysenter_cs:  0000000000000010",
  "sysenter_esp:   fffffe0000003200 sysenter_eip: ffffffff81a01730",
  "gpat:           0007040600070406 dbgctl:       0000000000000000",
  "br_from:        ffffffff8184f000 br_to:        ffffffff8184f040",
  "excp_from:      ffffffff8184f010 excp_to:      ffffffff81a00b40",
];

/** `svm_vmcb_dump` of Xen 4.20. */
export const XEN_VMCB_LOG: readonly string[] = [
  "Dumping guest's current state at svm_vmexit_handler...",
  "Size of VMCB = 4096, paddr = 000000041f5f8000, vaddr = ffff83041f5f8000",
  "cr_intercepts = 0xfffbffff dr_intercepts = 0xffffffff exception_intercepts = 0x60002",
  "general1_intercepts = 0xbdc4800f general2_intercepts = 0x2e7f",
  "iopm_base_pa = 0xcfa6d000 msrpm_base_pa = 0x41f5f2000 tsc_offset = 0xfffffe3ae6b8b5bc",
  "tlb_control = 0 vintr = 0x4201000200 int_stat = 0x1",
  "event_inj 0000000a80000b0e, valid? 1, ec? 1, type 3, vector 0xe",
  "exitcode = 0x7b exit_int_info = 0",
  "exitinfo1 = 0x5050010 exitinfo2 = 0xffffffff8184f059",
  "np_ctrl = 0x1 guest_asid = 0xe",
  "virtual vmload/vmsave = 1, virt_ext = 0x2",
  "cpl = 0 efer = 0x1d01 star = 0x23001000000000 lstar = 0xffffffff81a00080",
  "CR0 = 0x0000000080050033 CR2 = 0x00007f0012345678",
  "CR3 = 0x0000000002a10000 CR4 = 0x00000000000006f0",
  "RSP = 0xffffc90000013e98  RIP = 0xffffffff8184f058",
  "RAX = 0x000000000000beef  RFLAGS=0x0000000000000246",
  "DR6 = 0x00000000ffff0ff0, DR7 = 0x0000000000000400",
  "CSTAR = 0xffffffff81a01600 SFMask = 0x0000000000047700",
  "KernGSBase = 0x0000000000000000 PAT = 0x0007040600070406",
  "H_CR3 = 0x000000041f4c9000 CleanBits = 0",
  "       sel attr  limit   base",
  "  CS: 0010 0a9b ffffffff 0000000000000000",
  "  DS: 002b 0cf3 ffffffff 0000000000000001",
  "  SS: 0018 0c93 ffffffff 0000000000000002",
  "  ES: 002b 0cf3 ffffffff 0000000000000003",
  "  FS: 0053 0cf3 ffffffff 00007f04a6b666c0",
  "  GS: 002b 0cf3 ffffffff ffff8cdf5e400000",
  "GDTR: 0000 0000 0000007f fffffe0000001000",
  "LDTR: 0000 0000 00000000 0000000000000000",
  "IDTR: 0000 0000 00000fff fffffe0000000000",
  "  TR: 0040 008b 00000067 fffffe0000003000",
];
