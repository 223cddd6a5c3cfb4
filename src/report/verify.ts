import { hex, plural, printable } from "../core/text.ts";
import type { Finding, FindingGroup, VerifyResult } from "../jobs/verify.ts";
import { EXPLANATIONS } from "./codes.ts";
import { coverageText } from "./extract.ts";
import { onwardCommand } from "./next.ts";

/** Findings of a kind that people are shown; programs get some more. */
const SHOWN = 4;

/** The verdict, what is wrong and where, what there is, what to type next; `words` say how the dump was to be read. */
export function verifyText(result: VerifyResult, words: readonly string[] = []): string {
  const { input, checked, findings } = result;
  const lines = [`${printable(input.path)}: ${verdict(result)}`, ...findings.flatMap(groupLines)];
  if (checked !== undefined) {
    const { coverage, pages } = checked;
    lines.push(`  memory: ${coverageText(coverage) || "none"}`);
    const of = pages.read < pages.total ? ` of ${pages.total}` : "";
    lines.push(`  read: ${pages.read}${of} pages with contents of their own`);
  }
  const held = heldIn(result);
  if (held !== undefined && findings.length > 0) lines.push(`  offsets are those of ${held}`);
  lines.push(`next: ${next(result, words)}`);
  return `${lines.join("\n")}\n`;
}

function verdict({ format, flattened, whole, quick, checked, findings }: VerifyResult): string {
  const name = flattened && format !== "flattened" ? `flattened ${format}` : format;
  if (!whole) {
    const kinds = findings.filter(({ severity }) => severity === "error").length;
    return `${name}, DAMAGED: ${plural(kinds, "kind")} of damage`;
  }
  const some = quick && checked !== undefined && checked.pages.read < checked.pages.total;
  return `${name}, whole${some ? " as far as a quick look shows" : ""}`;
}

function groupLines({ code, severity, count, first }: FindingGroup): string[] {
  const title = EXPLANATIONS[code]?.title ?? "";
  const head = `  ${severity} ${code}: ${title}${count > 1 ? `, ${count} times` : ""}`;
  const shown = first.slice(0, SHOWN);
  const more = count > shown.length ? [`    and ${count - shown.length} more`] : [];
  return [head, ...shown.map((finding) => `    ${findingLine(finding)}`), ...more];
}

function findingLine({ message, where: { file, offset } }: Finding): string {
  const name = file === undefined ? "" : `${printable(file)}: `;
  const place = offset === undefined ? "" : ` (at offset ${hex(offset)})`;
  return `${name}${printable(message)}${place}`;
}

/** What offsets are counted in, where it is not the file itself. */
function heldIn({ input, flattened }: VerifyResult): string | undefined {
  if (flattened)
    return "the file that the stream describes; VRF002, VRF003 and VRF005 have those of the stream";
  return input.unpacked === undefined ? undefined : "the unpacked contents; VRF001 has that of the file";
}

function next({ input, whole, findings }: VerifyResult, words: readonly string[]): string {
  const damage = findings.find(({ severity }) => severity === "error");
  return whole || damage === undefined
    ? onwardCommand("info", input, words)
    : `guestcore explain ${damage.code}`;
}

/** `result` of guestcore/verify/1. */
export const verifyJson = (result: VerifyResult) => ({
  format: result.format,
  flattened: result.flattened,
  compression: result.input.unpacked?.compression ?? null,
  quick: result.quick,
  whole: result.whole,
  coverage: result.checked?.coverage ?? null,
  pages: result.checked?.pages ?? null,
  findings: result.findings.map(({ code, severity, count, first }) => ({
    code,
    severity,
    title: EXPLANATIONS[code]?.title,
    count,
    first: first.map(({ message, where }) => ({ message, where })),
  })),
});
