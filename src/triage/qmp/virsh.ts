import { isObject, type Json } from "./exact-json.ts";
import type { Said } from "./fact.ts";

/** A line of `virsh event` or `virsh qemu-monitor-event`. */
export interface VirshLine {
  /** Name of the domain. */
  readonly domain: string;
  readonly said: Said;
}

/**
 * libvirt tools/virsh-domain-event.c, virshEventQemuPrint: `event NAME at SECONDS.MICROS for domain 'X'`, with the data
 * behind it, on the same line or over several (--pretty). Before 6.x without quotes.
 */
const MONITOR =
  /(?:^|[\s:])event ([A-Z][A-Z0-9_]{1,60})(?: at (\d{1,12})\.(\d{1,9}))? for domain '?([^':{]{1,200})'?(?::|$)/;
/** virshEventLifecyclePrint: `event 'lifecycle' for domain 'X': Crashed Panicked`. */
const LIFECYCLE =
  /(?:^|[\s:])event '(lifecycle|watchdog|reboot)' for domain '?([^':]{1,200})'?(?:: (.{1,100}))?$/;

export interface MonitorEvent {
  readonly name: string;
  readonly domain: string;
  readonly wall: number | undefined;
}

/** The event whose data come next. */
export function monitorEventOf(head: string): MonitorEvent | undefined {
  if (!head.includes("for domain")) return undefined;
  const found = MONITOR.exec(head);
  if (found === null) return undefined;
  const [, name, seconds, fraction, domain] = found;
  const wall = seconds === undefined ? undefined : Number(seconds) * 1000 + Number(`0.${fraction}`) * 1000;
  return { name: name!, domain: domain!.trim(), wall };
}

export const monitorSaid = ({ name, wall }: MonitorEvent, data: Json | undefined): Said => ({
  kind: "event",
  name,
  data: isObject(data) ? data : undefined,
  wall,
});

/** What a line of `virsh event` says. */
export function virshLineOf(line: string): VirshLine | undefined {
  if (!line.includes("for domain")) return undefined;
  const found = LIFECYCLE.exec(line);
  if (found === null) return undefined;
  const [, kind, name, rest = ""] = found;
  const domain = name!.trim();
  const [event = "", ...detail] = rest.trim().split(" ");
  if (kind === "lifecycle") return { domain, said: { kind: "lifecycle", event, detail: detail.join(" ") } };
  const data = kind === "watchdog" ? { action: event } : undefined;
  // virsh tells of a reboot without saying who asked for it.
  const qmp = kind === "watchdog" ? "WATCHDOG" : "RESET";
  return { domain, said: { kind: "event", name: qmp, data, wall: undefined } };
}
