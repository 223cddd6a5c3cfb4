import { naming, UnavailableError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource } from "../core/memory.ts";
import { bytesText, plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { type DecodedVmcs, decodeVmcs } from "../vmx/decoded.ts";
import { DumpReader, type LogDump, MAX_DUMPS, type VmcbDump, type VmcsDump } from "../vmx/dmesg.ts";
import { type Input, openInput } from "./input.ts";

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
const CHUNK = 2 ** 20;
/** A longer line is no line of a dump; what is beyond is passed over. */
const LINE_LIMIT = 4096;
const NEWLINE = 10;

/**
 * Finds and decodes the VMCSs and VMCBs that KVM or Xen printed into a log.
 * @throws IoError when it cannot be read; UnavailableError when there is none in it
 */
export function vmcsDmesg(path: string, context: JobContext): Promise<VmcsDmesgResult> {
  return naming(path, async () => {
    const input = await openInput(path, context);
    try {
      const reader = new DumpReader();
      const whole = await feed(input.source, reader, context);
      const found = reader.finish();
      if (found.length === 0) throw noDumps(reader.suppressed);
      const warnings = [...input.warnings, ...warningsOf(found)];
      if (!whole || reader.full) warnings.push(cut(whole));
      return { input: input.facts, dumps: found.map(decode), warnings };
    } finally {
      input.close();
    }
  });
}

function noDumps(suppressed: string | undefined): UnavailableError {
  const [module, parameter] = (suppressed ?? "kvm_intel.dump_invalid_vmcs=1").replace("=1", "").split(".");
  return new UnavailableError("no VMCS or VMCB dump in the log", {
    hint:
      suppressed === undefined
        ? "KVM dumps a VMCS when VM entry fails, from Linux 5.2 on only with kvm_intel.dump_invalid_vmcs=1"
        : `KVM was not told to dump: echo 1 > /sys/module/${module}/parameters/${parameter}`,
  });
}

/** Splits the log into lines; whether all of it was read. */
async function feed(source: ByteSource, reader: DumpReader, context: JobContext): Promise<boolean> {
  const { progress } = context;
  const size = Math.min(source.size, LOG_LIMIT);
  const buffer = Buffer.alloc(CHUNK);
  let rest = "";
  progress.start(size, "reading the log");
  try {
    for (let offset = 0; offset < size && !reader.full; ) {
      const got = source.read(offset, buffer.subarray(0, Math.min(CHUNK, size - offset)));
      if (got === 0) break;
      rest = feedChunk(buffer.subarray(0, got), rest, reader);
      offset += got;
      progress.update(offset);
      await context.checkpoint();
    }
    if (rest !== "") reader.add(rest);
  } finally {
    progress.finish();
  }
  return source.size <= LOG_LIMIT;
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
  return dumps.flatMap(({ firstLine, missingSections, conflicts }) => {
    const warnings: Warning[] = [];
    if (missingSections.length > 0) {
      warnings.push({
        code: "VMX001",
        message: `the dump at line ${firstLine} is cut: ${missingSections.join(" and ")} part missing`,
      });
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

const cut = (whole: boolean): Warning => ({
  code: "VMX003",
  message: whole
    ? `the log has ${plural(MAX_DUMPS, "dump")} or more; only so many are shown`
    : `the log is larger than ${bytesText(LOG_LIMIT)}; only so much was read`,
});
