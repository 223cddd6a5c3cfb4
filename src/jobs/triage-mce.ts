import { naming, UnavailableError, UnsupportedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { Warning } from "../core/warnings.ts";
import { type MceDetected, MceDetector } from "../triage/mce/detector.ts";
import type { Input } from "./input.ts";
import { logName, openLog } from "./log-input.ts";
import { STREAM_LIMIT } from "./triage-rtas.ts";

/** One log that was read. */
export interface MceFile {
  readonly input: Input["facts"];
  readonly detected: MceDetected;
}

export interface TriageMceResult {
  readonly files: readonly MceFile[];
  readonly warnings: readonly Warning[];
}

/**
 * Looks for machine checks and other errors of hardware in each log.
 * @param paths files, packed or not, FIFOs, or `-`
 * @throws IoError; UnavailableError for an empty file; UnsupportedError for what is no text
 */
export async function triageMce(paths: readonly string[], context: JobContext): Promise<TriageMceResult> {
  const files: MceFile[] = [];
  const warnings: Warning[] = [];
  const warn = (warning: Warning) => {
    warnings.push(warning);
    context.warn(warning);
  };
  for (const path of paths) {
    await naming(logName(path), async () => {
      const log = await openLog(path, STREAM_LIMIT, context);
      try {
        const detector = new MceDetector({ source: logName(path) });
        for await (const chunk of log.chunks) detector.push(chunk);
        const detected = detector.end();
        if (detected.lines === 0) throw new UnavailableError("the file is empty");
        if (!detected.isText && detected.records.length === 0) throw noText();
        for (const warning of log.warnings) warn(warning);
        if (detected.dropped > 0) {
          const message = `${logName(path)}: ${detected.dropped} more errors, of kinds beyond those that are told of`;
          warn({ code: "TRI403", message });
        }
        files.push({ input: log.facts(), detected });
      } finally {
        log.close();
      }
    });
  }
  return { files, warnings };
}

const noText = (): UnsupportedError =>
  new UnsupportedError("it is no text", {
    hint: "guestcore triage dump looks into the log of a dumped machine, triage rtas into RTAS logs as bytes",
  });
