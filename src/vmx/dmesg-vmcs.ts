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
  /** Whether it is in every dump that was not cut, or another with the same fields is. */
  readonly always?: boolean;
}

/** A number of so many digits: with fewer it was cut, at the end of a line. */
const number = (...lengths: readonly string[]): string =>
  `(${lengths.map((length) => `[0-9a-f]{${length}}`).join("|")})(?![0-9a-f])`;
const [H2, H4, H8, H16] = [number("2,4"), number("4,8"), number("8"), number("16")];
const [X8, X16] = [`(?:0x)?${H8}`, `(?:0x)?${H16}`];
const FLAGS = number("8,16");
/** Xen before 4.7 prints the low half. */
const QUALIFICATION = number("16", "8");
const beside = (number: string): string => `(?: \\(0x${number}\\))?`;

const at = (
  section: DumpSection | undefined,
  source: string,
  names: readonly string[],
  xen = false,
): Pattern => ({ section, regex: new RegExp(`(?:^|[^\\w-])${source}`), names, xen });

/** A line that every version prints. */
const always = (section: DumpSection, source: string, names: readonly string[]): Pattern => ({
  ...at(section, source, names),
  always: true,
});

const controlRegister = (register: string): Pattern =>
  always("guest", `${register}: actual=0x${H16}, shadow=0x${H16}, gh_mask=${X16}`, [
    `GUEST_${register}`,
    `${register}_READ_SHADOW`,
    `${register}_GUEST_HOST_MASK`,
  ]);

const INTERRUPTIBILITY = ["GUEST_INTERRUPTIBILITY_INFO", "GUEST_ACTIVITY_STATE"];

const GUEST: readonly Pattern[] = [
  controlRegister("CR0"),
  controlRegister("CR4"),
  always("guest", `CR3 = 0x${H16}`, ["GUEST_CR3"]),
  at("guest", `CR3: actual=0x${H16}, target_count=${number("1,8")}`, ["GUEST_CR3", "CR3_TARGET_COUNT"], true),
  at("guest", `target0=${H16}, target1=${H16}`, ["CR3_TARGET_VALUE0", "CR3_TARGET_VALUE1"], true),
  at("guest", `target2=${H16}, target3=${H16}`, ["CR3_TARGET_VALUE2", "CR3_TARGET_VALUE3"], true),
  at("guest", `PDPTR0 = 0x${H16} +PDPTR1 = 0x${H16}`, ["GUEST_PDPTR0", "GUEST_PDPTR1"]),
  at("guest", `PDPTR2 = 0x${H16} +PDPTR3 = 0x${H16}`, ["GUEST_PDPTR2", "GUEST_PDPTR3"]),
  at("guest", `PDPTE0 = 0x${H16} +PDPTE1 = 0x${H16}`, ["GUEST_PDPTR0", "GUEST_PDPTR1"], true),
  at("guest", `PDPTE2 = 0x${H16} +PDPTE3 = 0x${H16}`, ["GUEST_PDPTR2", "GUEST_PDPTR3"], true),
  always("guest", `RSP = 0x${H16}${beside(H16)},? +RIP = 0x${H16}${beside(H16)}`, [
    "GUEST_RSP",
    "~rsp",
    "GUEST_RIP",
    "~rip",
  ]),
  always("guest", `RFLAGS=0x${FLAGS}${beside(FLAGS)},? +DR7 = 0x${H16}`, [
    "GUEST_RFLAGS",
    "~rflags",
    "GUEST_DR7",
  ]),
  always("guest", `Sysenter RSP=${H16} CS:RIP=${H4}:${H16}`, [
    "GUEST_SYSENTER_ESP",
    "GUEST_SYSENTER_CS",
    "GUEST_SYSENTER_EIP",
  ]),
  at("guest", `PAT = 0x${H16}`, ["GUEST_IA32_PAT"]),
  at(
    "guest",
    `PreemptionTimer = 0x${H8} +SM Base = 0x${H8}`,
    ["VMX_PREEMPTION_TIMER_VALUE", "GUEST_SMBASE"],
    true,
  ),
  always("guest", `DebugCtl ?= ?${X16} +DebugExceptions ?= ?${X16}`, [
    "GUEST_IA32_DEBUGCTL",
    "GUEST_PENDING_DBG_EXCEPTIONS",
  ]),
  at("guest", `PerfGlobCtl = 0x${H16}`, ["GUEST_IA32_PERF_GLOBAL_CTRL"]),
  at("guest", `BndCfgS = 0x${H16}`, ["GUEST_BNDCFGS"]),
  always("guest", `Interruptibility = ${H8} +ActivityState = ${H8}`, INTERRUPTIBILITY),
  at("guest", `Interruptibility=${H4} ActivityState=${H4}`, INTERRUPTIBILITY, true),
  at("guest", `InterruptStatus = ${H4}`, ["GUEST_INTR_STATUS"]),
  at("guest", `S_CET = 0x${H16}`, ["GUEST_S_CET"]),
  at("guest", `SSP = 0x${H16}`, ["GUEST_SSP"]),
  at("guest", `SSP TABLE = 0x${H16}`, ["GUEST_INTR_SSP_TABLE"]),
];

const HOST: readonly Pattern[] = [
  always("host", `RIP = 0x${H16}(?: \\([^)]*\\))? +RSP = 0x${H16}`, ["HOST_RIP", "HOST_RSP"]),
  at("host", `RSP = 0x${H16} +RIP = 0x${H16}`, ["HOST_RSP", "HOST_RIP"], true),
  ...["CS", "SS", "DS", "ES", "FS", "GS", "TR"].map((register) =>
    always("host", `${register}=${H4}`, [`HOST_${register}_SELECTOR`]),
  ),
  always("host", `FSBase=${H16} GSBase=${H16} TRBase=${H16}`, [
    "HOST_FS_BASE",
    "HOST_GS_BASE",
    "HOST_TR_BASE",
  ]),
  always("host", `GDTBase=${H16} IDTBase=${H16}`, ["HOST_GDTR_BASE", "HOST_IDTR_BASE"]),
  always("host", `CR0=${H16} CR3=${H16} CR4=${H16}`, ["HOST_CR0", "HOST_CR3", "HOST_CR4"]),
  always("host", `Sysenter RSP=${H16} CS:RIP=${H4}:${H16}`, [
    "HOST_IA32_SYSENTER_ESP",
    "HOST_IA32_SYSENTER_CS",
    "HOST_IA32_SYSENTER_EIP",
  ]),
  at("host", `EFER ?= *0x${H16}`, ["HOST_IA32_EFER"]),
  at("host", `PAT = 0x${H16}`, ["HOST_IA32_PAT"]),
  at("host", `PerfGlobCtl = 0x${H16}`, ["HOST_IA32_PERF_GLOBAL_CTRL"]),
  at("host", `S_CET = 0x${H16}`, ["HOST_S_CET"]),
  at("host", `SSP = 0x${H16}`, ["HOST_SSP"]),
  at("host", `SSP TABLE = 0x${H16}`, ["HOST_INTR_SSP_TABLE"]),
];

const event = (prefix: string, names: readonly string[]): Pattern =>
  always("control", `${prefix}: intr_info=${H8} errcode=${H8} ilen=${H8}`, names);

const CONTROL: readonly Pattern[] = [
  always("control", `PinBased=${X8}`, ["PIN_BASED_VM_EXEC_CONTROL"]),
  always("control", `CPUBased=${X8}`, ["CPU_BASED_VM_EXEC_CONTROL"]),
  always("control", `SecondaryExec=${X8}`, ["SECONDARY_VM_EXEC_CONTROL"]),
  at("control", `TertiaryExec=${X16}`, ["TERTIARY_VM_EXEC_CONTROL"]),
  always("control", `EntryControls=${X8}`, ["VM_ENTRY_CONTROLS"]),
  always("control", `ExitControls=${X8}`, ["VM_EXIT_CONTROLS"]),
  always("control", `ExceptionBitmap=${H8}`, ["EXCEPTION_BITMAP"]),
  at("control", `PFECmask=${H8} PFECmatch=${H8}`, [
    "PAGE_FAULT_ERROR_CODE_MASK",
    "PAGE_FAULT_ERROR_CODE_MATCH",
  ]),
  event("VMEntry", ["VM_ENTRY_INTR_INFO_FIELD", "VM_ENTRY_EXCEPTION_ERROR_CODE", "VM_ENTRY_INSTRUCTION_LEN"]),
  event("VMExit", ["VM_EXIT_INTR_INFO", "VM_EXIT_INTR_ERROR_CODE", "VM_EXIT_INSTRUCTION_LEN"]),
  always("control", `reason=${H8} qualification=${QUALIFICATION}`, ["VM_EXIT_REASON", "EXIT_QUALIFICATION"]),
  always("control", `IDTVectoring: info=${H8} errcode=${H8}`, [
    "IDT_VECTORING_INFO_FIELD",
    "IDT_VECTORING_ERROR_CODE",
  ]),
  at(undefined, `TSC Offset = ${X16}`, ["TSC_OFFSET"]),
  at("control", `TSC Multiplier = 0x${H16}`, ["TSC_MULTIPLIER"]),
  at("control", `TPR Threshold = 0x${H2}`, ["TPR_THRESHOLD"]),
  at("control", `PostedIntrVec = 0x${H2}`, ["POSTED_INTR_NV"]),
  at("control", `APIC-access addr = 0x${H16}`, ["APIC_ACCESS_ADDR"]),
  at("control", `virt-APIC addr = 0x${H16}`, ["VIRTUAL_APIC_PAGE_ADDR"]),
  at("control", `EPT pointer = 0x${H16}`, ["EPT_POINTER"]),
  at("control", `EPTP index = 0x${H4}`, ["EPTP_INDEX"], true),
  ...[0, 1, 2, 3].map((index) => at("control", `target${index}=${H16}`, [`CR3_TARGET_VALUE${index}`], true)),
  at("control", `PLE Gap=${H8} Window=${H8}`, ["PLE_GAP", "PLE_WINDOW"]),
  at("control", `Virtual processor ID = 0x${H4}`, ["VIRTUAL_PROCESSOR_ID"]),
  at("control", `VMfunc controls = ${H16}`, ["VM_FUNCTION_CONTROL"], true),
  at("control", `VE info address = 0x${H16}`, ["VE_INFORMATION_ADDRESS"]),
];

const PATTERNS: readonly Pattern[] = [...GUEST, ...HOST, ...CONTROL];

const PARTS = ["SELECTOR", "AR_BYTES", "LIMIT", "BASE"] as const;
const TABLE_PARTS = ["LIMIT", "BASE"] as const;
const partsOf = (registers: string, parts: readonly string[]): string[] =>
  registers.split(" ").flatMap((register) => parts.map((part) => `GUEST_${register}_${part}`));

/** Fields that every version prints, whatever the controls are. */
export const ALWAYS_PRINTED: Readonly<Record<DumpSection, readonly string[]>> = {
  guest: [
    ...namesIn(GUEST),
    ...partsOf("CS DS SS ES FS GS LDTR TR", PARTS),
    ...partsOf("GDTR IDTR", TABLE_PARTS),
  ],
  host: namesIn(HOST),
  control: [...namesIn(CONTROL), "TSC_OFFSET"],
};

function namesIn(patterns: readonly Pattern[]): string[] {
  return patterns.flatMap(({ always, names }) =>
    always ? names.filter((name) => !name.startsWith("~")) : [],
  );
}

const SEGMENT = new RegExp(
  `(?:^|\\W)(CS|DS|SS|ES|FS|GS|LDTR|TR): *sel=0x${H4}, attr=0x${H4}, limit=0x${H8}, base=0x${H16}`,
);
const XEN_SEGMENT = new RegExp(`(?:^|\\W)(CS|DS|SS|ES|FS|GS|LDTR|TR): ${H4} ([0-9a-f]{5}) ${H8} ${H16}`);
const TABLE = new RegExp(`(?:^|\\W)(GDTR|IDTR): +limit=0x${H8}, base=0x${H16}`);
const XEN_TABLE = new RegExp(`(?:^|\\W)(GDTR|IDTR): +${H8} ${H16}`);
const EFER = new RegExp(
  `(?:^|\\W)EFER(?:\\((VMCS|MSR LL)\\))? ?= *0x${H16}(?: \\((autoload|effective)\\)|(?! \\())`,
);
const INTERRUPT_STATUS = /SVI\|RVI = ([0-9a-f]{2})\|([0-9a-f]{2})/;

const big = (digits: string): bigint => BigInt(`0x${digits}`);

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
      if (digits === undefined) return;
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
    PARTS.forEach((part, i) => {
      fields.push([`GUEST_${register}_${part}`, big(values[i]!)]);
    });
  }
  const table = kvmTable ?? xenTable;
  if (table !== null) {
    const [, register, ...values] = table;
    TABLE_PARTS.forEach((part, i) => {
      fields.push([`GUEST_${register}_${part}`, big(values[i]!)]);
    });
  }
  const elsewhere = efer?.[3] ?? (efer?.[1] === "MSR LL" ? "MSR load-only list" : undefined);
  const value = efer?.[2];
  if (value !== undefined && elsewhere === undefined) fields.push(["GUEST_IA32_EFER", big(value)]);
  return {
    fields,
    efer:
      value !== undefined && elsewhere !== undefined ? { value: big(value), origin: elsewhere } : undefined,
    xen: xenSegment !== null || xenTable !== null || efer?.[1] !== undefined,
  };
}

function interruptStatus(line: string): [string, bigint][] {
  const match = INTERRUPT_STATUS.exec(line);
  return match === null ? [] : [["GUEST_INTR_STATUS", (big(match[1]!) << 8n) | big(match[2]!)]];
}
