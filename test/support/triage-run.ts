import type { JobContext } from "../../src/core/job.ts";
import type { Warning } from "../../src/core/warnings.ts";
import { type TriageOptions, triage, type VmResult } from "../../src/jobs/triage.ts";

/** Judges what lies in files and directories, by the readers that people get. */
export async function judged(
  paths: readonly string[],
  options: TriageOptions = {},
): Promise<{ readonly results: VmResult[]; readonly warnings: Warning[] }> {
  const warnings: Warning[] = [];
  const context: JobContext = {
    progress: { start: () => {}, update: () => {}, finish: () => {} },
    warn: (warning) => warnings.push(warning),
    checkpoint: async () => {},
    temporaryDirectories: [],
  };
  const results: VmResult[] = [];
  for await (const result of triage(paths, options, context)) results.push(result);
  return { results, warnings };
}
