/**
 * Every field of AMD's virtual machine control block (APM Vol. 2, publication 24593 rev. 3.44, Appendix B, Tables B-1,
 * B-2 and B-4). A name is the member of KVM's `struct vmcb_control_area`, `vmcb_save_area` or `sev_es_save_area`
 * (`arch/x86/include/asm/svm.h`); where KVM has none it is ours, in the same style. `pml_addr` and `pml_index` are from
 * AMD's KVM patches of 2025, the fields at 0x3e0 from Hyper-V's TLFS (`struct hv_vmcb_enlightenments`).
 */
export const VMCB_SIZE = 4096;
/** Where the state save area begins. */
export const SAVE_AREA = 0x400;

/** `sev-es` fields are only in VM and host save areas of SEV-ES; there they stand beside those of `save`. */
export type VmcbArea = "control" | "save" | "sev-es";

export interface VmcbField {
  readonly name: VmcbFieldName;
  /** From the start of the VMCB. */
  readonly offset: number;
  /** Bytes; fields of more than 8 have no value of their own. */
  readonly size: number;
  readonly area: VmcbArea;
  /** What it is, with the APM's name first where that differs. */
  readonly title: string;
}

type Row = readonly [offset: number, size: number, name: string, title: string];

const CONTROL = [
  [0x000, 4, "intercept_cr", "Intercepts of CR reads and writes"],
  [0x004, 4, "intercept_dr", "Intercepts of DR reads and writes"],
  [0x008, 4, "intercept_exceptions", "Intercepts of exception vectors"],
  [0x00c, 4, "intercept_word3", "Intercepts, vector 3"],
  [0x010, 4, "intercept_word4", "Intercepts, vector 4"],
  [0x014, 4, "intercept_word5", "Intercepts, vector 5"],
  [0x03c, 2, "pause_filter_thresh", "PAUSE filter threshold, in cycles"],
  [0x03e, 2, "pause_filter_count", "PAUSE filter count"],
  [0x040, 8, "iopm_base_pa", "Address of the I/O permission map, 12 KiB"],
  [0x048, 8, "msrpm_base_pa", "Address of the MSR permission map, 8 KiB"],
  [0x050, 8, "tsc_offset", "Added when the guest reads the TSC"],
  [0x058, 4, "asid", "Address space identifier"],
  [0x05c, 1, "tlb_ctl", "TLB_CONTROL: what VMRUN flushes"],
  [0x05d, 1, "erap_ctl", "Return-address predictor: ALLOW_LARGER_RAP, CLEAR_RAP"],
  [0x060, 4, "int_ctl", "Virtual interrupts, NMIs and AVIC"],
  [0x064, 4, "int_vector", "V_INTR_VECTOR: vector of the virtual interrupt"],
  [0x068, 4, "int_state", "Interrupt shadow"],
  [0x070, 8, "exit_code", "EXITCODE: why the guest last exited"],
  [0x078, 8, "exit_info_1", "EXITINFO1"],
  [0x080, 8, "exit_info_2", "EXITINFO2"],
  [0x088, 4, "exit_int_info", "EXITINTINFO: event whose delivery the exit interrupted"],
  [0x08c, 4, "exit_int_info_err", "EXITINTINFO error code"],
  [0x090, 8, "nested_ctl", "Nested paging and SEV"],
  [0x098, 8, "avic_vapic_bar", "AVIC APIC_BAR"],
  [0x0a0, 8, "ghcb_gpa", "Guest-physical address of the GHCB"],
  [0x0a8, 4, "event_inj", "EVENTINJ: event to inject at VMRUN"],
  [0x0ac, 4, "event_inj_err", "EVENTINJ error code"],
  [0x0b0, 8, "nested_cr3", "N_CR3: root of the nested page tables"],
  [0x0b8, 8, "virt_ext", "Virtualization of LBR, VMLOAD/VMSAVE, IBS, PMC"],
  [0x0c0, 4, "clean", "VMCB clean bits: what the processor may take from its cache"],
  [0x0c8, 8, "next_rip", "nRIP: the next sequential instruction"],
  [0x0d0, 1, "insn_len", "Number of instruction bytes fetched"],
  [0x0d1, 15, "insn_bytes", "Instruction bytes at the fault"],
  [0x0e0, 8, "avic_backing_page", "AVIC APIC_BACKING_PAGE pointer"],
  [0x0f0, 8, "avic_logical_id", "AVIC LOGICAL_TABLE pointer"],
  [0x0f8, 8, "avic_physical_id", "AVIC PHYSICAL_TABLE pointer and highest index"],
  [0x108, 8, "vmsa_pa", "VMSA pointer: where an SEV-ES guest's state is, encrypted"],
  [0x110, 8, "vmgexit_rax", "VMGEXIT_RAX"],
  [0x118, 1, "vmgexit_cpl", "VMGEXIT_CPL"],
  [0x120, 2, "bus_lock_counter", "Bus lock threshold counter"],
  [0x134, 1, "update_irr", "UPDATE_IRR: take over REQUESTED_IRR"],
  [0x138, 8, "allowed_sev_features", "ALLOWED_SEV_FEATURES: mask, and bit 63 to enforce it"],
  [0x140, 8, "guest_sev_features", "GUEST_SEV_FEATURES"],
  [0x150, 4, "requested_irr_0", "REQUESTED_IRR bits 31:0"],
  [0x154, 4, "requested_irr_1", "REQUESTED_IRR bits 63:32"],
  [0x158, 4, "requested_irr_2", "REQUESTED_IRR bits 95:64"],
  [0x15c, 4, "requested_irr_3", "REQUESTED_IRR bits 127:96"],
  [0x160, 4, "requested_irr_4", "REQUESTED_IRR bits 159:128"],
  [0x164, 4, "requested_irr_5", "REQUESTED_IRR bits 191:160"],
  [0x168, 4, "requested_irr_6", "REQUESTED_IRR bits 223:192"],
  [0x16c, 4, "requested_irr_7", "REQUESTED_IRR bits 255:224"],
  [0x1c8, 8, "pml_addr", "Address of the page-modification log"],
  [0x1d0, 2, "pml_index", "Next entry of the page-modification log"],
  [0x3e0, 4, "hv_enlightenments_control", "Hyper-V enlightenments in use"],
  [0x3e4, 4, "hv_vp_id", "Hyper-V VP identifier; KVM with CONFIG_HYPERV writes the vCPU's index"],
  [0x3e8, 8, "hv_vm_id", "Hyper-V VM identifier"],
  [0x3f0, 8, "partition_assist_page", "Hyper-V partition assist page"],
] as const satisfies readonly Row[];

const SEGMENTS = ["es", "cs", "ss", "ds", "fs", "gs", "gdtr", "ldtr", "idtr", "tr"] as const;
const SEGMENT_PARTS = [
  [0, 2, "selector"],
  [2, 2, "attrib"],
  [4, 4, "limit"],
  [8, 8, "base"],
] as const;
type SegmentField = `${(typeof SEGMENTS)[number]}.${(typeof SEGMENT_PARTS)[number][2]}`;

/** Offsets relative to the save area. */
const SAVE = [
  [0x0ca, 1, "vmpl", "VM privilege level"],
  [0x0cb, 1, "cpl", "Current privilege level"],
  [0x0d0, 8, "efer", "EFER"],
  [0x0e0, 8, "perf_ctl0", "PERF_CTL0"],
  [0x0e8, 8, "perf_ctr0", "PERF_CTR0"],
  [0x0f0, 8, "perf_ctl1", "PERF_CTL1"],
  [0x0f8, 8, "perf_ctr1", "PERF_CTR1"],
  [0x100, 8, "perf_ctl2", "PERF_CTL2"],
  [0x108, 8, "perf_ctr2", "PERF_CTR2"],
  [0x110, 8, "perf_ctl3", "PERF_CTL3"],
  [0x118, 8, "perf_ctr3", "PERF_CTR3"],
  [0x120, 8, "perf_ctl4", "PERF_CTL4"],
  [0x128, 8, "perf_ctr4", "PERF_CTR4"],
  [0x130, 8, "perf_ctl5", "PERF_CTL5"],
  [0x138, 8, "perf_ctr5", "PERF_CTR5"],
  [0x148, 8, "cr4", "CR4"],
  [0x150, 8, "cr3", "CR3"],
  [0x158, 8, "cr0", "CR0"],
  [0x160, 8, "dr7", "DR7"],
  [0x168, 8, "dr6", "DR6"],
  [0x170, 8, "rflags", "RFLAGS"],
  [0x178, 8, "rip", "RIP"],
  [0x1c0, 8, "instr_retired_ctr", "INSTR_RETIRED_CTR"],
  [0x1c8, 8, "perf_ctr_global_sts", "PERF_CTR_GLOBAL_STS"],
  [0x1d0, 4, "perf_ctr_global_ctl", "PERF_CTR_GLOBAL_CTL"],
  [0x1d8, 8, "rsp", "RSP"],
  [0x1e0, 8, "s_cet", "S_CET: supervisor shadow stacks"],
  [0x1e8, 8, "ssp", "SSP: shadow stack pointer"],
  [0x1f0, 8, "isst_addr", "ISST_ADDR: interrupt shadow stack table"],
  [0x1f8, 8, "rax", "RAX"],
  [0x200, 8, "star", "STAR"],
  [0x208, 8, "lstar", "LSTAR"],
  [0x210, 8, "cstar", "CSTAR"],
  [0x218, 8, "sfmask", "SFMASK"],
  [0x220, 8, "kernel_gs_base", "KernelGsBase"],
  [0x228, 8, "sysenter_cs", "SYSENTER_CS"],
  [0x230, 8, "sysenter_esp", "SYSENTER_ESP"],
  [0x238, 8, "sysenter_eip", "SYSENTER_EIP"],
  [0x240, 8, "cr2", "CR2"],
  [0x268, 8, "g_pat", "G_PAT: the guest's PAT"],
  [0x270, 8, "dbgctl", "DBGCTL: DebugCtl"],
  [0x278, 8, "br_from", "BR_FROM: LastBranchFromIP"],
  [0x280, 8, "br_to", "BR_TO: LastBranchToIP"],
  [0x288, 8, "last_excp_from", "LASTEXCPFROM: LastIntFromIP"],
  [0x290, 8, "last_excp_to", "LASTEXCPTO: LastIntToIP"],
  [0x298, 8, "dbgextnctl", "DBGEXTNCTL: DebugExtnCtl"],
  [0x2e0, 8, "spec_ctrl", "SPEC_CTRL"],
  [0x770, 8, "lbr_select", "LBR_SELECT: LastBranchStackSelect"],
  [0x778, 8, "ibs_fetch_ctl", "IBS_FETCH_CTL"],
  [0x780, 8, "ibs_fetch_linaddr", "IBS_FETCH_LINADDR"],
  [0x788, 8, "ibs_op_ctl", "IBS_OP_CTL"],
  [0x790, 8, "ibs_op_rip", "IBS_OP_RIP"],
  [0x798, 8, "ibs_op_data", "IBS_OP_DATA"],
  [0x7a0, 8, "ibs_op_data2", "IBS_OP_DATA2"],
  [0x7a8, 8, "ibs_op_data3", "IBS_OP_DATA3"],
  [0x7b0, 8, "ibs_dc_linaddr", "IBS_DC_LINADDR"],
  [0x7b8, 8, "bp_ibstgt_rip", "BP_IBSTGT_RIP"],
  [0x7c0, 8, "ic_ibs_extd_ctl", "IC_IBS_EXTD_CTL"],
] as const satisfies readonly Row[];

/** LBR_STACK_FROM and LBR_STACK_TO in the order of their MSRs, which alternate (C001_0300h and up). */
const LBR_STACK = 0x670;
const LBR_ENTRIES = 16;
type LbrField = `lbr_stack_from_${number}` | `lbr_stack_to_${number}`;

/** What a save area of SEV-ES holds besides: Table B-4 without what it shares with Table B-2. */
const SEV_ES = [
  [0x0a0, 8, "pl0_ssp", "PL0_SSP"],
  [0x0a8, 8, "pl1_ssp", "PL1_SSP"],
  [0x0b0, 8, "pl2_ssp", "PL2_SSP"],
  [0x0b8, 8, "pl3_ssp", "PL3_SSP"],
  [0x0c0, 8, "u_cet", "U_CET: user shadow stacks"],
  [0x140, 8, "xss", "XSS"],
  [0x180, 8, "dr0", "DR0"],
  [0x188, 8, "dr1", "DR1"],
  [0x190, 8, "dr2", "DR2"],
  [0x198, 8, "dr3", "DR3"],
  [0x1a0, 8, "dr0_addr_mask", "DR0_ADDR_MASK"],
  [0x1a8, 8, "dr1_addr_mask", "DR1_ADDR_MASK"],
  [0x1b0, 8, "dr2_addr_mask", "DR2_ADDR_MASK"],
  [0x1b8, 8, "dr3_addr_mask", "DR3_ADDR_MASK"],
  [0x2e8, 4, "pkru", "PKRU"],
  [0x2ec, 4, "tsc_aux", "TSC_AUX"],
  [0x2f0, 8, "guest_tsc_scale", "GUEST_TSC_SCALE"],
  [0x2f8, 8, "guest_tsc_offset", "GUEST_TSC_OFFSET"],
  [0x300, 8, "reg_prot_nonce", "REG_PROT_NONCE"],
  [0x308, 8, "rcx", "RCX"],
  [0x310, 8, "rdx", "RDX"],
  [0x318, 8, "rbx", "RBX"],
  [0x320, 8, "secure_avic_ctl", "SECURE_AVIC_CTL"],
  [0x328, 8, "rbp", "RBP"],
  [0x330, 8, "rsi", "RSI"],
  [0x338, 8, "rdi", "RDI"],
  [0x340, 8, "r8", "R8"],
  [0x348, 8, "r9", "R9"],
  [0x350, 8, "r10", "R10"],
  [0x358, 8, "r11", "R11"],
  [0x360, 8, "r12", "R12"],
  [0x368, 8, "r13", "R13"],
  [0x370, 8, "r14", "R14"],
  [0x378, 8, "r15", "R15"],
  [0x390, 8, "guest_exit_info_1", "GUEST_EXITINFO1"],
  [0x398, 8, "guest_exit_info_2", "GUEST_EXITINFO2"],
  [0x3a0, 8, "guest_exit_int_info", "GUEST_EXITINTINFO"],
  [0x3a8, 8, "guest_nrip", "GUEST_NRIP"],
  [0x3b0, 8, "sev_features", "SEV_FEATURES"],
  [0x3b8, 8, "vintr_ctrl", "VINTR_CTRL"],
  [0x3c0, 8, "guest_exit_code", "GUEST_EXITCODE"],
  [0x3c8, 8, "virtual_tom", "VIRTUAL_TOM"],
  [0x3d0, 8, "tlb_id", "TLB_ID"],
  [0x3d8, 8, "pcpu_id", "PCPU_ID"],
  [0x3e0, 8, "vmsa_event_inj", "EVENTINJ of the save area"],
  [0x3e8, 8, "xcr0", "XCR0"],
  [0x400, 8, "x87_dp", "X87_DP"],
  [0x408, 4, "mxcsr", "MXCSR"],
  [0x40c, 2, "x87_ftw", "X87_FTW"],
  [0x40e, 2, "x87_fsw", "X87_FSW"],
  [0x410, 2, "x87_fcw", "X87_FCW"],
  [0x412, 2, "x87_fop", "X87_FOP"],
  [0x414, 2, "x87_ds", "X87_DS"],
  [0x416, 2, "x87_cs", "X87_CS"],
  [0x418, 8, "x87_rip", "X87_RIP"],
  [0x420, 80, "fpreg_x87", "x87 registers"],
  [0x470, 256, "fpreg_xmm", "XMM registers"],
  [0x570, 256, "fpreg_ymm", "Upper halves of the YMM registers"],
  [0x900, 4, "intercept_vec_0", "INTERCEPT_VEC_0: guest intercept control"],
  [0x904, 4, "intercept_vec_1", "INTERCEPT_VEC_1"],
  [0x908, 4, "intercept_vec_2", "INTERCEPT_VEC_2"],
  [0x90c, 4, "intercept_vec_3", "INTERCEPT_VEC_3"],
  [0x910, 4, "intercept_vec_4", "INTERCEPT_VEC_4"],
  [0x914, 4, "intercept_vec_5", "INTERCEPT_VEC_5"],
  [0x918, 4, "intercept_vec_6", "INTERCEPT_VEC_6"],
  [0x91c, 4, "intercept_vec_7", "INTERCEPT_VEC_7"],
  [0x920, 8, "intercept_msr_vec_0", "INTERCEPT_MSR_VEC_0"],
  [0x928, 8, "intercept_msr_vec_1", "INTERCEPT_MSR_VEC_1"],
  [0x930, 8, "intercept_msr_vec_2", "INTERCEPT_MSR_VEC_2"],
  [0x938, 8, "intercept_msr_vec_3", "INTERCEPT_MSR_VEC_3"],
  [0x980, 64, "fpreg_k", "AVX-512 mask registers"],
  [0x9c0, 512, "fpreg_zmmhi", "Upper halves of ZMM0–15"],
] as const satisfies readonly Row[];

export type VmcbFieldName =
  | (typeof CONTROL)[number][2]
  | (typeof SAVE)[number][2]
  | (typeof SEV_ES)[number][2]
  | SegmentField
  | LbrField;

const fieldsOf = (
  area: VmcbArea,
  base: number,
  rows: readonly (readonly [number, number, VmcbFieldName, string])[],
): VmcbField[] =>
  rows.map(([offset, size, name, title]) => ({ name, offset: base + offset, size, area, title }));

const segmentRows = SEGMENTS.flatMap((segment, i) =>
  SEGMENT_PARTS.map(
    ([offset, size, part]) =>
      [16 * i + offset, size, `${segment}.${part}`, `${segment.toUpperCase()} ${part}`] as const,
  ),
);

const lbrRows = Array.from({ length: LBR_ENTRIES }, (_, i) => [
  [LBR_STACK + 16 * i, 8, `lbr_stack_from_${i}`, `LastBranchStackFromIp ${i}`] as const,
  [LBR_STACK + 16 * i + 8, 8, `lbr_stack_to_${i}`, `LastBranchStackToIp ${i}`] as const,
]).flat();

/** Ascending by offset within an area; `control`, `save`, `sev-es` in this order. */
export const VMCB_FIELDS: readonly VmcbField[] = [
  ...fieldsOf("control", 0, CONTROL),
  ...fieldsOf("save", SAVE_AREA, [...segmentRows, ...SAVE, ...lbrRows]).sort((a, b) => a.offset - b.offset),
  ...fieldsOf("sev-es", SAVE_AREA, SEV_ES),
];
