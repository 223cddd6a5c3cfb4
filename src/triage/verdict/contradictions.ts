import {
  between,
  bootedAfter,
  type ComparisonRule,
  consoleDeath,
  hasConsole,
  isBare,
  isDead,
  isKept,
  of,
  pstoreDeath,
  qemuWasRead,
  quoted,
  seconds,
} from "./comparison.ts";
import { finalEnds } from "./order.ts";
import { seen } from "./signs.ts";

/** Where sources tell of different things. */
export const CONTRADICTION_RULES: readonly ComparisonRule[] = [
  {
    id: "event-without-console",
    says: (signs) => {
      if (!seen(signs, "panicEvent") || !hasConsole(signs) || consoleDeath(signs) !== undefined)
        return undefined;
      const later = between(of(signs.lastLine, "console").at(-1), signs.panicEvent[0]);
      const gap = later === undefined || later <= 0 ? "" : `; it ends ${seconds(later)} before`;
      return `The guest reported a panic to QEMU, but the console has none${gap}: its last lines are lost, or panics go elsewhere.`;
    },
  },
  {
    id: "device-without-event",
    says: (signs, machine) =>
      isDead(signs) &&
      qemuWasRead(signs) &&
      machine?.pvpanic === true &&
      !seen(signs, "panicEvent") &&
      !seen(signs, "crashLoaded") &&
      !seen(signs, "kdump")
        ? "The machine can report a panic, and the guest panicked, but QEMU had no event: the guest's pvpanic driver was not loaded, or a crash kernel took over first."
        : undefined,
  },
  {
    id: "panic-but-shutdown",
    says: (signs) =>
      isDead(signs) &&
      finalEnds(signs).some(({ kind }) => kind !== "console") &&
      !seen(signs, "guestReset") &&
      !seen(signs, "crashLoaded") &&
      !bootedAfter(consoleDeath(signs), signs)
        ? "A source has a panic, but QEMU saw the guest shut down in order: one of the two is of another run, or the console lost a boot in between."
        : undefined,
  },
  {
    id: "pstore-without-console",
    says: (signs) => {
      const record = pstoreDeath(signs);
      if (record === undefined || !hasConsole(signs)) return undefined;
      const death = consoleDeath(signs);
      if (death === undefined) {
        return `pstore has a panic that the console has not: ${quoted(record.text)}. The console lost it, or the record is of an earlier run.`;
      }
      return isBare(record) || isKept(signs)
        ? undefined
        : `The console and pstore have different panics: ${quoted(death.text)} and ${quoted(record.text)}. The record may be of another run.`;
    },
  },
  {
    id: "qemu-crash-after-panic",
    says: (signs) =>
      seen(signs, "qemuDeath") && (isDead(signs) || seen(signs, "panicEvent"))
        ? `QEMU crashed as well, after the guest had panicked: ${quoted(signs.qemuDeath[0]!.text)}. That is a fault of its own.`
        : undefined,
  },
  {
    id: "host-fault-and-panic",
    says: (signs) =>
      seen(signs, "hostFault") && (isDead(signs) || seen(signs, "panicEvent"))
        ? `The host had a fault too: ${quoted(signs.hostFault[0]!.text)}. Which of the two came first decides which side failed.`
        : undefined,
  },
];
