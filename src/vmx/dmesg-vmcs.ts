/**
 * The lines of a VMCS dump in a log: KVM's `dump_vmcs` (arch/x86/kvm/vmx/vmx.c, before 5.0 arch/x86/kvm/vmx.c) of 4.4 to
 * 6.16, and Xen's `vmcs_dump_vcpu` (xen/arch/x86/hvm/vmx/vmcs.c) of 4.2 to 4.20. A line may stand behind any prefix.
 */

/** The part of a dump a line stands in, which some lines do not tell themselves. */
export type DumpSection = "guest" | "host" | "control";

/** What one line says. */
export interface LineFacts {
  /** Field, by KVM's name, and value. */
  readonly fields: readonly (readonly [name: string, value: bigint])[];
  /** Registers that Xen kept beside, in parentheses: `rsp`, `rip`, `rflags`. */
  readonly live: readonly (readonly [name: string, value: bigint])[];
  /** IA32_EFER that is not the field's: from the MSR-load area, or what is in effect. */
  readonly efer: { readonly value: bigint; readonly origin: string } | undefined;
  /** Whether only Xen writes such a line. */
  readonly xen: boolean;
}

interface Pattern {
  readonly section: DumpSection | undefined;
  readonly regex: RegExp;
  /** A field per capture group; "" for a group that is none, `~rip` for one that Xen kept beside. */
  readonly names: readonly string[];
  readonly xen?: boolean;
}

const H = "([0-9a-f]+)";
const X = "(?:0x)?([0-9a-f]+)";
const BESIDE = "(?: \\(0x([0-9a-f]+)\\))?";

const at = (
  section: DumpSection | undefined,
  source: string,
  names: readonly string[],
  xen = false,
): Pattern => ({ section, regex: new RegExp(`(?:^|[^\\w-])${source}`), names, xen });

const controlRegister = (register: string): Pattern =>
  at("guest", `${register}: actual=0x${H}, shadow=0x${H}, gh_mask=${X}`, [
    `GUEST_${register}`,
    `${register}_READ_SHADOW`,
    `${register}_GUEST_HOST_MASK`,
  ]);

const GUEST: readonly Pattern[] = [
  controlRegister("CR0"),
  controlRegister("CR4"),
  at("guest", `CR3 = 0x${H}`, ["GUEST_CR3"]),
  at("guest", `CR3: actual=0x${H}, target_count=${H}`, ["GUEST_CR3", "CR3_TARGET_COUNT"], true),
  at("guest", `target0=${H}, target1=${H}`, ["CR3_TARGET_VALUE0", "CR3_TARGET_VALUE1"], true),
  at("guest", `target2=${H}, target3=${H}`, ["CR3_TARGET_VALUE2", "CR3_TARGET_VALUE3"], true),
  at("guest", `PDPTR0 = 0x${H} +PDPTR1 = 0x${H}`, ["GUEST_PDPTR0", "GUEST_PDPTR1"]),
  at("guest", `PDPTR2 = 0x${H} +PDPTR3 = 0x${H}`, ["GUEST_PDPTR2", "GUEST_PDPTR3"]),
  at("guest", `PDPTE0 = 0x${H} +PDPTE1 = 0x${H}`, ["GUEST_PDPTR0", "GUEST_PDPTR1"], true),
  at("guest", `PDPTE2 = 0x${H} +PDPTE3 = 0x${H}`, ["GUEST_PDPTR2", "GUEST_PDPTR3"], true),
  at("guest", `RSP = 0x${H}${BESIDE},? +RIP = 0x${H}${BESIDE}`, ["GUEST_RSP", "~rsp", "GUEST_RIP", "~rip"]),
  at("guest", `RFLAGS=0x${H}${BESIDE},? +DR7 = 0x${H}`, ["GUEST_RFLAGS", "~rflags", "GUEST_DR7"]),
  at("guest", `Sysenter RSP=${H} CS:RIP=${H}:${H}`, [
    "GUEST_SYSENTER_ESP",
    "GUEST_SYSENTER_CS",
    "GUEST_SYSENTER_EIP",
  ]),
  at("guest", `PAT = 0x${H}`, ["GUEST_IA32_PAT"]),
  at(
    "guest",
    `PreemptionTimer = 0x${H} +SM Base = 0x${H}`,
    ["VMX_PREEMPTION_TIMER_VALUE", "GUEST_SMBASE"],
    true,
  ),
  at("guest", `DebugCtl ?= ?${X} +DebugExceptions ?= ?${X}`, [
    "GUEST_IA32_DEBUGCTL",
    "GUEST_PENDING_DBG_EXCEPTIONS",
  ]),
  at("guest", `PerfGlobCtl = 0x${H}`, ["GUEST_IA32_PERF_GLOBAL_CTRL"]),
  at("guest", `BndCfgS = 0x${H}`, ["GUEST_BNDCFGS"]),
  at("guest", `Interruptibility ?= ?${H} +ActivityState ?= ?${H}`, [
    "GUEST_INTERRUPTIBILITY_INFO",
    "GUEST_ACTIVITY_STATE",
  ]),
  at("guest", `InterruptStatus = ${H}`, ["GUEST_INTR_STATUS"]),
  at("guest", `S_CET = 0x${H}`, ["GUEST_S_CET"]),
  at("guest", `SSP = 0x${H}`, ["GUEST_SSP"]),
  at("guest", `SSP TABLE = 0x${H}`, ["GUEST_INTR_SSP_TABLE"]),
];

const HOST: readonly Pattern[] = [
  at("host", `RIP = 0x${H}(?: \\([^)]*\\))? +RSP = 0x${H}`, ["HOST_RIP", "HOST_RSP"]),
  at("host", `RSP = 0x${H} +RIP = 0x${H}`, ["HOST_RSP", "HOST_RIP"], true),
  ...["CS", "SS", "DS", "ES", "FS", "GS", "TR"].map((register) =>
    at("host", `${register}=([0-9a-f]{4})(?![0-9a-f])`, [`HOST_${register}_SELECTOR`]),
  ),
  at("host", `FSBase=${H} GSBase=${H} TRBase=${H}`, ["HOST_FS_BASE", "HOST_GS_BASE", "HOST_TR_BASE"]),
  at("host", `GDTBase=${H} IDTBase=${H}`, ["HOST_GDTR_BASE", "HOST_IDTR_BASE"]),
  at("host", `CR0=${H} CR3=${H} CR4=${H}`, ["HOST_CR0", "HOST_CR3", "HOST_CR4"]),
  at("host", `Sysenter RSP=${H} CS:RIP=${H}:${H}`, [
    "HOST_IA32_SYSENTER_ESP",
    "HOST_IA32_SYSENTER_CS",
    "HOST_IA32_SYSENTER_EIP",
  ]),
  at("host", `EFER ?= *0x${H}`, ["HOST_IA32_EFER"]),
  at("host", `PAT = 0x${H}`, ["HOST_IA32_PAT"]),
  at("host", `PerfGlobCtl = 0x${H}`, ["HOST_IA32_PERF_GLOBAL_CTRL"]),
  at("host", `S_CET = 0x${H}`, ["HOST_S_CET"]),
  at("host", `SSP = 0x${H}`, ["HOST_SSP"]),
  at("host", `SSP TABLE = 0x${H}`, ["HOST_INTR_SSP_TABLE"]),
];

const event = (prefix: string, names: readonly string[]): Pattern =>
  at("control", `${prefix}: intr_info=${H} errcode=${H} ilen=${H}`, names);

const CONTROL: readonly Pattern[] = [
  at("control", `PinBased=${X}`, ["PIN_BASED_VM_EXEC_CONTROL"]),
  at("control", `CPUBased=${X}`, ["CPU_BASED_VM_EXEC_CONTROL"]),
  at("control", `SecondaryExec=${X}`, ["SECONDARY_VM_EXEC_CONTROL"]),
  at("control", `TertiaryExec=${X}`, ["TERTIARY_VM_EXEC_CONTROL"]),
  at("control", `EntryControls=${X}`, ["VM_ENTRY_CONTROLS"]),
  at("control", `ExitControls=${X}`, ["VM_EXIT_CONTROLS"]),
  at("control", `ExceptionBitmap=${H}`, ["EXCEPTION_BITMAP"]),
  at("control", `PFECmask=${H} PFECmatch=${H}`, [
    "PAGE_FAULT_ERROR_CODE_MASK",
    "PAGE_FAULT_ERROR_CODE_MATCH",
  ]),
  event("VMEntry", ["VM_ENTRY_INTR_INFO_FIELD", "VM_ENTRY_EXCEPTION_ERROR_CODE", "VM_ENTRY_INSTRUCTION_LEN"]),
  event("VMExit", ["VM_EXIT_INTR_INFO", "VM_EXIT_INTR_ERROR_CODE", "VM_EXIT_INSTRUCTION_LEN"]),
  at("control", `reason=${H} qualification=${H}`, ["VM_EXIT_REASON", "EXIT_QUALIFICATION"]),
  at("control", `IDTVectoring: info=${H} errcode=${H}`, [
    "IDT_VECTORING_INFO_FIELD",
    "IDT_VECTORING_ERROR_CODE",
  ]),
  at(undefined, `TSC Offset = ${X}`, ["TSC_OFFSET"]),
  at("control", `TSC Multiplier = 0x${H}`, ["TSC_MULTIPLIER"]),
  at("control", `TPR Threshold = 0x${H}`, ["TPR_THRESHOLD"]),
  at("control", `PostedIntrVec = 0x${H}`, ["POSTED_INTR_NV"]),
  at("control", `APIC-access addr = 0x${H}`, ["APIC_ACCESS_ADDR"]),
  at("control", `virt-APIC addr = 0x${H}`, ["VIRTUAL_APIC_PAGE_ADDR"]),
  at("control", `EPT pointer = 0x${H}`, ["EPT_POINTER"]),
  at("control", `EPTP index = 0x${H}`, ["EPTP_INDEX"], true),
  ...[0, 1, 2, 3].map((index) => at("control", `target${index}=${H}`, [`CR3_TARGET_VALUE${index}`], true)),
  at("control", `PLE Gap=${H} Window=${H}`, ["PLE_GAP", "PLE_WINDOW"]),
  at("control", `Virtual processor ID = 0x${H}`, ["VIRTUAL_PROCESSOR_ID"]),
  at("control", `VMfunc controls = ${H}`, ["VM_FUNCTION_CONTROL"], true),
  at("control", `VE info address = 0x${H}`, ["VE_INFORMATION_ADDRESS"]),
];

const PATTERNS: readonly Pattern[] = [...GUEST, ...HOST, ...CONTROL];

const SEGMENT =
  /(?:^|\W)(CS|DS|SS|ES|FS|GS|LDTR|TR): *sel=0x([0-9a-f]+), attr=0x([0-9a-f]+), limit=0x([0-9a-f]+), base=0x([0-9a-f]+)/;
const XEN_SEGMENT =
  /(?:^|\W)(CS|DS|SS|ES|FS|GS|LDTR|TR): ([0-9a-f]{4}) ([0-9a-f]{5}) ([0-9a-f]{8}) ([0-9a-f]{16})/;
const TABLE = /(?:^|\W)(GDTR|IDTR): +limit=0x([0-9a-f]+), base=0x([0-9a-f]+)/;
const XEN_TABLE = /(?:^|\W)(GDTR|IDTR): +([0-9a-f]{8}) ([0-9a-f]{16})/;
const EFER = /(?:^|\W)EFER(?:\((VMCS|MSR LL)\))? ?= *0x([0-9a-f]+)(?: \((autoload|effective)\))?/;
const INTERRUPT_STATUS = /SVI\|RVI = ([0-9a-f]{2})\|([0-9a-f]{2})/;

const big = (digits: string): bigint => BigInt(`0x${digits}`);
const fits = (digits: string | undefined): digits is string => digits !== undefined && digits.length <= 16;

/** What a line says in a section; no fields when it is no line of a dump. */
export function readVmcsLine(line: string, section: DumpSection): LineFacts {
  const fields: [string, bigint][] = [];
  const live: [string, bigint][] = [];
  let xen = line.includes("(XEN)");
  for (const pattern of PATTERNS) {
    if (pattern.section !== undefined && pattern.section !== section) continue;
    const match = pattern.regex.exec(line);
    if (match === null) continue;
    pattern.names.forEach((name, group) => {
      const digits = match[group + 1];
      if (!fits(digits)) return;
      if (name.startsWith("~")) live.push([name.slice(1), big(digits)]);
      else fields.push([name, big(digits)]);
    });
    xen ||= pattern.xen === true;
  }
  const guest = section === "guest" ? readGuestLine(line) : undefined;
  if (section === "control") fields.push(...interruptStatus(line));
  return {
    fields: [...fields, ...(guest?.fields ?? [])],
    live,
    efer: guest?.efer,
    xen: xen || live.length > 0 || guest?.xen === true,
  };
}

function readGuestLine(line: string): Omit<LineFacts, "live"> {
  const [kvmSegment, xenSegment] = [SEGMENT.exec(line), XEN_SEGMENT.exec(line)];
  const [kvmTable, xenTable] = [TABLE.exec(line), XEN_TABLE.exec(line)];
  const efer = EFER.exec(line);
  const fields: [string, bigint][] = [];
  const segment = kvmSegment ?? xenSegment;
  if (segment !== null) {
    const [, register, ...values] = segment;
    ["SELECTOR", "AR_BYTES", "LIMIT", "BASE"].forEach((part, i) => {
      if (fits(values[i])) fields.push([`GUEST_${register}_${part}`, big(values[i])]);
    });
  }
  const table = kvmTable ?? xenTable;
  if (table !== null) {
    const [, register, ...values] = table;
    ["LIMIT", "BASE"].forEach((part, i) => {
      if (fits(values[i])) fields.push([`GUEST_${register}_${part}`, big(values[i])]);
    });
  }
  const elsewhere = efer?.[3] ?? (efer?.[1] === "MSR LL" ? "MSR load-only list" : undefined);
  const value = efer?.[2];
  if (fits(value) && elsewhere === undefined) fields.push(["GUEST_IA32_EFER", big(value)]);
  return {
    fields,
    efer: fits(value) && elsewhere !== undefined ? { value: big(value), origin: elsewhere } : undefined,
    xen: xenSegment !== null || xenTable !== null || efer?.[1] !== undefined,
  };
}

function interruptStatus(line: string): [string, bigint][] {
  const match = INTERRUPT_STATUS.exec(line);
  return match === null ? [] : [["GUEST_INTR_STATUS", (big(match[1]!) << 8n) | big(match[2]!)]];
}
