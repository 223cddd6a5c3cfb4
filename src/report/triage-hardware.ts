import { printable } from "../core/text.ts";
import { atLeast, type Detected, type Finding, type Severity } from "../triage/finding.ts";

export const isAtLeast = atLeast;

/** Whether any finding is as bad as `limit`, or worse: exit status 1. */
export const isFailure = (detected: readonly Detected[], limit: Severity): boolean =>
  detected.some(({ findings }) => findings.some(({ severity }) => atLeast(severity, limit)));

/** The worst finding's severity; undefined without findings. */
export function worstOf(findings: readonly Finding[]): Severity | undefined {
  return findings.reduce<Severity | undefined>(
    (worst, { severity }) => (worst === undefined || atLeast(severity, worst) ? severity : worst),
    undefined,
  );
}

/** `panic  hardware  machine check …`, and the first evidence below. */
export function findingLines({ severity, side, trust, title, evidence, survived }: Finding): string[] {
  const doubt = trust === "certain" ? "" : ` [${trust}]`;
  const after = survived === undefined ? "" : survived ? "; it went on afterwards" : "; it did not go on";
  const [first] = evidence;
  const lines = [`${severity.padEnd(8)} ${side.padEnd(9)} ${printable(title)}${after}${doubt}`];
  if (first !== undefined) {
    const { line, offset } = first;
    const place = line !== undefined ? `:${line}` : offset !== undefined ? ` at offset ${offset}` : "";
    lines.push(`${" ".repeat(19)}${printable(first.source)}${place}: ${printable(first.text)}`);
  }
  return lines;
}

/** What people call it: `c000000012345678` addresses in full, lists with commas. */
export function factText(value: unknown): string {
  if (typeof value === "bigint") return `0x${value.toString(16).padStart(16, "0")}`;
  if (Array.isArray(value)) return value.length === 0 ? "none" : value.map(factText).join(" ");
  if (typeof value === "object" && value !== null) {
    return Object.entries(value)
      .map(([name, one]) => `${name} ${factText(one)}`)
      .join(", ");
  }
  return printable(String(value));
}

/** `effectiveAddress` → `effective address`. */
export const factName = (name: string): string =>
  name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);

/** Facts as lines of "name value", below `indent`. */
export const factLines = (facts: Readonly<Record<string, unknown>>, indent: string): string[] =>
  Object.entries(facts)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${indent}${factName(name).padEnd(20)} ${factText(value)}`);
