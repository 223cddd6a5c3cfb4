import { isObject, type Json, type JsonObject, member, number, text } from "./exact-json.ts";
import { kept } from "./kept.ts";

/** A version of QEMU; micro of 50 and above is a development tree. */
export interface QemuVersion {
  readonly major: number;
  readonly minor: number;
  readonly micro: number;
}

/** What one JSON object says, whoever wrote it. */
export type Message =
  | {
      readonly kind: "greeting";
      readonly version: QemuVersion | undefined;
      readonly package: string | undefined;
    }
  | {
      readonly kind: "event";
      readonly name: string;
      readonly data: Json | undefined;
      /** Unix time in ms; undefined where QEMU had none (-1). */
      readonly wall: number | undefined;
    }
  | {
      readonly kind: "command";
      readonly name: string;
      readonly arguments: Json | undefined;
      readonly id: Json | undefined;
    }
  | { readonly kind: "reply"; readonly value: Json; readonly id: Json | undefined }
  | { readonly kind: "refusal"; readonly class: string; readonly desc: string; readonly id: Json | undefined }
  /** What the one who ran QEMU noted: that it ended, and how, or that it was given up. */
  | { readonly kind: "exit"; readonly status: number }
  | { readonly kind: "timeout" };

export interface Unwrapped {
  readonly message: Message | undefined;
  /** Seconds since something of the transcript's choice. */
  readonly t: number | undefined;
  /** Unix time in ms that the wrapper has. */
  readonly wall: number | undefined;
  /** A line of text inside: the record of a logger that writes JSON. */
  readonly line: string | undefined;
}

/** Names under which transcripts and loggers keep a message. */
const WRAPPERS = ["msg", "message", "MESSAGE", "payload", "qmp", "packet", "data", "log"];
const NONE: Unwrapped = { message: undefined, t: undefined, wall: undefined, line: undefined };

/** What a JSON object says: a QMP message, one in the wrapper of a transcript, or a line of a logger. */
export function unwrap(value: Json): Unwrapped {
  if (!isObject(value)) return NONE;
  const message = messageOf(value);
  if (message !== undefined) return { ...NONE, message };
  const inner = WRAPPERS.map((key) => member(value, key)).find((found) => found !== undefined);
  const t = number(value, "t") ?? number(value, "elapsed");
  const wall = wallOf(value);
  if (typeof inner === "string") {
    const note = inner === "timeout" && text(value, "dir") === "#";
    return note
      ? { message: { kind: "timeout" }, t, wall, line: undefined }
      : { ...NONE, t, wall, line: inner };
  }
  return isObject(inner) ? { message: messageOf(inner) ?? exitOf(inner), t, wall, line: undefined } : NONE;
}

/** The message that an object is, unwrapped. */
function messageOf(value: JsonObject): Message | undefined {
  const event = text(value, "event");
  if (event !== undefined) return eventOf(event, value);
  const command = text(value, "execute") ?? text(value, "exec-oob");
  const id = member(value, "id");
  if (command !== undefined) {
    return { kind: "command", name: command, arguments: member(value, "arguments"), id };
  }
  const greeting = member(value, "QMP");
  if (isObject(greeting)) return greetingOf(member(greeting, "version"));
  const error = member(value, "error");
  if (isObject(error)) {
    const desc = text(error, "desc");
    // Other programs have errors too.
    if (desc === undefined) return undefined;
    return { kind: "refusal", class: text(error, "class") ?? "", desc, id };
  }
  const reply = member(value, "return");
  return reply === undefined ? undefined : { kind: "reply", value: reply, id };
}

/** Names of QMP events are in capitals: other logs have events too. */
function eventOf(name: string, value: JsonObject): Message | undefined {
  if (!/^[A-Z][A-Z0-9_]{1,60}$/.test(name)) return undefined;
  const stamp = member(value, "timestamp");
  return {
    kind: "event",
    name,
    data: member(value, "data"),
    wall: isObject(stamp) ? stampOf(stamp) : wallOf(value),
  };
}

/** `{"seconds": S, "microseconds": U}`; both are -1 when the host's clock could not be read. */
function stampOf(stamp: JsonObject): number | undefined {
  const seconds = number(stamp, "seconds");
  const micros = number(stamp, "microseconds") ?? 0;
  return seconds === undefined ? undefined : plausible(seconds * 1000 + Math.max(0, micros) / 1000);
}

/** Between 2001 and 5138: other numbers are no Unix time in ms. */
const plausible = (ms: number): number | undefined => (ms >= 1e12 && ms < 1e14 ? ms : undefined);

function wallOf(value: JsonObject): number | undefined {
  for (const key of ["timestamp", "time", "ts", "@timestamp"]) {
    const stamp = member(value, key);
    if (typeof stamp === "number") return plausible(stamp) ?? plausible(stamp * 1000);
    if (typeof stamp === "string" && stamp.length < 40) {
      const parsed = Date.parse(stamp);
      if (!Number.isNaN(parsed)) return plausible(parsed);
    }
  }
  return undefined;
}

/** `version` of the greeting, and the answer to query-version. */
export function greetingOf(version: Json | undefined): Message {
  const qemu = member(version, "qemu");
  const part = (name: string): number | undefined => {
    const value = number(qemu, name);
    return value !== undefined && Number.isInteger(value) && value >= 0 && value < 10_000 ? value : undefined;
  };
  const [major, minor, micro] = [part("major"), part("minor"), part("micro")];
  const known = major !== undefined && minor !== undefined;
  return {
    kind: "greeting",
    version: known ? { major, minor, micro: micro ?? 0 } : undefined,
    package: kept(text(version, "package") ?? "", 200) || undefined,
  };
}

function exitOf(value: JsonObject): Message | undefined {
  const status = number(value, "exit") ?? number(value, "returncode") ?? number(value, "exit_status");
  return status === undefined || !Number.isInteger(status) ? undefined : { kind: "exit", status };
}

/** Negative when the first is older, 0 when equal. */
export const compareVersions = (a: QemuVersion, b: QemuVersion): number =>
  a.major - b.major || a.minor - b.minor || a.micro - b.micro;

/** `7.2.22` → its numbers; undefined when it is none. */
export function versionOf(text: string): QemuVersion | undefined {
  const [, major, minor, micro = "0"] = /^(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?/.exec(text) ?? [];
  if (major === undefined || minor === undefined) return undefined;
  return { major: Number(major), minor: Number(minor), micro: Number(micro) };
}

export const versionText = ({ major, minor, micro }: QemuVersion): string => `${major}.${minor}.${micro}`;
