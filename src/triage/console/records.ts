import type { JournalFields } from "./journal.ts";
import { journalFields, lineOfJournal, textOfField } from "./journal.ts";

/** What a record of one line has of a console. */
export interface LogRecord {
  /** One byte a character; may have line breaks. */
  readonly text: string;
  /** ISO 8601, by the logger. */
  readonly time: string | undefined;
  /** Of a container's: its stream. */
  readonly stream?: string | undefined;
  /** Whether the line goes on in the next record; undefined where the logger does not say. */
  readonly isPartial?: boolean;
  /** Of the journal's: which boot it is of. */
  readonly boot?: string | undefined;
}

/** `- ` of LAVA's YAML, `data: ` of systemd-journal-gatewayd, RS of `journalctl -o json-seq` (RFC 7464). */
// biome-ignore lint/suspicious/noControlCharactersInRegex: RFC 7464 begins a record with one
const JSON_LINE = /^(?:- |data: |\x1e)?\{.*\},?$/;
/** What LAVA says itself has another level than what the machine printed. */
const LAVA_MACHINE: ReadonlySet<unknown> = new Set(["target", "feedback"]);
/** Kubernetes' CRI and podman; P: the line goes on in the next record, F: it ends. */
const CRI =
  /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) (stdout|stderr) ([PF])(?::\S{1,16})? (.*)$/;
/** What YAML has in double quotes and JSON has not: LAVA's own are both. */
const YAML_ESCAPES: Readonly<Record<string, string>> = {
  e: "001b",
  a: "0007",
  v: "000b",
  0: "0000",
  _: "00a0",
};

/** @param line without its line break */
export function recordOf(line: string): LogRecord | undefined {
  if (JSON_LINE.test(line)) return ofJson(line.slice(line.indexOf("{")).replace(/,$/, ""));
  const cri = CRI.exec(line);
  if (cri === null) return undefined;
  const [, time, stream, tag, text] = cri;
  return { text: text!, time, stream, isPartial: tag === "P" };
}

function ofJson(json: string): LogRecord | undefined {
  const fields = parsed(json) ?? parsed(json.replace(/\\(?:([eav0_])|x([0-9A-F]{2}))/g, escapeOfYaml));
  if (fields === undefined) return undefined;
  if (fields.MESSAGE !== undefined) return ofJournal(journalFields(fields));
  const time = [fields.time, fields.dt, fields.ts].find((one) => typeof one === "string");
  const log = textOfField(fields.log);
  if (log !== undefined) {
    const stream = textOfField(fields.stream) ?? "";
    return log.endsWith("\n") ? { text: log, time, stream, isPartial: false } : { text: log, time, stream };
  }
  if (fields.lvl !== undefined && fields.dt !== undefined && !LAVA_MACHINE.has(fields.lvl)) return undefined;
  const text = textOfField(fields.msg);
  return text === undefined ? undefined : { text, time };
}

/** A record of the journal, whatever form it came in. */
export function ofJournal(fields: JournalFields): LogRecord | undefined {
  const text = lineOfJournal(fields);
  if (text === undefined) return undefined;
  const wall = Number(fields.__REALTIME_TIMESTAMP ?? "x") / 1000;
  const time = Math.abs(wall) < MAX_DATE ? new Date(wall).toISOString() : undefined;
  return { text, time, boot: fields._BOOT_ID };
}

/** ECMA-262, 21.4.1.1: what a date can be, and four digits for the year. */
const MAX_DATE = 253_402_300_800_000;

/** An escape that is JSON's as well stays: `\\e` is a backslash and a letter. */
const escapeOfYaml = (_: string, letter: string | undefined, hex: string | undefined): string =>
  `\\u${letter === undefined ? `00${hex}` : YAML_ESCAPES[letter]}`;

function parsed(json: string): Readonly<Record<string, unknown>> | undefined {
  try {
    return JSON.parse(Buffer.from(json, "latin1").toString()) as Readonly<Record<string, unknown>>;
  } catch {
    return undefined;
  }
}
