import type { SourceDetected } from "./types.ts";

/** Events by which QEMU, or who runs it, tells what ended a boot. */
const ENDS: ReadonlySet<string> = new Set([
  "qmp/reset",
  "qmp/shutdown",
  "qmp/shutoff",
  "qmp/exit",
  "qmp/killed",
]);

/**
 * Without what one source only wonders at and another explains: a boot that breaks off on the console is QEMU's to tell of,
 * where its events are there.
 */
export function withoutExplained(sources: readonly SourceDetected[]): readonly SourceDetected[] {
  const isTold = sources.some(
    ({ kind, events }) => kind !== "console" && events.some((event) => ENDS.has(event.kind)),
  );
  if (!isTold) return sources;
  return sources.map((source) => ({
    ...source,
    findings: source.findings.filter((finding) => finding.class !== "silent-reset"),
  }));
}
