import { Spool } from "../io/spool.ts";
import type { VmResult } from "../jobs/triage.ts";
import { PIECEWISE } from "../report/triage-outputs.ts";
import type { PiecewiseReport } from "../report/triage-pieces.ts";
import type { TriageReportOptions } from "../report/triage-shared.ts";

export type ReportForm = keyof typeof PIECEWISE;

/** Reports of many VMs that are made as each VM comes, in memory that hardly grows with their number. */
export class Reports {
  readonly #reports: ReadonlyMap<ReportForm, { readonly report: PiecewiseReport; readonly spool: Spool }>;

  constructor(forms: readonly ReportForm[], options: TriageReportOptions, directories: readonly string[]) {
    this.#reports = new Map(
      forms.map((form) => [form, { report: PIECEWISE[form](options), spool: new Spool(directories) }]),
    );
  }

  add(result: VmResult): void {
    for (const { report, spool } of this.#reports.values()) spool.add(report.add(result));
  }

  /** A report from its beginning to its end. */
  *pieces(form: ReportForm): Generator<string | Buffer> {
    const { report, spool } = this.#reports.get(form)!;
    yield report.head();
    // Whoever gets a piece may keep it until it is written.
    for (const piece of spool.pieces()) yield Buffer.from(piece);
    yield report.tail();
  }

  close(): void {
    for (const { spool } of this.#reports.values()) spool.close();
  }
}
