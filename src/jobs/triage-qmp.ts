import { CorruptError, naming, UnsupportedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { bytesText, plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { readStream } from "../io/stream.ts";
import { atLeast, SEVERITIES, type Severity } from "../triage/finding.ts";
import { isCommandLine } from "../triage/qmp/command-line.ts";
import { QmpDetector } from "../triage/qmp/detector.ts";
import type { QmpReport } from "../triage/qmp/report.ts";
import type { Input } from "./input.ts";
import { type Log, logName, openLog } from "./log-input.ts";

export interface TriageQmpOptions {
  /** A file with QEMU's command line. */
  readonly cmdline: string | undefined;
}

/** What one log says. */
export interface TriagedQmp {
  readonly input: Input["facts"];
  readonly report: QmpReport;
}

export interface TriageQmpResult {
  /** In the order they were named. */
  readonly files: readonly TriagedQmp[];
  /** The command line's file, where one was given. */
  readonly cmdline: Input["facts"] | undefined;
  readonly warnings: readonly Warning[];
}

/** A log has more only when it is none. */
const LOG_LIMIT = 2 ** 32;
/** Linux takes 2 MiB of arguments unless it is told otherwise. */
const COMMAND_LINE_LIMIT = 2 ** 21;

/**
 * Reads what QEMU, libvirt or a trace said of machines.
 * @param paths files, packed or not, FIFOs, or `-` for standard input
 * @throws UnsupportedError when there is nothing of it in one; CorruptError when all of it is damaged; IoError
 */
export async function triageQmp(
  paths: readonly string[],
  { cmdline: path }: TriageQmpOptions,
  context: JobContext,
): Promise<TriageQmpResult> {
  const warnings: Warning[] = [];
  const cmdline = path === undefined ? undefined : await commandLine(path, context);
  if (cmdline !== undefined && !isCommandLine(cmdline.text)) {
    const message = `no option of QEMU that matters is in ${cmdline.facts.path}`;
    warnings.push({ code: "TRI207", message, where: { file: cmdline.facts.path } });
  }
  const files: TriagedQmp[] = [];
  for (const name of paths) {
    files.push(await naming(logName(name), () => triageOne(name, cmdline?.text, warnings, context)));
  }
  return { files, cmdline: cmdline?.facts, warnings };
}

/** Read as a stream: /proc/PID/cmdline has no size. */
const commandLine = (path: string, { checkpoint }: JobContext) =>
  naming(logName(path), async () => {
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of readStream(path, logName(path), checkpoint)) {
      chunks.push(Buffer.from(chunk.subarray(0, COMMAND_LINE_LIMIT - size)));
      size += chunks.at(-1)!.length;
      if (size === COMMAND_LINE_LIMIT) break;
    }
    const facts: Input["facts"] = { path, identities: [], size, sizeOnDisk: size, unpacked: undefined };
    return { text: Buffer.concat(chunks).toString("utf8"), facts };
  });

async function triageOne(
  path: string,
  cmdline: string | undefined,
  warnings: Warning[],
  context: JobContext,
): Promise<TriagedQmp> {
  const log = await openLog(path, LOG_LIMIT, context);
  try {
    const source = logName(path);
    const detector = new QmpDetector({ source, cmdline });
    for await (const chunk of log.chunks) detector.push(chunk);
    const report = detector.end();
    if (report.guests.length === 0) throw nothingIn(report);
    warnings.push(...log.warnings, ...warningsOf(report, log));
    return { input: log.facts(), report };
  } finally {
    log.close();
  }
}

function nothingIn({ damage }: QmpReport): CorruptError | UnsupportedError {
  const count = damage.reduce((sum, one) => sum + one.count, 0);
  return count > 0
    ? new CorruptError(`all of its ${plural(count, "JSON object")} are damaged`, {
        hint: "a QMP log has one JSON object for each message; strace cuts strings unless it has -s 65535",
      })
    : new UnsupportedError("no QMP message and no line of libvirt, virsh or QEMU that tells of a machine", {
        hint: "guestcore triage console reads the log of a serial console",
      });
}

const DAMAGE = {
  cut: { code: "TRI201", text: "cut off" },
  syntax: { code: "TRI202", text: "not valid JSON" },
  deep: { code: "TRI203", text: "nested too deeply" },
  long: { code: "TRI203", text: "too long" },
} as const;

function warningsOf(report: QmpReport, log: Log): Warning[] {
  const { source, damage, guests, lostGuests } = report;
  const where = { file: source };
  const warnings: Warning[] = damage.map(({ reason, count, line }) => ({
    code: DAMAGE[reason].code,
    message: `${source}: ${plural(count, "message")} ${DAMAGE[reason].text}, the first in line ${line}`,
    where,
  }));
  const contradictions = guests.flatMap((guest) => guest.contradictions);
  for (const { line, text } of contradictions.slice(0, 3)) {
    warnings.push({ code: "TRI204", message: `${source}: line ${line}: ${text}`, where });
  }
  if (lostGuests > 0) {
    const message = `${source}: the log tells of more machines than ${guests.length}; of the others ${plural(lostGuests, "message")} left out`;
    warnings.push({ code: "TRI205", message, where });
  }
  const omitted = guests.reduce((sum, guest) => sum + guest.omitted, 0);
  if (omitted > 0) {
    const message = `${source}: ${plural(omitted, "event")} in the middle of the time line left out`;
    warnings.push({ code: "TRI206", message, where });
  }
  if (log.larger()) {
    const message = `${source}: larger than ${bytesText(LOG_LIMIT)}; only so much was read`;
    warnings.push({ code: "TRI208", message, where });
  }
  return warnings;
}

/** The worst severity of all findings. */
export const worstOf = ({ files }: TriageQmpResult): Severity | undefined =>
  SEVERITIES.find((severity) =>
    files.some(({ report }) => report.findings.some((finding) => finding.severity === severity)),
  );

/** Whether any finding is as bad as a limit, or worse. */
export function reaches(result: TriageQmpResult, limit: Severity): boolean {
  const worst = worstOf(result);
  return worst !== undefined && atLeast(worst, limit);
}
