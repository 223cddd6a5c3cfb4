/**
 * The lines of a VMCB dump in a log: KVM's `dump_vmcb` (arch/x86/kvm/svm/svm.c, before 5.7 arch/x86/kvm/svm.c) of 4.4 to
 * 6.16, and Xen's `svm_vmcb_dump` (xen/arch/x86/hvm/svm/svmdebug.c). Xen's names are turned into KVM's.
 */

export interface VmcbSegment {
  readonly selector: number;
  /** As in the VMCB: bits 7:0 access byte, 11:8 AVL, L, D/B, G. */
  readonly attributes: number;
  readonly limit: number;
  readonly base: bigint;
}

/** A VMCB as far as a dump tells it. Names are those KVM prints, blanks as underscores. */
export interface VmcbFacts {
  /** Control area: `exit_code`, `nested_cr3` …; `intercepts` has two words, the rest one. */
  readonly control: ReadonlyMap<string, readonly bigint[]>;
  /** Save area: `rip`, `cr0`, `efer`, `kernel_gs_base`, `gpat` … */
  readonly save: ReadonlyMap<string, bigint>;
  /** `es cs ss ds fs gs gdtr ldtr idtr tr`. */
  readonly segments: ReadonlyMap<string, VmcbSegment>;
}

export interface OpenVmcb {
  readonly control: Map<string, bigint[]>;
  readonly save: Map<string, bigint>;
  readonly segments: Map<string, VmcbSegment>;
}

export const openVmcb = (): OpenVmcb => ({ control: new Map(), save: new Map(), segments: new Map() });

/** Control-area names that KVM prints in decimal; all others are hexadecimal. */
const DECIMAL: ReadonlySet<string> = new Set([
  "pause filter count",
  "pause filter threshold",
  "asid",
  "tlb_ctl",
  "nested_ctl",
  "virt_ext",
  "misc_ctl",
  "misc_ctl2",
]);
export const CONTROL_NAMES: readonly string[] = [
  ...DECIMAL,
  ...(
    "cr_read cr_write dr_read dr_write exceptions intercepts iopm_base_pa msrpm_base_pa tsc_offset int_ctl int_vector " +
    "int_state exit_code exit_info1 exit_info2 exit_int_info exit_int_info_err nested_cr3 avic_vapic_bar ghcb event_inj " +
    "event_inj_err next_rip avic_backing_page avic_logical_id avic_physical_id vmsa_pa allowed_sev_features " +
    "guest_sev_features exit_int_data event_inj_data"
  ).split(" "),
];
export const SAVE_NAMES: readonly string[] = (
  "vmpl cpl efer cr0 cr2 cr3 cr4 dr6 dr7 rip rflags rsp rax star lstar cstar sfmask kernel_gs_base sysenter_cs " +
  "sysenter_esp sysenter_eip gpat dbgctl br_from br_to excp_from excp_to sev_features rbx rcx rdx rsi rdi rbp r8 r9 " +
  "r10 r11 r12 r13 r14 r15 xcr0 xss"
).split(" ");

const CONTROL = new RegExp(`(?:^|\\s)(${CONTROL_NAMES.join("|")}): *([0-9a-f]+)(?: ([0-9a-f]{8}))?\\s*$`);
const SAVE = new RegExp(`(?:^|\\s)(${SAVE_NAMES.join("|")}):? +([0-9a-f]+)(?=\\s|$)`, "g");
const SEGMENT =
  /(?:^|\s)(es|cs|ss|ds|fs|gs|gdtr|ldtr|idtr|tr): +s: ([0-9a-f]{4}) a: ([0-9a-f]{4}) l: ([0-9a-f]{8}) b: ([0-9a-f]{16})(?![0-9a-f])/;
const XEN_SEGMENT =
  /(?:^|\W)(ES|CS|SS|DS|FS|GS|GDTR|LDTR|IDTR|TR): ([0-9a-f]{4}) ([0-9a-f]{4}) ([0-9a-f]{8}) ([0-9a-f]{16})/;
const XEN_PAIR = /(?:^|\W)(\w+) ?= ?(0x[0-9a-f]+|\d+)(?![\w.])/g;
const XEN_INJECTION = /(?:^|\W)event_inj ([0-9a-f]{16}),/;

/** Xen's name → where it goes: a register of the save area (`save.`) or words of the control area with their shifts. */
const XEN_NAMES: Readonly<Record<string, readonly (readonly [name: string, shift: number, bits: number])[]>> =
  {
    cr_intercepts: [
      ["cr_read", 0, 16],
      ["cr_write", 16, 16],
    ],
    dr_intercepts: [
      ["dr_read", 0, 16],
      ["dr_write", 16, 16],
    ],
    exception_intercepts: [["exceptions", 0, 32]],
    iopm_base_pa: [["iopm_base_pa", 0, 64]],
    msrpm_base_pa: [["msrpm_base_pa", 0, 64]],
    tsc_offset: [["tsc_offset", 0, 64]],
    tlb_control: [["tlb_ctl", 0, 32]],
    vintr: [
      ["int_ctl", 0, 32],
      ["int_vector", 32, 32],
    ],
    int_stat: [["int_state", 0, 32]],
    exitcode: [["exit_code", 0, 64]],
    exit_int_info: [
      ["exit_int_info", 0, 32],
      ["exit_int_info_err", 32, 32],
    ],
    exitinfo1: [["exit_info1", 0, 64]],
    exitinfo2: [["exit_info2", 0, 64]],
    np_ctrl: [["nested_ctl", 0, 64]],
    guest_asid: [["asid", 0, 32]],
    virt_ext: [["virt_ext", 0, 64]],
    H_CR3: [["nested_cr3", 0, 64]],
    CleanBits: [["clean", 0, 32]],
  };
const XEN_SAVE: Readonly<Record<string, string>> = {
  cpl: "cpl",
  efer: "efer",
  star: "star",
  lstar: "lstar",
  CR0: "cr0",
  CR2: "cr2",
  CR3: "cr3",
  CR4: "cr4",
  RSP: "rsp",
  RIP: "rip",
  RAX: "rax",
  RFLAGS: "rflags",
  DR6: "dr6",
  DR7: "dr7",
  CSTAR: "cstar",
  SFMask: "sfmask",
  KernGSBase: "kernel_gs_base",
  PAT: "gpat",
};

const big = (digits: string): bigint => BigInt(`0x${digits}`);
const fits = (digits: string): boolean => digits.length <= 16;

/** Adds what a line of KVM's dump says; whether it is one. */
export function addKvmLine(
  { control, save, segments }: OpenVmcb,
  line: string,
  inSaveArea: boolean,
): boolean {
  if (!inSaveArea) {
    const [, name, first, second] = CONTROL.exec(line) ?? [];
    if (name === undefined || first === undefined || !fits(first)) return false;
    const value = DECIMAL.has(name) ? decimal(first) : padded(first);
    if (value === undefined) return false;
    control.set(name.replaceAll(" ", "_"), second === undefined ? [value] : [value, big(second)]);
    return true;
  }
  const segment = SEGMENT.exec(line);
  if (segment !== null) return addSegment(segments, segment);
  // Fewer digits are a part of a value, at the end of a line that was cut.
  const found = [...line.matchAll(SAVE)].filter(([, name, { length } = ""]) =>
    name === "vmpl" || name === "cpl" ? length < 4 : length === 16,
  );
  // An SEV-ES dump tells RSP and RAX again, from the save area of another width.
  for (const [, name, digits] of found) if (!save.has(name!)) save.set(name!, big(digits!));
  return found.length > 0;
}

/** KVM pads all others to 4, 8 or 16 digits; a number of another length was cut. */
const padded = (digits: string): bigint | undefined =>
  [4, 8, 16].includes(digits.length) ? big(digits) : undefined;

/** KVM prints `%lld`; a large value then is negative, which cannot be matched and is left out. */
const decimal = (digits: string): bigint | undefined => (/^\d+$/.test(digits) ? BigInt(digits) : undefined);

function addSegment(segments: Map<string, VmcbSegment>, match: RegExpExecArray): boolean {
  const [, name, selector, attributes, limit, base] = match;
  segments.set(name!.toLowerCase(), {
    selector: Number(big(selector!)),
    attributes: Number(big(attributes!)),
    limit: Number(big(limit!)),
    base: big(base!),
  });
  return true;
}

/** Adds what a line of Xen's dump says; whether it is one. */
export function addXenLine({ control, save, segments }: OpenVmcb, line: string): boolean {
  const segment = XEN_SEGMENT.exec(line);
  if (segment !== null) return addSegment(segments, segment);
  let found = false;
  const injection = XEN_INJECTION.exec(line)?.[1];
  if (injection !== undefined) {
    control.set("event_inj", [big(injection) & 0xffff_ffffn]);
    control.set("event_inj_err", [big(injection) >> 32n]);
    return true;
  }
  for (const [, name, text] of line.matchAll(XEN_PAIR)) {
    if (!fits(text!.replace("0x", ""))) continue;
    const value = BigInt(text!);
    if (name === "general1_intercepts") control.set("intercepts", [value]);
    else if (name === "general2_intercepts")
      control.set("intercepts", [...(control.get("intercepts") ?? [0n]), value]);
    else if (Object.hasOwn(XEN_SAVE, name!)) save.set(XEN_SAVE[name!]!, value);
    else if (Object.hasOwn(XEN_NAMES, name!)) {
      for (const [target, shift, bits] of XEN_NAMES[name!]!) {
        control.set(target, [BigInt.asUintN(bits, value >> BigInt(shift))]);
      }
    } else continue;
    found = true;
  }
  return found;
}

const KVM_SAVE_AREA = "VMCB State Save Area:";

/**
 * Reads one VMCB dump.
 * @param lines from "VMCB Control Area:" (KVM) or "Dumping guest's current state" (Xen) on; lines between that are of
 * something else are passed over
 */
export function parseVmcbDump(lines: readonly string[]): VmcbFacts {
  const vmcb = openVmcb();
  const xen = lines.some((line) => line.includes("Dumping guest's current state"));
  let inSaveArea = false;
  for (const line of lines) {
    if (line.includes(KVM_SAVE_AREA)) inSaveArea = true;
    else if (xen) addXenLine(vmcb, line);
    else addKvmLine(vmcb, line, inSaveArea);
  }
  return vmcb;
}
