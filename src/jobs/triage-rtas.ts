import { naming, UnavailableError, UnsupportedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { type RtasDetected, RtasDetector } from "../triage/rtas/detector.ts";
import type { Input } from "./input.ts";
import { logName, openLog } from "./log-input.ts";

/** One file that was looked at. */
export interface RtasFile {
  readonly input: Input["facts"];
  readonly detected: RtasDetected;
}

export interface TriageRtasResult {
  readonly files: readonly RtasFile[];
  readonly warnings: readonly Warning[];
}

/** Memory does not grow with an input; this is what a stream without an end is cut at. */
export const STREAM_LIMIT = 2 ** 40;

/**
 * Looks for RTAS error logs in each file: logs as bytes, or a kernel's log that has them.
 * @param paths files, packed or not, FIFOs, or `-`
 * @throws IoError; UnsupportedError for bytes without any log; UnavailableError for an empty file
 */
export async function triageRtas(paths: readonly string[], context: JobContext): Promise<TriageRtasResult> {
  const files: RtasFile[] = [];
  const warnings: Warning[] = [];
  for (const path of paths) {
    const { file, warnings: found } = await readRtas(path, context);
    files.push(file);
    for (const warning of found) {
      warnings.push(warning);
      context.warn(warning);
    }
  }
  return { files, warnings };
}

const readRtas = (
  path: string,
  context: JobContext,
): Promise<{ readonly file: RtasFile; readonly warnings: readonly Warning[] }> =>
  naming(logName(path), async () => {
    const log = await openLog(path, STREAM_LIMIT, context);
    try {
      const detector = new RtasDetector({ source: logName(path) });
      for await (const chunk of log.chunks) detector.push(chunk);
      const detected = detector.end();
      if (detected.size === 0) throw empty();
      if (!detected.isText && detected.logs.length === 0) throw unrecognised();
      const warnings = [...log.warnings, ...warningsOf(path, detected)];
      return { file: { input: log.facts(), detected }, warnings };
    } finally {
      log.close();
    }
  });

const empty = (): UnavailableError =>
  new UnavailableError("the file is empty", {
    hint: "/proc/powerpc/rtas/error_log gives nothing until there is an event, and a whole log (2052 bytes) at a time",
  });

const unrecognised = (): UnsupportedError =>
  new UnsupportedError("no RTAS error log is in it, and it is no text", {
    hint: "a log begins with its version (06 as a rule) and has IBM\\0 at byte 20; a kernel's log has its words with rtasmsgs=on",
  });

function warningsOf(path: string, { logs, more }: RtasDetected): Warning[] {
  const damaged = logs.filter(({ log }) => log.damage.length > 0);
  const warnings: Warning[] = [];
  if (damaged.length > 0) {
    const [first] = damaged;
    const message = `${logName(path)}: ${plural(damaged.length, "RTAS log")} could not be read in full: ${first!.log.damage[0]}`;
    warnings.push({ code: "TRI401", message });
  }
  if (more) {
    const message = `${logName(path)}: more RTAS events than are told of`;
    warnings.push({ code: "TRI402", message });
  }
  return warnings;
}
