import { hex, hex64 } from "../core/text.ts";
import { CR0_PE, RFLAGS_FIXED } from "../x86/registers.ts";
import {
  CR0_KNOWN,
  CR4_KNOWN,
  EFER_KNOWN,
  EFER_SVME,
  eventOf,
  interceptsVmrun,
  isCanonical,
  isPat,
  modeProblem,
  PHYSICAL_BITS,
  RFLAGS_MASK,
  usesNestedPaging,
} from "./bits.ts";
import { exitCodeName } from "./exit-codes.ts";
import { SAVE_AREA, type VmcbFieldName } from "./fields.ts";
import { fieldNumber, fieldValue, type Vmcb } from "./vmcb.ts";

export interface ScoreCheck {
  /** Stable name. */
  readonly check: string;
  readonly passed: boolean;
  /** What was seen. */
  readonly detail: string;
}

/** How much a page looks like a VMCB or host save area: one point a check. */
export interface Score {
  readonly checks: readonly ScoreCheck[];
  readonly passed: number;
  readonly total: number;
  /** `passed` as a share of `total`, 0 to 1. */
  readonly value: number;
}

/** Share of the checks that a page must pass to be called one. */
const ENOUGH = 0.8;
export const isConvincing = ({ value }: Score): boolean => value >= ENOUGH;

type Verdict = readonly [passed: boolean, detail: string];
type Check = readonly [check: string, judge: (vmcb: Vmcb) => Verdict];

const PAGE = 4096n;
const LIMIT = 1n << BigInt(PHYSICAL_BITS);
const isPagePointer = (value: bigint): boolean => value !== 0n && value < LIMIT && value % PAGE === 0n;

const show = (vmcb: Vmcb, ...names: VmcbFieldName[]): string =>
  names.map((name) => `${name} ${hex(fieldValue(vmcb, name))}`).join(", ");
/** Passes when a field has no bits but those of a mask. */
const within = (name: VmcbFieldName, mask: bigint): Check => [
  name,
  (vmcb) => [(fieldValue(vmcb, name) & ~mask) === 0n, show(vmcb, name)],
];

/** Beyond what any processor has: 32768 on server parts. */
const MAX_ASID = 0xffff;
const TLB_CONTROLS: ReadonlySet<number> = new Set([0, 1, 3, 7]);
/** V_TPR, V_IRQ, V_GIF, V_NMI, V_NMI_MASK, V_INTR_PRIO, V_IGN_TPR, V_INTR_MASKING, enables (Table B-1, 060h). */
const INT_CTL_KNOWN = 0xc71f_1b0f;

const CONTROL_CHECKS: readonly Check[] = [
  ["vmrun-intercept", (vmcb) => [interceptsVmrun(vmcb), show(vmcb, "intercept_word4")]],
  within("intercept_word5", 0x7fn),
  ["asid", (vmcb) => [isBetween(fieldNumber(vmcb, "asid"), 1, MAX_ASID), show(vmcb, "asid")]],
  ["tlb_ctl", (vmcb) => [TLB_CONTROLS.has(fieldNumber(vmcb, "tlb_ctl")), show(vmcb, "tlb_ctl")]],
  ["permission-maps", mapsVerdict],
  ["nested-root", rootVerdict],
  ["exit_code", exitVerdict],
  ["virtual-interrupts", interruptVerdict],
  ["events", eventVerdict],
  within("nested_ctl", 0xfffn),
  within("virt_ext", 0xfn),
  ["control-reserved", (vmcb) => reservedVerdict(vmcb, 0, SAVE_AREA)],
  ["pat", patVerdict],
];

const SAVE_CHECKS: readonly Check[] = [
  [
    "efer",
    (vmcb) => {
      const efer = fieldValue(vmcb, "efer");
      return [(efer & EFER_SVME) !== 0n && (efer & ~EFER_KNOWN) === 0n, show(vmcb, "efer")];
    },
  ],
  within("cr0", CR0_KNOWN),
  within("cr4", CR4_KNOWN),
  ["mode", modeVerdict],
  ["rflags", (vmcb) => [(fieldValue(vmcb, "rflags") & RFLAGS_MASK) === RFLAGS_FIXED, show(vmcb, "rflags")]],
  ["addresses", addressVerdict],
  ["cpl", cplVerdict],
  ["segments", segmentVerdict],
  ["code-segment", codeVerdict],
  ["system-segments", systemVerdict],
  ["tables", tableVerdict],
  ["debug-registers", debugVerdict],
  ["save-reserved", (vmcb) => reservedVerdict(vmcb, SAVE_AREA, Number.POSITIVE_INFINITY)],
];

const HOST_CHECKS: readonly Check[] = [
  ["control-unused", (vmcb) => [vmcb.controlUnused, "the control area is zero"]],
  ["host-rax", hostRaxVerdict],
];

/** Scores a decoded page, as a host save area where the control area is zero, else as a VMCB. */
export function scoreVmcb(vmcb: Vmcb): Score {
  const applicable = [...(vmcb.controlUnused ? HOST_CHECKS : CONTROL_CHECKS), ...SAVE_CHECKS];
  const checks = applicable.map(([check, judge]): ScoreCheck => {
    const [passed, detail] = judge(vmcb);
    return { check, passed, detail };
  });
  const passed = checks.filter((check) => check.passed).length;
  return { checks, passed, total: checks.length, value: passed / checks.length };
}

const isBetween = (value: number, low: number, high: number): boolean => value >= low && value <= high;

function mapsVerdict(vmcb: Vmcb): Verdict {
  const io = fieldValue(vmcb, "iopm_base_pa");
  const msr = fieldValue(vmcb, "msrpm_base_pa");
  return [isPagePointer(io) && isPagePointer(msr) && io !== msr, show(vmcb, "iopm_base_pa", "msrpm_base_pa")];
}

/** The low bits of N_CR3 may be PCD and PWT. */
function rootVerdict(vmcb: Vmcb): Verdict {
  if (!usesNestedPaging(vmcb)) return [true, "shadow paging"];
  const root = fieldValue(vmcb, "nested_cr3");
  const others = [fieldValue(vmcb, "iopm_base_pa"), fieldValue(vmcb, "msrpm_base_pa")];
  return [isPagePointer(root & ~0x18n) && !others.includes(root), show(vmcb, "nested_cr3")];
}

function exitVerdict(vmcb: Vmcb): Verdict {
  const code = fieldValue(vmcb, "exit_code");
  const name = exitCodeName(code);
  return [name !== undefined, `${name ?? "not defined"} (${hex(code)})`];
}

function interruptVerdict(vmcb: Vmcb): Verdict {
  const known = (fieldNumber(vmcb, "int_ctl") & ~INT_CTL_KNOWN) === 0;
  const small = fieldNumber(vmcb, "int_vector") <= 0xff && fieldNumber(vmcb, "int_state") <= 3;
  return [known && small, show(vmcb, "int_ctl", "int_vector", "int_state")];
}

const EVENT_RESERVED = 0x7fff_f000;

function eventVerdict(vmcb: Vmcb): Verdict {
  const good = [fieldNumber(vmcb, "exit_int_info"), fieldNumber(vmcb, "event_inj")].every((word) => {
    const event = eventOf(word);
    return (word & EVENT_RESERVED) === 0 && (event === undefined || event.type !== undefined);
  });
  return [good, show(vmcb, "exit_int_info", "event_inj")];
}

function patVerdict(vmcb: Vmcb): Verdict {
  if (!usesNestedPaging(vmcb)) return [true, "not used without nested paging"];
  return [isPat(fieldValue(vmcb, "g_pat")), show(vmcb, "g_pat")];
}

function reservedVerdict(vmcb: Vmcb, start: number, end: number): Verdict {
  const run = vmcb.uncovered.find((range) => range.start >= start && range.start < end);
  return run === undefined ? [true, "all zero"] : [false, `not zero at ${hex(run.start, 3)}`];
}

function modeVerdict(vmcb: Vmcb): Verdict {
  const problem = modeProblem(vmcb);
  return problem === undefined ? [true, show(vmcb, "efer", "cr0", "cr4")] : [false, problem];
}

const ADDRESSES = [
  "rip",
  "fs.base",
  "gs.base",
  "gdtr.base",
  "idtr.base",
  "tr.base",
  "ldtr.base",
  "lstar",
  "cstar",
  "kernel_gs_base",
] as const satisfies readonly VmcbFieldName[];

function addressVerdict(vmcb: Vmcb): Verdict {
  const wrong = ADDRESSES.find((name) => !isCanonical(vmcb, fieldValue(vmcb, name)));
  if (wrong !== undefined) return [false, `${wrong} ${hex64(fieldValue(vmcb, wrong))} is not canonical`];
  return fieldValue(vmcb, "cr3") < LIMIT ? [true, "all canonical"] : [false, show(vmcb, "cr3")];
}

const PRESENT = 0x80;
const CODE = 0x18;
const TYPE_MASK = 0x1f;

function cplVerdict(vmcb: Vmcb): Verdict {
  const cpl = fieldNumber(vmcb, "cpl");
  return [cpl <= 3 && fieldNumber(vmcb, "vmpl") <= 3, show(vmcb, "cpl")];
}

const ATTRIBUTES = ["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"] as const;

function segmentVerdict(vmcb: Vmcb): Verdict {
  const wide = ATTRIBUTES.find((name) => fieldNumber(vmcb, `${name}.attrib`) > 0xfff);
  if (wide !== undefined) return [false, show(vmcb, `${wide}.attrib`)];
  const far = (["es", "cs", "ss", "ds"] as const).find(
    (name) => fieldValue(vmcb, `${name}.base`) >> 32n !== 0n,
  );
  return far === undefined
    ? [true, "attributes of 12 bits, bases of 32"]
    : [false, show(vmcb, `${far}.base`)];
}

/** In protected mode CS is present and code; real mode runs with whatever type is left. */
function codeVerdict(vmcb: Vmcb): Verdict {
  const attrib = fieldNumber(vmcb, "cs.attrib");
  const isCode = (attrib & (PRESENT | CODE)) === (PRESENT | CODE);
  const needed = (fieldValue(vmcb, "cr0") & CR0_PE) !== 0n;
  return [isCode || (!needed && attrib !== 0), show(vmcb, "cs.selector", "cs.attrib", "cs.limit")];
}

/** TR: a TSS, available or busy, of 16 or 32/64 bits; LDTR: an LDT. Both zero where no VMSAVE came. */
const TSS_TYPES: ReadonlySet<number> = new Set([0, 1, 3, 9, 11]);
const LDT_TYPES: ReadonlySet<number> = new Set([0, 2]);

function systemVerdict(vmcb: Vmcb): Verdict {
  const tss = TSS_TYPES.has(fieldNumber(vmcb, "tr.attrib") & TYPE_MASK);
  const ldt = LDT_TYPES.has(fieldNumber(vmcb, "ldtr.attrib") & TYPE_MASK);
  return [tss && ldt, show(vmcb, "tr.attrib", "ldtr.attrib")];
}

function tableVerdict(vmcb: Vmcb): Verdict {
  const small = fieldNumber(vmcb, "gdtr.limit") <= 0xffff && fieldNumber(vmcb, "idtr.limit") <= 0xffff;
  return [small, show(vmcb, "gdtr.limit", "idtr.limit")];
}

/** Bits that read as 1 (APM Vol. 2 §13.1.1.3 and 13.1.1.4). */
const DR6_ONES = 0xfffe_07f0n;
const DR7_ONES = 0x400n;

function debugVerdict(vmcb: Vmcb): Verdict {
  const dr6 = fieldValue(vmcb, "dr6");
  const dr7 = fieldValue(vmcb, "dr7");
  const ones = (dr6 & DR6_ONES) === DR6_ONES && (dr7 & DR7_ONES) !== 0n;
  return [ones && (dr6 | dr7) >> 32n === 0n, show(vmcb, "dr6", "dr7")];
}

/** VMRUN takes the address of the VMCB in RAX, and RAX is saved. */
function hostRaxVerdict(vmcb: Vmcb): Verdict {
  return [isPagePointer(fieldValue(vmcb, "rax")), show(vmcb, "rax")];
}
