import { latin1 } from "../../core/bytes.ts";

/** Fields that are looked at (systemd.journal-fields(7)); text, one byte a character. */
const NAMES = [
  ...(["MESSAGE", "SYSLOG_IDENTIFIER", "_COMM", "_PID", "_TRANSPORT", "_BOOT_ID"] as const),
  ...(["_SOURCE_MONOTONIC_TIMESTAMP", "__REALTIME_TIMESTAMP"] as const),
] as const;
export type JournalFields = { [name in (typeof NAMES)[number]]?: string | undefined };

export const isWanted = (name: string): name is keyof JournalFields =>
  (NAMES as readonly string[]).includes(name);

/** A field of JSON as text, one byte a character: the journal has what is no UTF-8, and what is repeated, as arrays. */
export function textOfField(value: unknown): string | undefined {
  if (typeof value === "string") return latin1(Buffer.from(value));
  if (!Array.isArray(value)) return undefined;
  const [first] = value as unknown[];
  if (typeof first === "string") return latin1(Buffer.from(first));
  const isBytes = value.every((byte) => Number.isInteger(byte) && byte >= 0 && byte <= 255);
  return isBytes ? latin1(Buffer.from(value as number[])) : undefined;
}

export const journalFields = (record: Readonly<Record<string, unknown>>): JournalFields =>
  Object.fromEntries(NAMES.map((name) => [name, textOfField(record[name])]));

/** A record as the line that dmesg prints, or that syslog would have; undefined when it has no message. */
export function lineOfJournal(fields: JournalFields): string | undefined {
  const { MESSAGE: message, _TRANSPORT: transport, _PID: pid = "1" } = fields;
  if (message === undefined) return undefined;
  const program = fields.SYSLOG_IDENTIFIER ?? fields._COMM;
  if (transport === "kernel" || (transport === undefined && program === "kernel")) {
    const since = Number(fields._SOURCE_MONOTONIC_TIMESTAMP ?? "x");
    return Number.isNaN(since) ? message : `[${(since / 1e6).toFixed(6).padStart(12)}] ${message}`;
  }
  return program === undefined ? message : `${program}[${pid}]: ${message}`;
}
