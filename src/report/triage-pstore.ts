import { bytesText, plural, printable, shellWord } from "../core/text.ts";
import type { TriagePstoreResult } from "../jobs/triage-pstore.ts";
import type { Finding, Moment } from "../triage/finding.ts";
import { type Crash, type Dump, dumpName, kindOf } from "../triage/pstore/dumps.ts";
import { titleOf } from "../triage/pstore/log-lines.ts";
import type { PstoreRecord } from "../triage/pstore/record.ts";
import { partsText } from "../triage/pstore/report.ts";
import { alignedColumns } from "./columns.ts";
import { eventJson, findingJson } from "./triage-finding.ts";

/** What of a result is shown. */
export interface PstoreFlags {
  /** Every record, a line each. */
  readonly list: boolean;
}

/** `result` for people: crashes first, the records on demand, the next command last. */
export function triagePstoreText(result: TriagePstoreResult, { list }: PstoreFlags): string {
  const { report, inputs } = result;
  const { crashes, dumps, records, stores } = report;
  const lines = [headLine(result)];
  for (const [i, crash] of crashes.entries()) lines.push("", ...crashLines(crash, i + 1, crashes.length));
  const crashed = new Set(crashes.flatMap((crash) => crash.dumps));
  const others = dumps.filter((dump) => !crashed.has(dump));
  if (others.length > 0) lines.push("", ...others.map(otherLine));
  const told = result.findings.filter(({ rule }) => rule !== "pstore/record");
  if (told.length > 0) lines.push("", ...told.map(findingLine));
  const kept = keptLine(records);
  if (kept !== undefined) lines.push("", kept);
  if (list) {
    lines.push("", ...recordLines(records));
    lines.push(
      "",
      ...stores.map(({ path, kind, records: n }) => `${printable(path)}: ${kind}, ${plural(n, "record")}`),
    );
  }
  // What came by standard input has no name to be read by again.
  if (crashes.length > 0 && inputs.every(({ path }) => path !== "-")) {
    const words = inputs.map(({ path }) => shellWord(path)).join(" ");
    lines.push("", `next: guestcore triage pstore ${words} --dmesg dmesg.txt`);
  }
  return `${lines.join("\n")}\n`;
}

function headLine({ inputs, report, passedOver }: TriagePstoreResult): string {
  const { records, crashes, copies } = report;
  const names = inputs.length === 1 ? printable(inputs[0]!.path) : plural(inputs.length, "path");
  const parts = [
    plural(records.length, "record"),
    crashes.length === 0 ? "no crash" : plural(crashes.length, "crash", "crashes"),
    ...(copies === 0 ? [] : [`${copies} found twice`]),
    ...(passedOver === 0 ? [] : [`${plural(passedOver, "other file")} passed over`]),
  ];
  return `${names}: ${parts.join(", ")}`;
}

function crashLines(crash: Crash, number: number, count: number): string[] {
  const { kind, line, panic, dumps, text } = crash;
  const last = dumps.at(-1)!;
  const name = count === 1 ? "" : `crash ${number}, `;
  const title = line ?? panic;
  const lines = [`${name}${kind}: ${title === undefined ? "no line says why" : printable(titleOf(title))}`];
  if (panic !== undefined && panic.text !== title?.text) lines.push(`  then    ${printable(titleOf(panic))}`);
  const when = whenText({ ...(last.time === undefined ? {} : { wall: last.time }), ...uptimeOf(last) });
  if (when !== "") lines.push(`  when    ${when}`);
  for (const dump of dumps) lines.push(`  saved   ${dumpText(dump)}`);
  const { first } = dumps[0]!.uptimes;
  const from =
    first === undefined || first === 0 ? "" : `, from ${first.toFixed(6)} s on: what was before is not in it`;
  lines.push(`  log     ${bytesText(text.length)}${from}`);
  return lines;
}

const uptimeOf = ({ uptimes: { last } }: Dump): Moment => (last === undefined ? {} : { uptime: last });

/** `2026-11-21T03:17:30Z by the guest's clock, 12.345678 s after its boot`. */
function whenText({ wall, uptime }: Moment): string {
  const parts = [
    ...(wall === undefined ? [] : [`${isoTime(wall)} by the guest's clock`]),
    ...(uptime === undefined ? [] : [`${uptime.toFixed(6)} s after its boot`]),
  ];
  return parts.join(", ");
}

const isoTime = (time: number): string => new Date(time).toISOString().replace(/\.000Z$/, "Z");

function dumpText(dump: Dump): string {
  const { records, missing, erased } = dump;
  const [first] = records;
  const where = first!.backend === undefined ? "" : ` by ${printable(first!.backend)}`;
  const packed = [...new Set(records.map(({ compression }) => compression))].join(", ");
  const parts = [
    records.length === 1 ? "1 record" : `${records.length} parts`,
    packed === "none" ? "not packed" : packed,
    ...(missing.length === 0 ? [] : [`${partsText(missing)} missing`]),
    ...(erased ? ["deleted by the guest"] : []),
    ...eccTexts(records),
  ];
  return `${dumpName(dump)}${where}: ${parts.join(", ")}`;
}

function eccTexts(records: readonly PstoreRecord[]): string[] {
  let corrected = 0;
  let unrecoverable = 0;
  for (const { ecc } of records) {
    corrected += ecc?.corrected ?? 0;
    unrecoverable += ecc?.unrecoverable ?? 0;
  }
  if (corrected === 0 && unrecoverable === 0) return [];
  return [`ECC repaired ${plural(corrected, "byte")}, ${plural(unrecoverable, "block")} beyond repair`];
}

function otherLine(dump: Dump): string {
  const kind = kindOf(dump);
  const what = dump.erased && kind !== undefined ? `${kind}, not counted (--erased)` : "no crash";
  const when = whenText({ ...(dump.time === undefined ? {} : { wall: dump.time }), ...uptimeOf(dump) });
  return `${dumpText(dump)}; ${what}${when === "" ? "" : `; ${when}`}`;
}

const findingLine = ({ severity, title, evidence }: Finding): string =>
  `${severity}: ${printable(title)} (${printable(evidence[0]?.source ?? "")})`;

/** What else there is: console, pmsg, ftrace, and firmware's logs. */
function keptLine(records: readonly PstoreRecord[]): string | undefined {
  const sizes = new Map<string, number>();
  for (const { type, bytes } of records) {
    if (type !== "dmesg" && type !== "unknown") sizes.set(type, (sizes.get(type) ?? 0) + bytes.length);
  }
  if (sizes.size === 0) return undefined;
  return `also kept: ${[...sizes].map(([type, size]) => `${type} ${bytesText(size)}`).join(", ")}`;
}

function recordLines(records: readonly PstoreRecord[]): string[] {
  const head = ["  n", "type", "reason", "stored", "packed", "size", "source"];
  return alignedColumns([
    head,
    ...records.map((record, i) => {
      const { type, header, stored, compression, bytes, source } = record;
      const reason = header === undefined ? "-" : `${header.reason}#${header.count} Part${header.part}`;
      const cells = [
        String(i + 1).padStart(3),
        type,
        reason,
        String(stored),
        compression,
        String(bytes.length),
      ];
      return [...cells, printable(source)];
    }),
  ]);
}

const dumpJson = (dump: Dump, records: readonly PstoreRecord[]) => ({
  reason: dump.reason ?? null,
  count: dump.count ?? null,
  records: dump.records.map((record) => records.indexOf(record) + 1),
  missing: dump.missing.slice(0, MAX_MISSING),
  uptime: { first: dump.uptimes.first ?? null, last: dump.uptimes.last ?? null },
  time: dump.time ?? null,
  size: dump.text.length,
  erased: dump.erased,
});

/** Numbers of missing parts that are listed. */
const MAX_MISSING = 1000;

/** `result` of guestcore/triage-pstore/1. */
export function triagePstoreJson({ report, passedOver, findings, events }: TriagePstoreResult) {
  const { records, dumps, crashes, stores, copies, rtas } = report;
  return {
    findings: findings.map(findingJson),
    events: events.map(eventJson),
    crashes: crashes.map(({ kind, line, panic, dumps: own, text }) => ({
      kind,
      title: line === undefined ? null : titleOf(line),
      panic: panic === undefined ? null : titleOf(panic),
      dumps: own.map((dump) => dumps.indexOf(dump) + 1),
      log: text.toString(),
    })),
    dumps: dumps.map((dump) => dumpJson(dump, records)),
    records: records.map((record) => ({
      source: record.source,
      offset: record.offset ?? null,
      backend: record.backend ?? null,
      type: record.type,
      id: record.id ?? null,
      time: record.time ?? null,
      header: record.header ?? null,
      compression: record.compression,
      stored: record.stored,
      size: record.bytes.length,
      fault: record.fault ?? null,
      ecc: record.ecc ?? null,
      erased: record.erased,
    })),
    rtas: rtas.map(({ source, offset, id, bytes }) => ({
      source,
      offset: offset ?? null,
      id: id ?? null,
      bytes: bytes.toString("hex"),
    })),
    stores,
    copies,
    passedOver,
  };
}

/** Text of a record for a terminal: its lines, with whatever a terminal would obey escaped. */
export const recordText = (bytes: Buffer): string =>
  `${bytes
    .toString()
    .replace(/\n$/, "")
    .split("\n")
    .map((line) => line.split("\t").map(printable).join("\t"))
    .join("\n")}\n`;
