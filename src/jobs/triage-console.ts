import { naming, UnsupportedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { followFile } from "../io/follow.ts";
import { isStream, readStream } from "../io/stream.ts";
import { ConsoleDetector, type ConsoleReport } from "../triage/console/detector.ts";
import { atLeast, type Severity } from "../triage/finding.ts";
import type { Input } from "./input.ts";
import { logName, openLog } from "./log-input.ts";

export interface TriageConsoleOptions {
  /** What `followed` ends at, and what the exit status is 1 for. */
  readonly failOn: Severity;
  /** Whether a pipe or a growing file is watched until something is found. */
  readonly follow: boolean;
  /** Seconds that it is watched at most; undefined: until the pipe ends, or for ever. */
  readonly timeout: number | undefined;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
}

/** Why a log that was followed is not followed any more. */
export type FollowEnd = "finding" | "timeout" | "end";

export interface ConsoleResult {
  readonly input: Input["facts"];
  readonly report: ConsoleReport;
  /** Undefined when it was not followed. */
  readonly followed: FollowEnd | undefined;
  readonly warnings: readonly Warning[];
}

/** A report goes on behind the line that ends the waiting; milliseconds without anything new, and in all. */
const SETTLE = 1000;
/** What may yet turn out to be an old log is waited for longer. */
const SETTLE_UNSURE = 3000;

/**
 * Finds what a console's log tells.
 * @param path a file, packed or not, a FIFO, or `-` for standard input
 * @throws IoError, CorruptError, UnsupportedError
 */
export function triageConsole(
  path: string,
  options: TriageConsoleOptions,
  context: JobContext,
): Promise<ConsoleResult> {
  return naming(logName(path), () =>
    options.follow ? follow(path, options, context) : readAll(path, context),
  );
}

async function readAll(path: string, context: JobContext): Promise<ConsoleResult> {
  const log = await openLog(path, Number.MAX_SAFE_INTEGER, context);
  try {
    const detector = new ConsoleDetector({ source: logName(path) });
    let isFirst = true;
    for await (const chunk of log.chunks) {
      if (isFirst) refuseBinary(chunk);
      isFirst = false;
      detector.push(chunk);
    }
    const report = detector.end();
    return {
      input: log.facts(),
      report,
      followed: undefined,
      warnings: [...log.warnings, ...warningsOf(report)],
    };
  } finally {
    log.close();
  }
}

/** First bytes of dumps, which people name by mistake: ELF, kdump, flattened, QEMU's migration stream. */
const DUMPS = ["\x7fELF", "KDUMP   ", "makedumpfile", "QEVM", "EMiL", "MZ\x90", "PK\x03\x04"];
const LOOKED_AT = 4096;

/** A log may have NULs, escapes and garbage; what consists of control characters is none. */
function refuseBinary(chunk: Buffer): void {
  const head = chunk.toString("latin1", 0, LOOKED_AT);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that no text has
  const controls = head.match(/[\x01-\x07\x0e-\x1a\x1c-\x1f]/g)?.length ?? 0;
  if (controls * 8 <= head.length && !DUMPS.some((magic) => head.startsWith(magic))) return;
  throw new UnsupportedError("not a console log", { hint: "guestcore info FILE tells what it is" });
}

async function follow(
  path: string,
  options: TriageConsoleOptions,
  context: JobContext,
): Promise<ConsoleResult> {
  const { failOn, timeout, now } = options;
  const detector = new ConsoleDetector({ source: logName(path) });
  const until = timeout === undefined ? Number.POSITIVE_INFINITY : now() + timeout * 1000;
  let settled = Number.POSITIVE_INFINITY;
  const isBad = (evenUnsure: boolean) => {
    const worst = detector.worst(evenUnsure);
    return worst !== undefined && atLeast(worst, failOn);
  };
  const isOver = () => now() >= Math.min(until, settled);
  const chunks = isStream(path)
    ? readStream(path, logName(path), context.checkpoint, isOver)
    : followFile(path, context.checkpoint, isOver);
  for await (const chunk of chunks) {
    detector.push(chunk);
    await context.checkpoint();
    if (settled === Number.POSITIVE_INFINITY && isBad(true))
      settled = now() + (isBad(false) ? SETTLE : SETTLE_UNSURE);
    else if (!isBad(true)) settled = Number.POSITIVE_INFINITY;
    if (isOver()) break;
  }
  const found = isBad(true);
  const report = detector.end();
  const size = report.bytes;
  return {
    input: { path, identities: [], size, sizeOnDisk: size, unpacked: undefined },
    report,
    followed: found ? "finding" : now() >= until ? "timeout" : "end",
    warnings: warningsOf(report),
  };
}

function warningsOf({ cutLines, leftOut, findings }: ConsoleReport): Warning[] {
  const warnings: Warning[] = [];
  if (cutLines > 0) {
    warnings.push({
      code: "TRI101",
      message: `${plural(cutLines, "line")} of more than 4096 bytes: what lies beyond was not looked at`,
      hint: "a console's lines are shorter: it may be no text, or carry another stream",
    });
  }
  if (leftOut > 0) {
    warnings.push({
      code: "TRI102",
      message: `the log tells of ${findings.length + leftOut} incidents; the worst and the first ${findings.length} are shown`,
    });
  }
  return warnings;
}
