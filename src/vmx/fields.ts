import { isHighEncoding } from "./encoding.ts";

/**
 * Every VMCS field (Intel SDM Vol. 3 Appendix B, edition 2026-02). `name` is the constant of KVM
 * (`arch/x86/include/asm/vmx.h`, up to the FRED, APX and LBR series); where KVM has none it is ours, in the same style,
 * and `kvm` is false. Encodings outside the SDM's list come from Bochs (`cpu/vmx.h`, 2026-08) and list patches.
 */
export interface VmcsField {
  /** The even, full-width encoding; a 64-bit field's high half is encoding + 1. */
  readonly encoding: number;
  readonly name: string;
  /** The SDM's words. */
  readonly title: string;
  /** Whether KVM has a constant of that name. */
  readonly kvm: boolean;
  /** The control or feature that the field exists with; undefined for fields every processor has. */
  readonly existsWith: string | undefined;
}

type Row = readonly [encoding: number, name: string, title: string, existsWith?: string];

const KVM_FIELDS: readonly Row[] = [
  // 16-bit control fields
  [0x0000, "VIRTUAL_PROCESSOR_ID", "Virtual-processor identifier (VPID)", "enable VPID"],
  [0x0002, "POSTED_INTR_NV", "Posted-interrupt notification vector", "process posted interrupts"],
  [0x0008, "LAST_PID_POINTER_INDEX", "Last PID-pointer index", "IPI virtualization"],
  // 16-bit guest-state fields
  [0x0800, "GUEST_ES_SELECTOR", "Guest ES selector"],
  [0x0802, "GUEST_CS_SELECTOR", "Guest CS selector"],
  [0x0804, "GUEST_SS_SELECTOR", "Guest SS selector"],
  [0x0806, "GUEST_DS_SELECTOR", "Guest DS selector"],
  [0x0808, "GUEST_FS_SELECTOR", "Guest FS selector"],
  [0x080a, "GUEST_GS_SELECTOR", "Guest GS selector"],
  [0x080c, "GUEST_LDTR_SELECTOR", "Guest LDTR selector"],
  [0x080e, "GUEST_TR_SELECTOR", "Guest TR selector"],
  [0x0810, "GUEST_INTR_STATUS", "Guest interrupt status", "virtual-interrupt delivery"],
  [0x0812, "GUEST_PML_INDEX", "PML index", "enable PML"],
  // 16-bit host-state fields
  [0x0c00, "HOST_ES_SELECTOR", "Host ES selector"],
  [0x0c02, "HOST_CS_SELECTOR", "Host CS selector"],
  [0x0c04, "HOST_SS_SELECTOR", "Host SS selector"],
  [0x0c06, "HOST_DS_SELECTOR", "Host DS selector"],
  [0x0c08, "HOST_FS_SELECTOR", "Host FS selector"],
  [0x0c0a, "HOST_GS_SELECTOR", "Host GS selector"],
  [0x0c0c, "HOST_TR_SELECTOR", "Host TR selector"],
  // 64-bit control fields
  [0x2000, "IO_BITMAP_A", "Address of I/O bitmap A", "use I/O bitmaps"],
  [0x2002, "IO_BITMAP_B", "Address of I/O bitmap B", "use I/O bitmaps"],
  [0x2004, "MSR_BITMAP", "Address of MSR bitmaps", "use MSR bitmaps"],
  [0x2006, "VM_EXIT_MSR_STORE_ADDR", "VM-exit MSR-store address"],
  [0x2008, "VM_EXIT_MSR_LOAD_ADDR", "VM-exit MSR-load address"],
  [0x200a, "VM_ENTRY_MSR_LOAD_ADDR", "VM-entry MSR-load address"],
  [0x200e, "PML_ADDRESS", "PML address", "enable PML"],
  [0x2010, "TSC_OFFSET", "TSC offset"],
  [0x2012, "VIRTUAL_APIC_PAGE_ADDR", "Virtual-APIC address", "use TPR shadow"],
  [0x2014, "APIC_ACCESS_ADDR", "APIC-access address", "virtualize APIC accesses"],
  [0x2016, "POSTED_INTR_DESC_ADDR", "Posted-interrupt descriptor address", "process posted interrupts"],
  [0x2018, "VM_FUNCTION_CONTROL", "VM-function controls", "enable VM functions"],
  [0x201a, "EPT_POINTER", "EPT pointer (EPTP)", "enable EPT"],
  [0x201c, "EOI_EXIT_BITMAP0", "EOI-exit bitmap 0", "virtual-interrupt delivery"],
  [0x201e, "EOI_EXIT_BITMAP1", "EOI-exit bitmap 1", "virtual-interrupt delivery"],
  [0x2020, "EOI_EXIT_BITMAP2", "EOI-exit bitmap 2", "virtual-interrupt delivery"],
  [0x2022, "EOI_EXIT_BITMAP3", "EOI-exit bitmap 3", "virtual-interrupt delivery"],
  [0x2024, "EPTP_LIST_ADDRESS", "EPTP-list address", "EPTP switching"],
  [0x2026, "VMREAD_BITMAP", "VMREAD-bitmap address", "VMCS shadowing"],
  [0x2028, "VMWRITE_BITMAP", "VMWRITE-bitmap address", "VMCS shadowing"],
  [0x202a, "VE_INFORMATION_ADDRESS", "Virtualization-exception information address", "EPT-violation #VE"],
  [0x202c, "XSS_EXIT_BITMAP", "XSS-exiting bitmap", "enable XSAVES/XRSTORS"],
  [0x202e, "ENCLS_EXITING_BITMAP", "ENCLS-exiting bitmap", "enable ENCLS exiting"],
  [0x2032, "TSC_MULTIPLIER", "TSC multiplier", "use TSC scaling"],
  [
    0x2034,
    "TERTIARY_VM_EXEC_CONTROL",
    "Tertiary processor-based VM-execution controls",
    "activate tertiary controls",
  ],
  [0x203c, "SHARED_EPT_POINTER", "SEAM shared EPT pointer", "SEAM guest-physical address width"],
  [0x2042, "PID_POINTER_TABLE", "PID-pointer table address", "IPI virtualization"],
  [
    0x2044,
    "SECONDARY_VM_EXIT_CONTROLS",
    "Secondary VM-exit controls",
    "activate secondary controls (VM-exit)",
  ],
  [0x2052, "INJECTED_EVENT_DATA", "Injected-event data", "FRED"],
  // 64-bit read-only data fields
  [0x2400, "GUEST_PHYSICAL_ADDRESS", "Guest-physical address", "enable EPT"],
  [0x2404, "ORIGINAL_EVENT_DATA", "Original-event data", "FRED"],
  [0x2406, "EXTENDED_INSTRUCTION_INFO", "Extended instruction information", "APX"],
  // 64-bit guest-state fields
  [0x2800, "VMCS_LINK_POINTER", "VMCS link pointer"],
  [0x2802, "GUEST_IA32_DEBUGCTL", "Guest IA32_DEBUGCTL"],
  [0x2804, "GUEST_IA32_PAT", "Guest IA32_PAT", "load/save IA32_PAT"],
  [0x2806, "GUEST_IA32_EFER", "Guest IA32_EFER", "load/save IA32_EFER"],
  [0x2808, "GUEST_IA32_PERF_GLOBAL_CTRL", "Guest IA32_PERF_GLOBAL_CTRL", "load IA32_PERF_GLOBAL_CTRL"],
  [0x280a, "GUEST_PDPTR0", "Guest PDPTE0", "enable EPT"],
  [0x280c, "GUEST_PDPTR1", "Guest PDPTE1", "enable EPT"],
  [0x280e, "GUEST_PDPTR2", "Guest PDPTE2", "enable EPT"],
  [0x2810, "GUEST_PDPTR3", "Guest PDPTE3", "enable EPT"],
  [0x2812, "GUEST_BNDCFGS", "Guest IA32_BNDCFGS", "load/clear IA32_BNDCFGS"],
  [0x2814, "GUEST_IA32_RTIT_CTL", "Guest IA32_RTIT_CTL", "load/clear IA32_RTIT_CTL"],
  [0x2816, "GUEST_IA32_LBR_CTL", "Guest IA32_LBR_CTL", "load/clear IA32_LBR_CTL"],
  [0x281a, "GUEST_IA32_FRED_CONFIG", "Guest IA32_FRED_CONFIG", "load/save FRED"],
  [0x281c, "GUEST_IA32_FRED_RSP1", "Guest IA32_FRED_RSP1", "load/save FRED"],
  [0x281e, "GUEST_IA32_FRED_RSP2", "Guest IA32_FRED_RSP2", "load/save FRED"],
  [0x2820, "GUEST_IA32_FRED_RSP3", "Guest IA32_FRED_RSP3", "load/save FRED"],
  [0x2822, "GUEST_IA32_FRED_STKLVLS", "Guest IA32_FRED_STKLVLS", "load/save FRED"],
  [0x2824, "GUEST_IA32_FRED_SSP1", "Guest IA32_FRED_SSP1", "load/save FRED"],
  [0x2826, "GUEST_IA32_FRED_SSP2", "Guest IA32_FRED_SSP2", "load/save FRED"],
  [0x2828, "GUEST_IA32_FRED_SSP3", "Guest IA32_FRED_SSP3", "load/save FRED"],
  // 64-bit host-state fields
  [0x2c00, "HOST_IA32_PAT", "Host IA32_PAT", "load IA32_PAT (exit)"],
  [0x2c02, "HOST_IA32_EFER", "Host IA32_EFER", "load IA32_EFER (exit)"],
  [0x2c04, "HOST_IA32_PERF_GLOBAL_CTRL", "Host IA32_PERF_GLOBAL_CTRL", "load IA32_PERF_GLOBAL_CTRL (exit)"],
  [0x2c08, "HOST_IA32_FRED_CONFIG", "Host IA32_FRED_CONFIG", "load FRED (exit)"],
  [0x2c0a, "HOST_IA32_FRED_RSP1", "Host IA32_FRED_RSP1", "load FRED (exit)"],
  [0x2c0c, "HOST_IA32_FRED_RSP2", "Host IA32_FRED_RSP2", "load FRED (exit)"],
  [0x2c0e, "HOST_IA32_FRED_RSP3", "Host IA32_FRED_RSP3", "load FRED (exit)"],
  [0x2c10, "HOST_IA32_FRED_STKLVLS", "Host IA32_FRED_STKLVLS", "load FRED (exit)"],
  [0x2c12, "HOST_IA32_FRED_SSP1", "Host IA32_FRED_SSP1", "load FRED (exit)"],
  [0x2c14, "HOST_IA32_FRED_SSP2", "Host IA32_FRED_SSP2", "load FRED (exit)"],
  [0x2c16, "HOST_IA32_FRED_SSP3", "Host IA32_FRED_SSP3", "load FRED (exit)"],
  // 32-bit control fields
  [0x4000, "PIN_BASED_VM_EXEC_CONTROL", "Pin-based VM-execution controls"],
  [0x4002, "CPU_BASED_VM_EXEC_CONTROL", "Primary processor-based VM-execution controls"],
  [0x4004, "EXCEPTION_BITMAP", "Exception bitmap"],
  [0x4006, "PAGE_FAULT_ERROR_CODE_MASK", "Page-fault error-code mask"],
  [0x4008, "PAGE_FAULT_ERROR_CODE_MATCH", "Page-fault error-code match"],
  [0x400a, "CR3_TARGET_COUNT", "CR3-target count"],
  [0x400c, "VM_EXIT_CONTROLS", "Primary VM-exit controls"],
  [0x400e, "VM_EXIT_MSR_STORE_COUNT", "VM-exit MSR-store count"],
  [0x4010, "VM_EXIT_MSR_LOAD_COUNT", "VM-exit MSR-load count"],
  [0x4012, "VM_ENTRY_CONTROLS", "VM-entry controls"],
  [0x4014, "VM_ENTRY_MSR_LOAD_COUNT", "VM-entry MSR-load count"],
  [0x4016, "VM_ENTRY_INTR_INFO_FIELD", "Injected-event identification"],
  [0x4018, "VM_ENTRY_EXCEPTION_ERROR_CODE", "Injected-event error code"],
  [0x401a, "VM_ENTRY_INSTRUCTION_LEN", "VM-entry instruction length"],
  [0x401c, "TPR_THRESHOLD", "TPR threshold", "use TPR shadow"],
  [
    0x401e,
    "SECONDARY_VM_EXEC_CONTROL",
    "Secondary processor-based VM-execution controls",
    "activate secondary controls",
  ],
  [0x4020, "PLE_GAP", "PLE_Gap", "PAUSE-loop exiting"],
  [0x4022, "PLE_WINDOW", "PLE_Window", "PAUSE-loop exiting"],
  [0x4024, "NOTIFY_WINDOW", "Instruction-timeout control (notify window)", "instruction timeout"],
  // 32-bit read-only data fields
  [0x4400, "VM_INSTRUCTION_ERROR", "VM-instruction error"],
  [0x4402, "VM_EXIT_REASON", "Exit reason"],
  [0x4404, "VM_EXIT_INTR_INFO", "Exiting-event identification"],
  [0x4406, "VM_EXIT_INTR_ERROR_CODE", "Exiting-event error code"],
  [0x4408, "IDT_VECTORING_INFO_FIELD", "Original-event identification"],
  [0x440a, "IDT_VECTORING_ERROR_CODE", "Original-event error code"],
  [0x440c, "VM_EXIT_INSTRUCTION_LEN", "VM-exit instruction length"],
  [0x440e, "VMX_INSTRUCTION_INFO", "VM-exit instruction information"],
  // 32-bit guest-state fields
  [0x4800, "GUEST_ES_LIMIT", "Guest ES limit"],
  [0x4802, "GUEST_CS_LIMIT", "Guest CS limit"],
  [0x4804, "GUEST_SS_LIMIT", "Guest SS limit"],
  [0x4806, "GUEST_DS_LIMIT", "Guest DS limit"],
  [0x4808, "GUEST_FS_LIMIT", "Guest FS limit"],
  [0x480a, "GUEST_GS_LIMIT", "Guest GS limit"],
  [0x480c, "GUEST_LDTR_LIMIT", "Guest LDTR limit"],
  [0x480e, "GUEST_TR_LIMIT", "Guest TR limit"],
  [0x4810, "GUEST_GDTR_LIMIT", "Guest GDTR limit"],
  [0x4812, "GUEST_IDTR_LIMIT", "Guest IDTR limit"],
  [0x4814, "GUEST_ES_AR_BYTES", "Guest ES access rights"],
  [0x4816, "GUEST_CS_AR_BYTES", "Guest CS access rights"],
  [0x4818, "GUEST_SS_AR_BYTES", "Guest SS access rights"],
  [0x481a, "GUEST_DS_AR_BYTES", "Guest DS access rights"],
  [0x481c, "GUEST_FS_AR_BYTES", "Guest FS access rights"],
  [0x481e, "GUEST_GS_AR_BYTES", "Guest GS access rights"],
  [0x4820, "GUEST_LDTR_AR_BYTES", "Guest LDTR access rights"],
  [0x4822, "GUEST_TR_AR_BYTES", "Guest TR access rights"],
  [0x4824, "GUEST_INTERRUPTIBILITY_INFO", "Guest interruptibility state"],
  [0x4826, "GUEST_ACTIVITY_STATE", "Guest activity state"],
  [0x482a, "GUEST_SYSENTER_CS", "Guest IA32_SYSENTER_CS"],
  [0x482e, "VMX_PREEMPTION_TIMER_VALUE", "VMX-preemption timer value", "activate VMX-preemption timer"],
  // 32-bit host-state fields
  [0x4c00, "HOST_IA32_SYSENTER_CS", "Host IA32_SYSENTER_CS"],
  // natural-width control fields
  [0x6000, "CR0_GUEST_HOST_MASK", "CR0 guest/host mask"],
  [0x6002, "CR4_GUEST_HOST_MASK", "CR4 guest/host mask"],
  [0x6004, "CR0_READ_SHADOW", "CR0 read shadow"],
  [0x6006, "CR4_READ_SHADOW", "CR4 read shadow"],
  [0x6008, "CR3_TARGET_VALUE0", "CR3-target value 0"],
  [0x600a, "CR3_TARGET_VALUE1", "CR3-target value 1"],
  [0x600c, "CR3_TARGET_VALUE2", "CR3-target value 2"],
  [0x600e, "CR3_TARGET_VALUE3", "CR3-target value 3"],
  // natural-width read-only data fields
  [0x6400, "EXIT_QUALIFICATION", "Exit qualification"],
  [0x640a, "GUEST_LINEAR_ADDRESS", "Guest-linear address"],
  // natural-width guest-state fields
  [0x6800, "GUEST_CR0", "Guest CR0"],
  [0x6802, "GUEST_CR3", "Guest CR3"],
  [0x6804, "GUEST_CR4", "Guest CR4"],
  [0x6806, "GUEST_ES_BASE", "Guest ES base"],
  [0x6808, "GUEST_CS_BASE", "Guest CS base"],
  [0x680a, "GUEST_SS_BASE", "Guest SS base"],
  [0x680c, "GUEST_DS_BASE", "Guest DS base"],
  [0x680e, "GUEST_FS_BASE", "Guest FS base"],
  [0x6810, "GUEST_GS_BASE", "Guest GS base"],
  [0x6812, "GUEST_LDTR_BASE", "Guest LDTR base"],
  [0x6814, "GUEST_TR_BASE", "Guest TR base"],
  [0x6816, "GUEST_GDTR_BASE", "Guest GDTR base"],
  [0x6818, "GUEST_IDTR_BASE", "Guest IDTR base"],
  [0x681a, "GUEST_DR7", "Guest DR7"],
  [0x681c, "GUEST_RSP", "Guest RSP"],
  [0x681e, "GUEST_RIP", "Guest RIP"],
  [0x6820, "GUEST_RFLAGS", "Guest RFLAGS"],
  [0x6822, "GUEST_PENDING_DBG_EXCEPTIONS", "Guest pending debug exceptions"],
  [0x6824, "GUEST_SYSENTER_ESP", "Guest IA32_SYSENTER_ESP"],
  [0x6826, "GUEST_SYSENTER_EIP", "Guest IA32_SYSENTER_EIP"],
  [0x6828, "GUEST_S_CET", "Guest IA32_S_CET", "load CET state (entry)"],
  [0x682a, "GUEST_SSP", "Guest SSP", "load CET state (entry)"],
  [0x682c, "GUEST_INTR_SSP_TABLE", "Guest IA32_INTERRUPT_SSP_TABLE_ADDR", "load CET state (entry)"],
  // natural-width host-state fields
  [0x6c00, "HOST_CR0", "Host CR0"],
  [0x6c02, "HOST_CR3", "Host CR3"],
  [0x6c04, "HOST_CR4", "Host CR4"],
  [0x6c06, "HOST_FS_BASE", "Host FS base"],
  [0x6c08, "HOST_GS_BASE", "Host GS base"],
  [0x6c0a, "HOST_TR_BASE", "Host TR base"],
  [0x6c0c, "HOST_GDTR_BASE", "Host GDTR base"],
  [0x6c0e, "HOST_IDTR_BASE", "Host IDTR base"],
  [0x6c10, "HOST_IA32_SYSENTER_ESP", "Host IA32_SYSENTER_ESP"],
  [0x6c12, "HOST_IA32_SYSENTER_EIP", "Host IA32_SYSENTER_EIP"],
  [0x6c14, "HOST_RSP", "Host RSP"],
  [0x6c16, "HOST_RIP", "Host RIP"],
  [0x6c18, "HOST_S_CET", "Host IA32_S_CET", "load CET state (exit)"],
  [0x6c1a, "HOST_SSP", "Host SSP", "load CET state (exit)"],
  [0x6c1c, "HOST_INTR_SSP_TABLE", "Host IA32_INTERRUPT_SSP_TABLE_ADDR", "load CET state (exit)"],
];

/** Fields KVM does not know. */
const OTHER_FIELDS: readonly Row[] = [
  // 16-bit control fields
  [0x0004, "EPTP_INDEX", "EPTP index", "EPT-violation #VE"],
  [0x0006, "HLAT_PREFIX_SIZE", "HLAT prefix size", "enable HLAT"],
  [0x000a, "VIRTUAL_TIMER_VECTOR", "Virtual timer vector", "APIC-timer virtualization"],
  // 16-bit guest-state fields
  [0x0814, "GUEST_UINV", "Guest UINV", "clear UINV / load UINV"],
  // 64-bit control fields
  [0x200c, "EXECUTIVE_VMCS_POINTER", "Executive-VMCS pointer"],
  [0x2030, "SPPT_POINTER", "Sub-page-permission-table pointer (SPPTP)", "sub-page write permissions for EPT"],
  [0x2036, "ENCLV_EXITING_BITMAP", "ENCLV-exiting bitmap", "enable ENCLV exiting"],
  [0x2038, "LOW_PASID_DIRECTORY", "Low PASID directory address", "PASID translation"],
  [0x203a, "HIGH_PASID_DIRECTORY", "High PASID directory address", "PASID translation"],
  [0x203e, "PCONFIG_EXITING_BITMAP", "PCONFIG-exiting bitmap", "enable PCONFIG"],
  [0x2040, "HLAT_POINTER", "Hypervisor-managed linear-address translation pointer (HLATP)", "enable HLAT"],
  [0x204a, "SPEC_CTRL_MASK", "IA32_SPEC_CTRL mask", "virtualize IA32_SPEC_CTRL"],
  [0x204c, "SPEC_CTRL_SHADOW", "IA32_SPEC_CTRL shadow", "virtualize IA32_SPEC_CTRL"],
  [0x204e, "GUEST_DEADLINE_SHADOW", "Guest deadline shadow", "APIC-timer virtualization"],
  // 64-bit read-only data fields
  [0x2402, "MSR_DATA", "MSR data", "enable MSR-list instructions"],
  // 64-bit guest-state fields
  [0x2818, "GUEST_IA32_PKRS", "Guest IA32_PKRS", "load PKRS"],
  [0x282e, "GUEST_IA32_SPEC_CTRL", "Guest IA32_SPEC_CTRL", "virtualise SPEC_CTRL load/save"],
  [0x2830, "GUEST_DEADLINE", "Guest deadline", "APIC-timer virtualization"],
  // 64-bit host-state fields
  [0x2c06, "HOST_IA32_PKRS", "Host IA32_PKRS", "load PKRS (exit)"],
  [0x2c1a, "HOST_IA32_SPEC_CTRL", "Host IA32_SPEC_CTRL", "load SPEC_CTRL (exit)"],
  // 32-bit control fields
  [0x4026, "SEAM_GUEST_KEYID", "SEAM-guest KeyID", "SEAM guest-physical address width"],
  // 32-bit guest-state fields
  [0x4828, "GUEST_SMBASE", "Guest SMBASE"],
  // natural-width read-only data fields
  [0x6402, "IO_RCX", "I/O RCX"],
  [0x6404, "IO_RSI", "I/O RSI"],
  [0x6406, "IO_RDI", "I/O RDI"],
  [0x6408, "IO_RIP", "I/O RIP"],
];

const fieldsOf = (rows: readonly Row[], kvm: boolean): VmcsField[] =>
  rows.map(([encoding, name, title, existsWith]) => ({ encoding, name, title, kvm, existsWith }));

/** Ascending by encoding. */
export const VMCS_FIELDS: readonly VmcsField[] = [
  ...fieldsOf(KVM_FIELDS, true),
  ...fieldsOf(OTHER_FIELDS, false),
].sort((a, b) => a.encoding - b.encoding);

const BY_ENCODING: ReadonlyMap<number, VmcsField> = new Map(
  VMCS_FIELDS.map((field) => [field.encoding, field]),
);
const BY_NAME: ReadonlyMap<string, VmcsField> = new Map(VMCS_FIELDS.map((field) => [field.name, field]));

/** The field of an encoding, full or high; undefined when the SDM assigns none. */
export const fieldOf = (encoding: number): VmcsField | undefined =>
  BY_ENCODING.get(isHighEncoding(encoding) ? encoding - 1 : encoding);

/** The field KVM calls `name`. */
export const fieldNamed = (name: string): VmcsField | undefined => BY_NAME.get(name);
