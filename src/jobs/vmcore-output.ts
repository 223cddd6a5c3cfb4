import type { JobContext } from "../core/job.ts";
import { bytesText } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import type { FileIdentity } from "../io/file.ts";
import { freeSpaceFor, type Output, OutputFile, OutputStream } from "../io/output.ts";
import { plannedBytes, type VmcorePlan } from "../vmcore/plan.ts";

/** What a vmcore is written from: files that must not be written to, and how much data they can hold. */
export interface VmcoreSources {
  readonly identities: readonly FileIdentity[];
  readonly sizeOnDisk: number;
}

/**
 * Opens what a planned vmcore goes to, "-" being standard output, and tells when there may be no room for it.
 * @throws UsageError, IoError for a file that cannot be written, or is an input
 */
export function openVmcoreOutput(
  path: string,
  force: boolean,
  plan: VmcorePlan,
  { identities, sizeOnDisk }: VmcoreSources,
  warn: (warnings: readonly Warning[]) => void,
): Output {
  if (path === "-") return new OutputStream(1);
  const output = OutputFile.create(path, { force, inputs: identities });
  // Pages that are holes in the input are zero and become holes again; what is compressed in it may become longer.
  const most = Math.min(plannedBytes(plan) - plan.gathered, sizeOnDisk) + plan.gathered + plan.notesOffset;
  const free = freeSpaceFor(path);
  if (free !== undefined && free < most) {
    const message = `up to ${bytesText(most)} will be written, ${bytesText(free)} are free; zero pages take no space`;
    warn([{ code: "OUT001", message, hint: "extract --dry-run counts exactly how much it will be" }]);
  }
  return output;
}

/** Runs a job that writes; when it fails, what it wrote is removed, or kept under its temporary name. */
export async function keepingPartial<T>(
  output: Output,
  keep: boolean,
  { warn }: Pick<JobContext, "warn">,
  job: () => Promise<T>,
): Promise<T> {
  try {
    return await job();
  } catch (error) {
    const kept = output.abandon(keep);
    if (kept !== undefined) {
      const message = `what was written until then is in ${kept}; it may not be a whole vmcore`;
      warn({ code: "OUT002", message });
    }
    throw error;
  }
}
