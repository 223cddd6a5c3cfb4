import { plural } from "../../core/text.ts";
import type { Evidence, Finding, Moment, TimelineEvent } from "../finding.ts";
import { type Crash, type Dump, dumpName, isIn } from "./dumps.ts";
import { type LogLine, titleOf, uptimesOf } from "./log-lines.ts";
import type { PstoreRecord } from "./record.ts";

/** Characters of a line that are kept. */
const MAX_EVIDENCE = 1000;

const momentOf = ({ time, uptimes }: Dump): Moment => ({
  ...(time === undefined ? {} : { wall: time }),
  ...(uptimes.last === undefined ? {} : { uptime: uptimes.last }),
});

const HARDWARE = /[Mm]achine [Cc]heck|\[Hardware Error\]/;

/** What a crash comes to, with the lines that it rests on. */
export function crashFinding(crash: Crash, dumps: readonly Dump[]): Finding {
  const { kind, line, panic, told } = crash;
  const last = crash.dumps.at(-1)!;
  const best = line ?? panic;
  const name = dumpName(last);
  const title = best === undefined ? `${name}: the guest's kernel saved its log` : titleOf(best);
  const isHardware = [line, panic].some((said) => said !== undefined && HARDWARE.test(said.text));
  const survived = kind === "oops" && wentOn(last, dumps);
  return {
    rule: "pstore/record",
    class: kind,
    severity: kind,
    side: isHardware ? "hardware" : "guest",
    // A dump that does not say why it was made is judged by its text.
    trust: last.reason === undefined ? "likely" : "certain",
    title,
    ...(kind === "panic" ? { survived: false } : survived ? { survived } : {}),
    at: momentOf(last),
    evidence: evidenceOf(crash),
    details: {
      dumps: crash.dumps.map(dumpName),
      backend: last.records[0]!.backend ?? null,
      parts: last.records.length,
      missing: last.missing,
      panic: panic === undefined ? null : titleOf(panic),
      toldBy: dumpName(told),
    },
  };
}

/** Dumps after an oops that are looked at for whether the guest went on. */
const MAX_LATER = 8;

/** Whether the guest went on in the same boot: a later dump has the oops's last words. */
function wentOn(oops: Dump, dumps: readonly Dump[]): boolean {
  const { last } = oops.uptimes;
  if (last === undefined) return false;
  return dumps
    .filter(({ count, uptimes: { first, last: until } }) => {
      const isLater = (count ?? 0) > (oops.count ?? 0) && (until ?? 0) > last;
      return isLater && first !== undefined && first <= last;
    })
    .slice(0, MAX_LATER)
    .some((dump) => isIn(oops, dump));
}

function evidenceOf({ line, panic, told, dumps }: Crash): Evidence[] {
  const lines: Evidence[] = [];
  const add = (dump: Dump, said: LogLine | undefined) => {
    if (said === undefined || lines.some(({ text }) => text === said.text)) return;
    lines.push({ ...placeOf(dump, said), text: said.text.slice(0, MAX_EVIDENCE) });
  };
  add(told, line);
  add(dumps.at(-1)!, panic);
  const records = dumps.flatMap(({ records: all }) => all.slice(-1));
  return [
    ...lines,
    ...records.map(({ source, offset, header }) => ({
      source,
      ...(offset === undefined ? {} : { offset }),
      text:
        header === undefined ? "a dump of the log" : `${header.reason}#${header.count} Part${header.part}`,
    })),
  ];
}

/** The record, and the line of it, that a line of a dump put together is from. */
function placeOf(dump: Dump, { number }: LogLine): { readonly source: string; readonly line: number } {
  let before = 0;
  for (const { source, bytes, header } of dump.records) {
    const lines = countLines(bytes) - (header === undefined ? 0 : 1);
    if (number <= before + lines) return { source, line: number - before + (header === undefined ? 0 : 1) };
    before += lines;
  }
  return { source: dump.records.at(-1)!.source, line: number - before };
}

function countLines(bytes: Uint8Array): number {
  let lines = bytes.at(-1) === 10 || bytes.length === 0 ? 0 : 1;
  for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) lines++;
  return lines;
}

/** mce_panic() saves the last machine check before it stops (arch/x86/kernel/cpu/mce/apei.c apei_write_mce()). */
export function mceFinding({ source, offset, time, bytes }: PstoreRecord): Finding {
  const status =
    bytes.length >= 8 ? `0x${bytes.readBigUInt64LE(0).toString(16).padStart(16, "0")}` : undefined;
  return {
    rule: "pstore/mce",
    class: "machine-check",
    severity: "panic",
    side: "hardware",
    trust: "likely",
    title: `machine check saved by the guest's kernel${status === undefined ? "" : `, MCi_STATUS ${status}`}`,
    ...(time === undefined ? {} : { at: { wall: time } }),
    evidence: [
      { source, ...(offset === undefined ? {} : { offset }), text: `${bytes.length} bytes of struct mce` },
    ],
    ...(status === undefined ? {} : { details: { status } }),
  };
}

/** A dump that nothing unpacks: that it is there is all that it tells. */
export const unreadFinding = ({ source, stored }: PstoreRecord, count: number): Finding => ({
  rule: "pstore/unreadable",
  class: "unreadable-dump",
  severity: "warning",
  side: "guest",
  trust: "possible",
  title: `the guest's kernel saved ${plural(count, "dump")} of its log that cannot be unpacked`,
  evidence: [{ source, text: `${stored} bytes` }],
});

/** When a dump was saved. */
export function dumpEvent(dump: Dump): TimelineEvent {
  const { records, missing, erased } = dump;
  const parts = records.length === 1 ? "" : ` in ${records.length} parts`;
  const gap = missing.length === 0 ? "" : `, ${missing.length} missing`;
  return {
    kind: erased ? "pstore/erased" : "pstore/record",
    at: momentOf(dump),
    source: records.at(-1)!.source,
    text: `${dumpName(dump)} saved${parts}${gap}${erased ? ", deleted by the guest" : ""}`,
  };
}

/** The end of a console's log, which is the last that the guest said. */
export function consoleEvent({ type, source, bytes }: PstoreRecord): TimelineEvent[] {
  if (type !== "console" || bytes.length === 0) return [];
  const { last } = uptimesOf(bytes);
  const at = last === undefined ? {} : { at: { uptime: last } };
  return [{ kind: "pstore/console", ...at, source, text: `console kept, ${bytes.length} bytes` }];
}
