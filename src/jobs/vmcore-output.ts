import { UnsupportedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { bytesText } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import type { FileIdentity } from "../io/file.ts";
import { freeSpaceFor, type Output, OutputFile } from "../io/output.ts";
import { OutputStream } from "../io/output-stream.ts";
import { kdumpTables, plannedBytes, type VmcorePlan } from "../vmcore/plan.ts";

/** What a vmcore is written from: files that must not be written to, and how much data they can hold. */
export interface VmcoreSources {
  readonly identities: readonly FileIdentity[];
  readonly sizeOnDisk: number;
  /** How to find out how much will be written. */
  readonly counting?: string;
}

/** Two bitmaps of a machine with 4 TiB, which may have been idle: whatever is in the input is small beside them then. */
const MOST_BITMAPS = 256 * 2 ** 20;

/**
 * Opens what a planned vmcore goes to, "-" being standard output, and tells when there may be no room for it.
 * @throws UsageError, IoError for a file that cannot be written, or is an input; UnsupportedError for bitmaps that are out
 *   of all proportion to what the vmcore is written from
 */
export function openVmcoreOutput(
  path: string,
  force: boolean,
  plan: VmcorePlan,
  {
    identities,
    sizeOnDisk,
    counting = "extract --dry-run counts exactly how much it will be",
  }: VmcoreSources,
  warn: (warnings: readonly Warning[]) => void,
  { checkpoint }: Pick<JobContext, "checkpoint">,
): Output {
  const tables = kdumpTables(plan);
  // Bitmaps have a bit for what is not in the input, too: how long they are is said by a field or two of its headers.
  if (tables.bitmaps > MOST_BITMAPS + sizeOnDisk) throw moreThanIn(tables.bitmaps, sizeOnDisk);
  if (path === "-") return new OutputStream(1, checkpoint);
  const output = OutputFile.create(path, { force, inputs: identities });
  // Pages that are holes in the input are zero and become holes again; what is compressed in it may become longer.
  const pages = Math.min(plannedBytes(plan) - plan.gathered, sizeOnDisk) + plan.gathered;
  const most = plan.notesOffset + tables.bitmaps + tables.descriptors + pages;
  const free = freeSpaceFor(path);
  if (free !== undefined && free < most) {
    const message = `up to ${bytesText(most)} will be written, ${bytesText(free)} are free; zero pages take no space`;
    warn([{ code: "OUT001", message, hint: counting }]);
  }
  return output;
}

const moreThanIn = (bitmaps: number, sizeOnDisk: number): UnsupportedError =>
  new UnsupportedError(
    `a kdump-compressed dump would have ${bytesText(bitmaps)} of bitmaps, for memory that a dump of ${bytesText(sizeOnDisk)} only speaks of`,
    { hint: "--format elf has what is there; guestcore verify FILE says whether its headers are damaged" },
  );

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
