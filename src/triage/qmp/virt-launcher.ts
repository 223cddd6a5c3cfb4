import type { Said } from "./fact.ts";

/**
 * KubeVirt pkg/virt-launcher/notify-client/client.go: the lifecycle event of libvirt that virt-launcher logs, by the numbers of
 * virDomainEventType and its details (libvirt include/libvirt/libvirt-domain.h).
 */
const LIFECYCLE =
  /^DomainLifecycle event (?:(?:Domain event=.{1,80} )?with event id (\d{1,2}) |(\d{1,2}) with )reason (\d{1,2}) received$/;

/** By number: the event as virsh calls it, and its details that tell something. */
const EVENTS: Readonly<Record<number, readonly [string, ...string[]]>> = {
  2: ["Started"],
  3: ["Suspended", "Paused", "Migrated", "I/O error", "Watchdog"],
  4: ["Resumed"],
  5: ["Stopped", "Shutdown", "Destroyed", "Crashed", "Migrated", "Saved", "Failed", "Snapshot"],
  8: ["Crashed", "Panicked", "Crashloaded"],
};

/** What a line of virt-launcher's log says of its VM. */
export function launcherSaid(line: string): Said | undefined {
  if (!line.startsWith("DomainLifecycle event ")) return undefined;
  const [, id, older, reason] = LIFECYCLE.exec(line) ?? [];
  const [event, ...details] = EVENTS[Number(id ?? older)] ?? [];
  return event === undefined
    ? undefined
    : { kind: "lifecycle", event, detail: details[Number(reason)] ?? "" };
}
