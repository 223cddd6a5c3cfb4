import { hex, plural, printable, shellWord } from "../core/text.ts";
import type { OpenedLayout } from "../jobs/vmcsinfo.ts";
import { isPossibleEncoding, widthOf } from "../vmx/encoding.ts";
import type { VmcsLayout } from "../vmx/layout.ts";
import type { LayoutFinding } from "../vmx/vmcsinfo/check-layout.ts";
import { encodingText, nameOf, offsetText } from "../vmx/vmcsinfo/names.ts";
import { alignedColumns } from "./columns.ts";

/** The data base, one layout a line. */
export function layoutsText(layouts: readonly VmcsLayout[]): string {
  const lines = alignedColumns([
    ["name", "kind", "revision", "fields", "access rights", "confidence"],
    ...layouts.map((layout) => [
      layout.name,
      layout.kind,
      layout.revisionId === undefined ? "-" : hex(layout.revisionId),
      `${layout.fields.size}`,
      layout.accessRights ?? "unknown",
      layout.confidence,
    ]),
  ]);
  return `${[...lines, "next: guestcore vmcs layout show NAME"].join("\n")}\n`;
}

/** One layout with all of its fields, by offset. */
export function layoutText({ layout, opened }: OpenedLayout): string {
  const { fields, unsure } = layout;
  const lines = [
    `${titleOf(layout, opened)}, ${plural(fields.size, "field")}`,
    ...alignedColumns([
      ["offset", "encoding", "width", "name"],
      ...byOffset(layout).map(([encoding, offset]) => [
        offsetText(offset),
        encodingText(encoding),
        isPossibleEncoding(encoding) ? `${widthOf(encoding)}` : "?",
        `${nameOf(encoding) ?? "?"}${unsure.has(encoding) ? "  (inferred)" : ""}`,
      ]),
    ]).map((line) => `  ${line}`),
    `access rights ${layout.accessRights ?? "stored in an unknown form"}`,
    `source        ${printable(layout.source)}`,
    `confidence    ${printable(layout.confidence)}`,
    `next: guestcore vmcs layout check ${shellWord(opened?.input.path ?? layout.name)}`,
  ];
  return `${lines.join("\n")}\n`;
}

function titleOf({ name, kind, revisionId }: VmcsLayout, opened: OpenedLayout["opened"]): string {
  const revision = revisionId === undefined ? "no revision" : `revision ${hex(revisionId)}`;
  const what = opened === undefined ? name : `${printable(opened.input.path)}: ${name}`;
  return `${what}: ${kind}, ${revision}`;
}

const byOffset = ({ fields }: VmcsLayout): [number, number][] =>
  [...fields].sort(([a, atA], [b, atB]) => atA - atB || a - b);

/** What `check` found, verdict first. */
export function checkText({ layout, opened }: OpenedLayout, findings: readonly LayoutFinding[]): string {
  const verdict = findings.length === 0 ? "nothing found" : plural(findings.length, "finding");
  const lines = [
    `${titleOf(layout, opened)}, ${plural(layout.fields.size, "field")}: ${verdict}`,
    ...findings.map(({ kind, message }) => `  ${kind}: ${message}`),
  ];
  return `${lines.join("\n")}\n`;
}

const summaryJson = ({ name, kind, revisionId, fields, accessRights, source, confidence }: VmcsLayout) => ({
  name,
  kind,
  revisionId,
  fieldCount: fields.size,
  accessRights,
  source,
  confidence,
});

/** `result` of guestcore/vmcs-layout/1 for `list`. */
export const layoutsJson = (layouts: readonly VmcsLayout[]) => ({ layouts: layouts.map(summaryJson) });

/** `result` of guestcore/vmcs-layout/1 for `show`; vmx/vmcsinfo/json.ts reads it back. */
export const layoutJson = ({ layout }: OpenedLayout) => ({
  ...summaryJson(layout),
  fields: byOffset(layout).map(([encoding, offset]) => ({
    encoding: encodingText(encoding),
    name: nameOf(encoding),
    width: isPossibleEncoding(encoding) ? widthOf(encoding) : undefined,
    offset,
    inferred: layout.unsure.has(encoding),
  })),
});

/** `result` of guestcore/vmcs-layout/1 for `check`. */
export const checkJson = (layout: OpenedLayout, findings: readonly LayoutFinding[]) => ({
  ...layoutJson(layout),
  findings: findings.map(({ kind, encoding, message }) => ({
    kind,
    encoding: encoding === undefined ? undefined : encodingText(encoding),
    message,
  })),
});
