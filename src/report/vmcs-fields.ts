import { hex, hex64, plural } from "../core/text.ts";
import type { DecodedField, DecodedVmcs } from "../vmx/decoded.ts";
import { bytesOf, type FieldType } from "../vmx/encoding.ts";
import type { EntryChecks, Violation } from "../vmx/entry-checks.ts";
import { isEntryFailure } from "../vmx/exit-reasons.ts";
import { GENERAL_REGISTERS, SEGMENT_REGISTERS, type X86State } from "../x86/state.ts";

/** Parts of a VMCS in the order in which they are shown. */
export const SECTIONS: readonly (readonly [type: FieldType, title: string])[] = [
  ["guest", "guest state"],
  ["host", "host state"],
  ["control", "controls"],
  ["read-only", "exit information"],
];

/** `0x0018`, `0x0000c093`, `0xffffffff80101000`: as wide as the field. */
export const valueText = (encoding: number, value: bigint): string => hex(value, 2 * bytesOf(encoding));

const NAME_WIDTH = 30;
const VALUE_WIDTH = 18;
/** Names of bits that take more room stand on lines of their own. */
const LONG_TEXT = 60;

/** Columns between value and meaning; "" where there are none. */
export type Beside = (encoding: number) => string;
const nothing: Beside = () => "";

/** `0x681e  GUEST_RIP  0xffffffff801010a6  next instruction`, and the bits that are set where they are many. */
export function fieldLines(field: DecodedField, beside: Beside = nothing): string[] {
  const { encoding, name, value, bits, active, inactiveBecause } = field;
  const many = bits !== undefined && field.text.length > LONG_TEXT;
  const unused = active === false ? `(not used: ${inactiveBecause}) ` : "";
  const meaning = `${unused}${many ? plural(bits.filter(({ set }) => set).length, "bit") : field.text}`;
  const columns = [
    `  ${hex(encoding, 4)}`,
    name.padEnd(NAME_WIDTH),
    valueText(encoding, value).padEnd(VALUE_WIDTH),
    `${beside(encoding)}${meaning}`,
  ];
  const lines = [columns.join("  ").trimEnd()];
  if (!many) return lines;
  for (const { bit, name: bitName, set } of bits) {
    if (set) lines.push(`${" ".repeat(10)}${String(bit).padStart(2)}  ${bitName}`);
  }
  return lines;
}

/** Fields the processor does not use and that are 0 say nothing. */
export const isTelling = ({ active, value }: DecodedField): boolean => active !== false || value !== 0n;

/** All sections; fields that say nothing are counted unless `all`. */
export function sectionLines(fields: readonly DecodedField[], all: boolean, beside?: Beside): string[] {
  const lines: string[] = [];
  for (const [type, title] of SECTIONS) {
    const shown = fields.filter((field) => field.type === type && (all || isTelling(field)));
    if (shown.length > 0) lines.push(title, ...shown.flatMap((field) => fieldLines(field, beside)));
  }
  const hidden = all ? 0 : fields.filter((field) => !isTelling(field)).length;
  if (hidden > 0) lines.push(`${plural(hidden, "field")} unused and 0 (--all shows them)`);
  return lines;
}

/**
 * `VM entry would fail: 2 errors, 1 warning, 240 rules of VM entry hold`; a VMCS that VM entry refused although no rule
 * says why is called that.
 */
export function verdict({ checks, fields }: DecodedVmcs): string {
  const { violations, passed, notChecked, everEntered } = checks;
  const count = (severity: Violation["severity"]): number =>
    violations.filter((violation) => violation.severity === severity).length;
  const [errors, warnings, notes] = [count("error"), count("warning"), count("note")];
  const open = notChecked.length === 0 ? "" : `, ${notChecked.length} not checked`;
  const found = [
    errors > 0 ? plural(errors, "error") : "",
    warnings > 0 ? plural(warnings, "warning") : "",
    notes > 0 ? plural(notes, "note") : "",
    `${plural(passed, "rule")} of VM entry ${passed === 1 ? "holds" : "hold"}${open}`,
  ].filter((part) => part !== "");
  if (!everEntered) return ["never entered", ...found].join(", ");
  if (errors > 0) return `VM entry would fail: ${found.join(", ")}`;
  const refused = fields.some(({ name, value }) => name === "VM_EXIT_REASON" && isEntryFailure(value));
  if (refused) return `VM entry failed, its fields do not show why: ${found.join(", ")}`;
  return ["consistent", ...found].join(", ");
}

/** One line a violation, and the fields it follows from. */
export const violationLines = ({ violations }: EntryChecks): string[] =>
  violations.flatMap(({ severity, section, id, message, fields }) => [
    `  ${severity.padEnd(7)}  ${message} (SDM ${section}, ${id})`,
    `           ${fields.map(({ encoding, name, value }) => `${name} ${valueText(encoding, value)}`).join(", ")}`,
  ]);

/** `last exit` with reason, qualification and event; undefined where there was none, or the reason is not known. */
export function exitLine({ fields, checks }: DecodedVmcs): string | undefined {
  if (!checks.everEntered) return undefined;
  const textOf = (name: string): string => fields.find((field) => field.name === name)?.text ?? "";
  const reason = textOf("VM_EXIT_REASON");
  if (reason === "") return undefined;
  const event = textOf("VM_EXIT_INTR_INFO");
  const parts = [reason, textOf("EXIT_QUALIFICATION"), event === "none" ? "" : event];
  return `last exit: ${parts.filter((part) => part !== "").join("; ")}`;
}

/** A line an MSR: `0xc0000080  0x0000000000000d01  IA32_EFER`. */
export const msrLine = (index: number, value: bigint, rest = ""): string =>
  `  ${hex(index, 8)}  ${hex64(value)}  ${rest}`.trimEnd();

/** A field in JSON. */
export const fieldJson = (field: DecodedField) => ({
  encoding: hex(field.encoding, 4),
  name: field.name,
  title: field.title,
  type: field.type,
  value: field.value,
  text: field.text,
  active: field.active ?? null,
  inactiveBecause: field.inactiveBecause,
  bits: field.bits,
  pointer: field.pointer,
});

export const checksJson = ({ violations, passed, notChecked, everEntered }: EntryChecks) => ({
  everEntered,
  passed,
  violations: violations.map(({ fields, ...violation }) => ({
    ...violation,
    fields: fields.map(({ encoding, name, value }) => ({ encoding: hex(encoding, 4), name, value })),
  })),
  notChecked,
});

/** The guest's registers; those that a VMCS does not hold are absent. */
export const stateJson = ({ state, sources, missing }: DecodedVmcs["state"]) =>
  state === undefined ? { registers: null, missing } : { ...registersJson(state), sources, missing };

const registersJson = (state: X86State) => ({
  registers: {
    ...Object.fromEntries(GENERAL_REGISTERS.map((name) => [name, state[name]])),
    rip: state.rip,
    rflags: state.rflags,
    cr0: state.cr0,
    cr2: state.cr2,
    cr3: state.cr3,
    cr4: state.cr4,
    efer: state.efer,
    kernelGsBase: state.kernelGsBase,
  },
  segments: Object.fromEntries(SEGMENT_REGISTERS.map((name) => [name, state.segments[name]])),
  gdt: state.gdt,
  idt: state.idt,
});

/** The registers that debuggers ask for first, with their sources. */
export function stateLines({ state, sources, missing }: DecodedVmcs["state"]): string[] {
  if (state === undefined) return [`registers unknown: ${missing.join(", ")} are not there`];
  const names = ["rip", "rsp", "rflags", "cr0", "cr3", "cr4", "efer"] as const;
  return [
    "registers of the guest",
    ...names.map((name) => `  ${name.padEnd(6)}  ${hex64(state[name] ?? 0n)}  ${sources[name] ?? ""}`),
  ];
}
