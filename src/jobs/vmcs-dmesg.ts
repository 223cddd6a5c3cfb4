import { naming, UnavailableError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { bytesText, plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { type DecodedVmcs, decodeVmcs } from "../vmx/decoded.ts";
import { DumpReader, type LogDump, MAX_DUMPS, type VmcbDump, type VmcsDump } from "../vmx/dmesg.ts";
import type { Input } from "./input.ts";
import { type Log, logName, openLog } from "./log-input.ts";

/** A dump with what follows from its fields; a VMCB's are decoded elsewhere. */
export type DecodedDump =
  | { readonly dump: VmcsDump; readonly decoded: DecodedVmcs }
  | { readonly dump: VmcbDump; readonly decoded: undefined };

export interface VmcsDmesgResult {
  readonly input: Input["facts"];
  /** In the order of the log. */
  readonly dumps: readonly DecodedDump[];
  readonly warnings: readonly Warning[];
}

/** A log has more only when it is none. */
const LOG_LIMIT = 2 ** 30;
/** A longer line is no line of a dump; what is beyond is passed over. */
const LINE_LIMIT = 4096;
const NEWLINE = 10;

/**
 * Finds and decodes the VMCSs and VMCBs that KVM or Xen printed into a log.
 * @param path a file, packed or not, a FIFO, or `-` for standard input
 * @throws IoError when it cannot be read; UnavailableError when there is none in it
 */
export function vmcsDmesg(path: string, context: JobContext): Promise<VmcsDmesgResult> {
  return naming(logName(path), async () => {
    const log = await openLog(path, LOG_LIMIT, context);
    try {
      const reader = new DumpReader();
      await feed(log.chunks, reader);
      const found = reader.finish();
      if (found.length === 0) throw noDumps(reader.suppressed, log.larger());
      const warnings = [...log.warnings, ...warningsOf(found), ...cut(log, reader.full)];
      return { input: log.facts(), dumps: found.map(decode), warnings };
    } finally {
      log.close();
    }
  });
}

function noDumps(suppressed: string | undefined, larger: boolean): UnavailableError {
  const [module, parameter] = (suppressed ?? "kvm_intel.dump_invalid_vmcs=1").replace("=1", "").split(".");
  const where = larger ? `the first ${bytesText(LOG_LIMIT)} of the log` : "the log";
  return new UnavailableError(`no VMCS or VMCB dump in ${where}`, {
    hint:
      suppressed === undefined
        ? "KVM dumps a VMCS when VM entry fails, from Linux 5.2 on only with kvm_intel.dump_invalid_vmcs=1"
        : `KVM was not told to dump: echo 1 > /sys/module/${module}/parameters/${parameter}`,
  });
}

/** Splits the log into lines, as long as they are looked at. */
async function feed(chunks: AsyncIterable<Buffer>, reader: DumpReader): Promise<void> {
  let rest = "";
  for await (const chunk of chunks) {
    rest = feedChunk(chunk, rest, reader);
    if (reader.full) return;
  }
  if (rest !== "") reader.add(rest);
}

/** Feeds the whole lines of a chunk and returns the last, which may go on. */
function feedChunk(chunk: Buffer, rest: string, reader: DumpReader): string {
  let line = rest;
  let start = 0;
  for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
    reader.add(line + chunk.toString("latin1", start, Math.min(end, start + LINE_LIMIT)));
    line = "";
    start = end + 1;
  }
  return (line + chunk.toString("latin1", start, Math.min(chunk.length, start + LINE_LIMIT))).slice(
    0,
    LINE_LIMIT,
  );
}

const decode = (dump: LogDump): DecodedDump =>
  dump.kind === "vmcb"
    ? { dump, decoded: undefined }
    : { dump, decoded: decodeVmcs(dump, undefined, dump.efer) };

function warningsOf(dumps: readonly LogDump[]): Warning[] {
  return dumps.flatMap((dump) => {
    const { firstLine, conflicts } = dump;
    const warnings: Warning[] = [];
    const missing = missingText(dump);
    if (missing !== "") {
      warnings.push({ code: "VMX001", message: `the dump at line ${firstLine} is cut: ${missing} missing` });
    }
    if (conflicts.length > 0) {
      warnings.push({
        code: "VMX002",
        message: `the dump at line ${firstLine} says ${conflicts.slice(0, 4).join(", ")} twice, differently`,
        hint: "boot with printk.caller_id or take the log of one failure",
      });
    }
    return warnings;
  });
}

/** `host part, GUEST_CR0, GUEST_CR4 and 3 more fields`; empty when all is there. */
function missingText({ missingSections, missingFields }: LogDump): string {
  const named = missingFields.slice(0, 4);
  const more = missingFields.length - named.length;
  const fields = more === 0 ? named.join(", ") : `${named.join(", ")} and ${plural(more, "more field")}`;
  const parts = missingSections.length === 0 ? "" : `${missingSections.join(" and ")} part`;
  return [parts, fields].filter((text) => text !== "").join(", ");
}

function cut(log: Log, full: boolean): Warning[] {
  if (!log.larger() && !full) return [];
  const message = log.larger()
    ? `the log is larger than ${bytesText(LOG_LIMIT)}; only so much was read`
    : `the log has ${plural(MAX_DUMPS, "dump")} or more; only so many are shown`;
  return [{ code: "VMX003", message }];
}
