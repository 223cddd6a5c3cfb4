import { hex, hex64, hexAddress, plural } from "../core/text.ts";
import { describeField, type VmcbFieldMeaning } from "../svm/describe.ts";
import { entryChecks } from "../svm/entry-checks.ts";
import { exitCodeName, exitDetail } from "../svm/exit-codes.ts";
import { VMCB_FIELDS, type VmcbArea, type VmcbField } from "../svm/fields.ts";
import { groupKey, type VmcbKind } from "../svm/kind.ts";
import type { Score } from "../svm/score.ts";
import { stateOf } from "../svm/state.ts";
import { fieldValue, type Vmcb } from "../svm/vmcb.ts";
import { GENERAL_REGISTERS, SEGMENT_REGISTERS } from "../x86/state.ts";

/** A VMCB or host save area found in memory and decoded. */
export interface VmcbShow {
  /** Host-physical address of the page. */
  readonly address: number;
  /** The page, 4096 bytes. */
  readonly bytes: Uint8Array;
  readonly vmcb: Vmcb;
  readonly kind: VmcbKind;
  readonly reasons: readonly string[];
  readonly score: Score;
}

export interface VmcbShowFlags {
  /** Stored bytes beside each value, and runs of bytes that no known field covers. */
  readonly bytes: boolean;
  /** Fields that are 0 too. */
  readonly all: boolean;
  /** What to do next, the last line. */
  readonly next?: string;
}

/** What each kind is, for people. */
const KINDS: Readonly<Record<VmcbKind, string>> = {
  guest: "vCPU",
  "not-run": "vCPU that has not run",
  "nested-guest": "nested guest of a vCPU",
  "sev-es": "vCPU with encrypted state",
  "host-save-area": "host save area",
  copy: "copy of a vCPU's VMCB",
};

/** Parts of a VMCB in the order in which they are shown. */
export const SECTIONS: readonly (readonly [area: VmcbArea, title: string])[] = [
  ["control", "control area"],
  ["save", "state save area"],
  ["sev-es", "state save area, SEV-ES"],
];

/** Verdict and violations first, then what the page is, registers and every field. */
export function vmcbShowText(show: VmcbShow, { bytes, all, next }: VmcbShowFlags): string {
  const { address, vmcb } = show;
  const what = vmcb.controlUnused ? "host save area" : "VMCB";
  const lines = [
    `${what} at ${hexAddress(address)}: ${verdict(vmcb)}`,
    ...violationLines(vmcb),
    ...headerLines(show),
  ];
  if (!vmcb.controlUnused) lines.push(`  last exit: ${exitText(vmcb)}`);
  lines.push(...stateLines(vmcb), ...sectionLines(show, all, bytes));
  if (bytes) lines.push(...uncoveredLines(show));
  if (next !== undefined) lines.push(`next: ${next}`);
  return `${lines.join("\n")}\n`;
}

/** Rules of VMRUN that do not hold; none of a host save area, which VMRUN does not read. */
export const violationsOf = (vmcb: Vmcb) =>
  vmcb.controlUnused ? [] : entryChecks(vmcb).filter(({ passed }) => !passed);

/** `consistent, 21 rules of VMRUN hold`. */
export function verdict(vmcb: Vmcb): string {
  if (vmcb.controlUnused) return "state of the host";
  const total = entryChecks(vmcb).length;
  const errors = violationsOf(vmcb).length;
  const rules = `${plural(total - errors, "rule")} of VMRUN ${total - errors === 1 ? "holds" : "hold"}`;
  return errors === 0 ? `consistent, ${rules}` : `VMRUN would fail: ${plural(errors, "error")}, ${rules}`;
}

const violationLines = (vmcb: Vmcb): string[] =>
  violationsOf(vmcb).map(({ rule, section }) => `  error    not so: ${rule} (APM Vol. 2 §${section})`);

function headerLines({ vmcb, kind, reasons, score }: VmcbShow): string[] {
  const root = groupKey(vmcb);
  const parts = [KINDS[kind], `${score.passed} of ${plural(score.total, "check")} passed`];
  if (!vmcb.controlUnused) {
    parts.push(
      root === undefined ? "no nested paging" : `nested root ${hex(root)}`,
      `ASID ${fieldValue(vmcb, "asid")}`,
    );
  }
  const failed = score.checks.filter(({ passed }) => !passed);
  return [
    `  ${parts.join(", ")}`,
    ...reasons.map((reason) => `  + ${reason}`),
    ...failed.map(({ check, detail }) => `  - ${check}: ${detail}`),
  ];
}

function exitText(vmcb: Vmcb): string {
  const code = fieldValue(vmcb, "exit_code");
  const detail = exitDetail(code, fieldValue(vmcb, "exit_info_1"), fieldValue(vmcb, "exit_info_2"));
  const event = describeField(vmcb, "exit_int_info").text;
  const parts = [
    exitCodeName(code) ?? hex(code),
    detail ?? "",
    event === "none" ? "" : `delivering ${event}`,
  ];
  return parts.filter((part) => part !== "").join("; ");
}

const REGISTERS = ["rip", "rsp", "rflags", "rax", "cr0", "cr2", "cr3", "cr4", "efer"] as const;

function stateLines(vmcb: Vmcb): string[] {
  const known = stateOf(vmcb);
  if (known === undefined) return ["registers are encrypted in the VMSA"];
  const { state, sources, caveats } = known;
  return [
    `registers of the ${vmcb.controlUnused ? "host" : "guest"}`,
    ...REGISTERS.map(
      (name) => `  ${name.padEnd(6)}  ${hex64(state[name] ?? 0n)}  VMCB ${sources[name] ?? ""}`,
    ),
    ...caveats.map((caveat) => `  note: ${caveat}`),
  ];
}

/** The fields that this page has. */
export const fieldsOf = (vmcb: Vmcb): VmcbField[] => VMCB_FIELDS.filter(({ name }) => vmcb.values.has(name));

/** All sections; fields that are 0 are counted unless `all`. */
function sectionLines(show: VmcbShow, all: boolean, bytes: boolean): string[] {
  const lines: string[] = [];
  const fields = fieldsOf(show.vmcb);
  const shown = all ? fields : fields.filter(({ name }) => fieldValue(show.vmcb, name) !== 0n);
  for (const [area, title] of SECTIONS) {
    const own = shown.filter((field) => field.area === area);
    if (own.length > 0) lines.push(title, ...own.flatMap((field) => fieldLines(show, field, bytes)));
  }
  if (shown.length < fields.length)
    lines.push(`${plural(fields.length - shown.length, "field")} of 0 (--all shows them)`);
  return lines;
}

const NAME_WIDTH = 22;
const VALUE_WIDTH = 18;
const BYTES_WIDTH = 16;
/** Names of bits that take more room stand on lines of their own. */
const LONG_TEXT = 60;

/** `0x578  rip  0xffffffff801010a6`, and what is set where that is much. */
function fieldLines(
  { vmcb, bytes: page }: VmcbShow,
  { name, offset, size }: VmcbField,
  bytes: boolean,
): string[] {
  const { text, bits } = describeField(vmcb, name);
  const names = text.length > LONG_TEXT ? setNames(text, bits) : undefined;
  const stored = bytes ? `${hexBytes(page.subarray(offset, offset + size)).padEnd(BYTES_WIDTH)}  ` : "";
  const columns = [
    `  ${hex(offset, 3)}`,
    name.padEnd(NAME_WIDTH),
    hex(fieldValue(vmcb, name), 2 * size).padEnd(VALUE_WIDTH),
    `${stored}${names === undefined ? text : plural(names.length, "bit")}`,
  ];
  return [columns.join("  ").trimEnd(), ...(names ?? []).map((label) => `${" ".repeat(10)}${label}`)];
}

/** Intercepts come as names only. */
const setNames = (text: string, bits: VmcbFieldMeaning["bits"]): string[] =>
  bits === undefined
    ? text.split(" ")
    : bits.filter(({ set }) => set).map(({ bit, name }) => `${bit}  ${name}`);

const hexBytes = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

const LINE_BYTES = 16;

function uncoveredLines({ vmcb: { uncovered }, bytes }: VmcbShow): string[] {
  if (uncovered.length === 0) return ["no bytes but those of known fields are other than 0"];
  const total = uncovered.reduce((sum, { start, end }) => sum + end - start, 0);
  const lines = [
    `bytes that no known field covers: ${plural(total, "byte")} in ${plural(uncovered.length, "run")}`,
  ];
  for (const { start, end } of uncovered) {
    for (let at = start; at < end; at += LINE_BYTES) {
      const line = bytes.subarray(at, Math.min(end, at + LINE_BYTES));
      lines.push(`  +${hex(at, 3)}  ${hexBytes(line).replace(/(.{8})(?=.)/g, "$1 ")}`);
    }
  }
  return lines;
}

/** `result` of guestcore/vmcb-show/1. */
export function vmcbShowJson(show: VmcbShow) {
  const { address, bytes, vmcb, kind, reasons, score } = show;
  const root = groupKey(vmcb);
  return {
    address,
    kind,
    reasons,
    score: { passed: score.passed, total: score.total, checks: score.checks },
    nestedRoot: root ?? null,
    exit: vmcb.controlUnused ? null : exitJson(vmcb),
    entryChecks: vmcb.controlUnused ? [] : entryChecks(vmcb),
    state: stateJson(vmcb),
    fields: fieldsOf(vmcb).map((field) => fieldJson(show, field)),
    instruction: hexBytes(vmcb.instruction),
    uncovered: vmcb.uncovered.map(({ start, end }) => ({
      start,
      end,
      bytes: hexBytes(bytes.subarray(start, end)),
    })),
  };
}

/** A field in JSON. */
export function fieldJson({ vmcb, bytes }: VmcbShow, { name, offset, size, area, title }: VmcbField) {
  const { text, bits } = describeField(vmcb, name);
  const stored = hexBytes(bytes.subarray(offset, offset + size));
  return { offset, size, name, title, area, value: fieldValue(vmcb, name), text, bits, bytes: stored };
}

function exitJson(vmcb: Vmcb) {
  const code = fieldValue(vmcb, "exit_code");
  const [info1, info2] = [fieldValue(vmcb, "exit_info_1"), fieldValue(vmcb, "exit_info_2")];
  return { code, name: exitCodeName(code), info1, info2, detail: exitDetail(code, info1, info2) };
}

/** The registers; those that a VMCB does not hold are absent. */
function stateJson(vmcb: Vmcb) {
  const known = stateOf(vmcb);
  if (known === undefined) return null;
  const { state, sources, caveats } = known;
  const { rip, rflags, cr0, cr2, cr3, cr4, efer, kernelGsBase, gdt, idt } = state;
  const general = Object.fromEntries(GENERAL_REGISTERS.map((name) => [name, state[name]]));
  return {
    registers: { ...general, rip, rflags, cr0, cr2, cr3, cr4, efer, kernelGsBase },
    segments: Object.fromEntries(SEGMENT_REGISTERS.map((name) => [name, state.segments[name]])),
    gdt,
    idt,
    sources,
    caveats,
  };
}
