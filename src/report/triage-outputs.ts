import { printable } from "../core/text.ts";
import type { VmResult } from "../jobs/triage.ts";
import { SameFailures } from "../triage/verdict/same-failures.ts";
import { triageGithub } from "./triage-github.ts";
import { htmlReport } from "./triage-html.ts";
import { jsonReport, triageJsonLines } from "./triage-json.ts";
import { junitReport } from "./triage-junit.ts";
import { markdownReport } from "./triage-markdown.ts";
import { linesText, type MakeReport } from "./triage-pieces.ts";
import { hasFailed, type TriageReportOptions } from "./triage-shared.ts";
import { tapReport } from "./triage-tap.ts";
import { triageText } from "./triage-text.ts";

export { hasFailed };

/** Forms of the report that are written VM by VM, as each comes. */
export const STREAMED: Readonly<
  Record<"text" | "jsonl" | "github", (result: VmResult, options: TriageReportOptions) => string>
> = { text: triageText, jsonl: triageJsonLines, github: triageGithub };

/** Forms that begin with what is known of all VMs. */
export const PIECEWISE: Readonly<Record<"json" | "junit" | "tap" | "markdown" | "html", MakeReport>> = {
  json: jsonReport,
  junit: junitReport,
  tap: tapReport,
  markdown: markdownReport,
  html: htmlReport,
};

/** Failures that several VMs had that are named behind the verdicts. */
const SHOWN = 10;
/** VMs that are named of each. */
const NAMED = 8;

/** What VMs came to, counted, and which of them failed alike. */
export class TriageSummary {
  readonly #counts = new Map<string, number>();
  readonly #same = new SameFailures();

  add({ vm, verdict }: Pick<VmResult, "vm" | "verdict">): void {
    this.#counts.set(verdict.verdict, (this.#counts.get(verdict.verdict) ?? 0) + 1);
    this.#same.add(vm, verdict);
  }

  /** Two lines for each failure of several VMs, and last `3 VMs: 2 clean, 1 guest-panic`; nothing for one VM. */
  text(): string {
    const counts = [...this.#counts];
    const all = counts.reduce((sum, [, count]) => sum + count, 0);
    if (all < 2) return "";
    const same = this.#same.end().slice(0, SHOWN);
    return linesText([
      ...same.flatMap(({ signature, title, count, vms }) => [
        `${count} failed alike, signature ${printable(signature)}: ${printable(title)}`,
        `  ${vms.slice(0, NAMED).map(printable).join(", ")}${count > NAMED ? ` and ${count - NAMED} more` : ""}`,
      ]),
      `${all} VMs: ${counts.map(([name, count]) => `${count} ${name}`).join(", ")}`,
    ]);
  }
}
