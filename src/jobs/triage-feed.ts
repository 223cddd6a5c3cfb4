import type { JobContext } from "../core/job.ts";
import type { Detected } from "../triage/finding.ts";
import { logName, openLog } from "./log-input.ts";
import type { ArtefactInput } from "./triage-artefact.ts";

/** A log may be as large as a file can be: detectors' memory does not grow with it. */
const LOG_LIMIT = 2 ** 50;

/** What reads a log piece by piece. */
export interface LogDetector<T extends Detected> {
  push(bytes: Uint8Array): unknown;
  end(): T;
}

/** The bytes of a log, packed or not. */
export async function* logChunks(path: string, context: JobContext): AsyncGenerator<Buffer> {
  const log = await openLog(path, LOG_LIMIT, context);
  try {
    yield* log.chunks;
    for (const warning of log.warnings) {
      context.warn({ ...warning, where: { file: logName(path), ...warning.where } });
    }
  } finally {
    log.close();
  }
}

/** Feeds a log to a detector. */
export async function feedLog<T extends Detected>(
  { path }: Pick<ArtefactInput, "path">,
  detector: LogDetector<T>,
  context: JobContext,
): Promise<T> {
  for await (const chunk of logChunks(path, context)) detector.push(chunk);
  return detector.end();
}
