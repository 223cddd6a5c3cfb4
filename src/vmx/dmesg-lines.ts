import { CONTROL_NAMES, SAVE_NAMES } from "./dmesg-vmcb.ts";

/**
 * What happens to the lines of a dump on their way into a file: a terminal's colours come in between, and a mailer or a
 * narrow terminal wraps them at blanks.
 */

/** CSI and OSC sequences, other strings for the terminal, and ESC with one character. */
const ESCAPE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences consist of them
  /\x1b(?:\[[0-?]*[ -/]*[@-~]?|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[ -/]*[0-~])?/g;

export const withoutEscapes = (line: string): string =>
  line.includes("\x1b") ? line.replace(ESCAPE, "") : line;

const SELECTORS = ["CS", "DS", "SS", "ES", "FS", "GS", "LDTR", "TR"];
const TABLES = ["GDTR", "IDTR"];

/** Lines that begin a dump or a part of one, or stand in front; `#` is a number, `@` a word. */
const BEGINNINGS = [
  "*** Guest State ***",
  "*** Host State ***",
  "*** Control State ***",
  "VMCS @, last attempted VM-entry on CPU #",
  "SVM vCPU# VMCB @, last attempted VMRUN on CPU #",
  "VMCB @, last attempted VMRUN on CPU #",
  "VMCB Control Area:",
  "VMCB State Save Area:",
  "Dumping guest's current state at @",
  "set kvm_intel.dump_invalid_vmcs=1 to dump internal KVM state.",
  "set kvm_amd.dump_invalid_vmcb=1 to dump internal KVM state.",
  "kvm [#]: vcpu#, guest rIP: # vmx: unexpected exit reason #",
  "kvm [#]: vcpu#, guest rIP: # svm: unexpected exit reason #",
  "vmx: unexpected exit reason #",
  "svm: unexpected exit reason #",
  ">>> Domain # <<<",
  "VCPU #",
  "d#v# vmentry failure (reason #): Invalid guest state (#)",
  "d#v# vmentry failure (reason #): MSR loading (entry #)",
  "VMLAUNCH error: #",
  "VMRESUME error: #",
];

const VMCS_LINES = [
  "CR0: actual=#, shadow=#, gh_mask=#",
  "CR4: actual=#, shadow=#, gh_mask=#",
  "CR3 = #",
  "CR3: actual=#, target_count=#",
  "target0=#, target1=#",
  "target2=#, target3=#",
  "CR3 target#=# target#=#",
  "PDPTR0 = # PDPTR1 = #",
  "PDPTR2 = # PDPTR3 = #",
  "PDPTE0 = # PDPTE1 = #",
  "PDPTE2 = # PDPTE3 = #",
  "RSP = # RIP = #",
  "RSP = # (#) RIP = # (#)",
  "RSP = # (#), RIP = # (#)",
  "RFLAGS=# DR7 = #",
  "RFLAGS=# (#) DR7 = #",
  "RFLAGS=# (#), DR7 = #",
  "Sysenter RSP=# CS:RIP=#:#",
  ...SELECTORS.map((name) => `${name}: sel=#, attr=#, limit=#, base=#`),
  ...TABLES.map((name) => `${name}: limit=#, base=#`),
  "EFER= # (effective)",
  "EFER= # (autoload)",
  "EFER = # PAT = #",
  "EFER(VMCS) = # PAT = #",
  "EFER(MSR LL) = # PAT = #",
  "PAT = #",
  "Guest PAT = #",
  "Host PAT = #",
  "PreemptionTimer = # SM Base = #",
  "DebugCtl = # DebugExceptions = #",
  "DebugCtl=# DebugExceptions=#",
  "PerfGlobCtl = # BndCfgS = #",
  "BndCfgS = #",
  "Interruptibility = # ActivityState = #",
  "Interruptibility=# ActivityState=#",
  "InterruptStatus = #",
  "S_CET = #",
  "SSP = #",
  "SSP TABLE = #",
  "MSR guest autoload:",
  "MSR guest autostore:",
  "MSR host autoload:",
  "#: msr=# value=#",
  "RIP = # RSP = #",
  "RIP = # (@) RSP = #",
  "CS=# SS=# DS=# ES=# FS=# GS=# TR=#",
  "CS=# DS=# ES=# FS=# GS=# SS=# TR=#",
  "FSBase=# GSBase=# TRBase=#",
  "GDTBase=# IDTBase=#",
  "CR0=# CR3=# CR4=#",
  "PinBased=# CPUBased=# SecondaryExec=#",
  "CPUBased=# SecondaryExec=# TertiaryExec=#",
  "PinBased=# EntryControls=# ExitControls=#",
  "EntryControls=# ExitControls=#",
  "ExceptionBitmap=# PFECmask=# PFECmatch=#",
  "VMEntry: intr_info=# errcode=# ilen=#",
  "VMExit: intr_info=# errcode=# ilen=#",
  "reason=# qualification=#",
  "IDTVectoring: info=# errcode=#",
  "TSC Offset = # TSC Multiplier = #",
  "TSC Multiplier = #",
  "SVI|RVI = #|# TPR Threshold = #",
  "TPR Threshold = # PostedIntrVec = #",
  "APIC-access addr = # virt-APIC addr = #",
  "virt-APIC addr = #",
  "PostedIntrVec = #",
  "EPT pointer = # EPTP index = #",
  "PLE Gap=# Window=#",
  "Virtual processor ID = # VMfunc controls = #",
  "VE info address = #",
];

/** KVM prints two registers a line, Xen up to four. */
const VMCB_LINES = [
  ...CONTROL_NAMES.map((name) => `${name}: #`),
  "pause filter threshold:#",
  "allowed_sev_features:#",
  "intercepts: # #",
  ...["es", "cs", "ss", "ds", "fs", "gs", "gdtr", "ldtr", "idtr", "tr"].map(
    (name) => `${name}: s: # a: # l: # b: #`,
  ),
  "vmpl: # cpl: # efer: #",
  ...SAVE_NAMES.map((name) => `${name}: # @: #`),
  "sev_features #",
  "cr_intercepts = # dr_intercepts = # exception_intercepts = #",
  "general1_intercepts = # general2_intercepts = #",
  "iopm_base_pa = # msrpm_base_pa = # tsc_offset = #",
  "tlb_control = # vintr = # int_stat = #",
  "event_inj #, valid? #, ec? #, type #, vector #",
  "exitcode = # exit_int_info = #",
  "exitinfo1 = # exitinfo2 = #",
  "np_ctrl = # guest_asid = #",
  "virtual vmload/vmsave = #, virt_ext = #",
  "cpl = # efer = # star = # lstar = #",
  "CR0 = # CR2 = #",
  "CR3 = # CR4 = #",
  "RAX = # RFLAGS=#",
  "DR6 = #, DR7 = #",
  "CSTAR = # SFMask = #",
  "KernGSBase = # PAT = #",
  "H_CR3 = # CleanBits = #",
];

/** Xen's segments, in a VMCS and in a VMCB. */
const XEN_LINES = [...SELECTORS, ...TABLES].map((name) => `${name}: # # # #`);

interface Shape {
  /** What matches where a line ends in the middle of one. */
  readonly begun: string;
  /** Matches to the end of two lines, a newline between them, as far as the two go. */
  readonly joined: RegExp;
}

const shapeOf = (words: readonly string[], boundary: string): Shape => ({
  begun: `${boundary}${nested(words.slice(0, -1), " +", "")}`,
  joined: new RegExp(`${boundary}${nested(words, "[ \\n]+", "\\n?")}$`),
});

/** The first of the words, and as many of those that follow as there are; some tools break words behind a hyphen. */
const nested = (words: readonly string[], blank: string, hyphened: string): string =>
  words.reduceRight((rest, word) => `${word}(?:${word.endsWith("-") ? hyphened : blank}${rest})?`);

const wordsOf = (line: string): string[] => line.split(/ |(?<=-)/).map(wordOf);

const wordOf = (text: string): string =>
  text
    .replace(/[.*+?^${}()|[\]\\]/g, "\\$&")
    .replaceAll("#", "(?:0x)?[0-9a-f]+")
    .replaceAll("@", "\\S+");

const shapesOf = (lines: readonly string[]): Shape[] =>
  lines
    .filter((line) => line.includes(" "))
    .map((line) => shapeOf(wordsOf(line), /^[\w#]/.test(line) ? "(?<![\\w-])" : ""));

const LINES = [...BEGINNINGS, ...VMCS_LINES, ...VMCB_LINES, ...XEN_LINES];

/** The caller in front of a line (CONFIG_PRINTK_CALLER), which tells dumps apart; wrapped within or behind it. */
const CALLER = ["\\]\\[", "[TC]\\d+\\]"];
const ANY_LINE = `(?:${[...new Set(LINES.map((line) => wordOf(line.split(" ")[0]!)))].join("|")})(?:[ \\n].*)?`;
const CALLERS = [shapeOf([...CALLER, ANY_LINE], ""), shapeOf([...CALLER, "[\\w-]+:", ANY_LINE], "")];

const FIRST = shapesOf(BEGINNINGS);
const ALL = shapesOf(LINES);
const begunOf = (shapes: readonly Shape[]): RegExp =>
  new RegExp(`(?:${shapes.map(({ begun }) => begun).join("|")})$`);
const [BEGUN_OUTSIDE, BEGUN_WITHIN] = [begunOf([...CALLERS, ...FIRST]), begunOf([...CALLERS, ...ALL])];

/** The longest line that is wrapped: prefixes of the journal, the log and the caller, and 90 characters of a dump. */
const MAX_LENGTH = 300;
/** What a reply or a viewer puts in front of every line. */
const QUOTE = /^[\s>|]+/;

/**
 * Whether a line ends where no line of a dump does, so that the next may go on with it.
 * @param within whether a dump has begun; otherwise it can only be a line that begins one
 */
export const isUnfinished = (line: string, within: boolean): boolean =>
  line.length <= MAX_LENGTH && (within ? BEGUN_WITHIN : BEGUN_OUTSIDE).test(line.trimEnd());

/**
 * An unfinished line with the next one, where that holds exactly what comes next in a line of a dump; undefined where it
 * is a line of its own. A log that was not wrapped has no such pairs but those that say the same on one line.
 * @param callers whether a line may be of the caller at the end of the line before; not within a dump of no caller
 */
export function rejoined(line: string, next: string, callers: boolean): string | undefined {
  const [head, tail] = [line.trimEnd(), next.replace(QUOTE, "").trimEnd()];
  if (head.length + tail.length > MAX_LENGTH) return undefined;
  const both = `${head}\n${tail}`;
  const goesOn = ({ joined }: Shape): boolean => joined.exec(both)?.[0].includes("\n") === true;
  if (!ALL.some(goesOn) && !(callers && CALLERS.some(goesOn))) return undefined;
  return head.endsWith("-") ? `${head}${tail}` : `${head} ${tail}`;
}
