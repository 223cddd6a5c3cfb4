import type { Finding } from "../finding.ts";
import { finalEnds } from "./order.ts";
import { type Occurrence, type Signs, seen } from "./signs.ts";
import type { MachineFacts, Statement } from "./types.ts";

/** How two sources stand to each other. */
interface AgreementRule {
  readonly id: string;
  readonly is: "agreement" | "contradiction";
  /** @returns a sentence; undefined when there is nothing to say */
  readonly says: (signs: Signs, machine: MachineFacts | undefined) => string | undefined;
}

const of = (found: readonly Occurrence[], ...kinds: readonly string[]): readonly Occurrence[] =>
  found.filter(({ kind }) => kinds.includes(kind));

const quoted = (text: string): string => `"${text.length > 120 ? `${text.slice(0, 117)}...` : text}"`;

const SAME_WORDS = 12;
/** Titles without addresses and numbers, for a comparison of what two sources wrote of one failure. */
const bare = (text: string): string =>
  text
    .slice(0, 400)
    .toLowerCase()
    .replace(/0x[0-9a-f]+|\d+/g, "")
    .replace(/[^a-z]+/g, " ")
    .trim();

/** Whether two findings are of one failure: equal signatures, or one title within the other. */
export function isSame(a: Finding, b: Finding): boolean {
  if (a.signature !== undefined && a.signature === b.signature) return true;
  const [one, other] = [bare(a.title), bare(b.title)];
  const [short, long] = one.length < other.length ? [one, other] : [other, one];
  return short.length >= SAME_WORDS ? long.includes(short) : short === long;
}

/** Seconds with one digit. */
const seconds = (milliseconds: number): string => `${(milliseconds / 1000).toFixed(1)} s`;

/** Time between two moments of one clock; undefined where either is not known. */
function between(earlier: Occurrence | undefined, later: Occurrence | undefined): number | undefined {
  const [from, to] = [earlier?.at?.wall, later?.at?.wall];
  return from === undefined || to === undefined ? undefined : to - from;
}

const qemuWasRead = ({ kinds }: Signs): boolean => kinds.has("qmp");
const hasConsole = ({ kinds }: Signs): boolean => kinds.has("console");
const isDead = (signs: Signs): boolean => seen(signs, "death") || seen(signs, "hardwareDeath");
const consoleDeath = (signs: Signs): Occurrence | undefined =>
  [...of(signs.death, "console"), ...of(signs.hardwareDeath, "console")][0];
/** Whether the same console has a boot after that, of a crash kernel or of the guest again. */
const bootedAfter = (death: Occurrence | undefined, { boot, kdump }: Signs): boolean =>
  [...boot, ...kdump].some(({ source, place }) => source === death?.source && place > death.place);
/** A record that has no line of the panic: which one it was cannot be told. */
const isBare = ({ finding }: Occurrence): boolean =>
  finding?.rule === "pstore/record" && finding.evidence.every(({ line }) => line === undefined);
const pstoreDeaths = (signs: Signs): readonly Occurrence[] => [
  ...of(signs.death, "pstore"),
  ...of(signs.hardwareDeath, "pstore"),
];
const pstoreDeath = (signs: Signs): Occurrence | undefined => {
  const deaths = pstoreDeaths(signs);
  return deaths.find((one) => !isBare(one)) ?? deaths[0];
};
/** Deaths of a source that are compared with those of another, the last ones. */
const MAX_COMPARED = 50;
/** Whether one of the console's deaths is in pstore; a console can have several boots. */
function isKept(signs: Signs): boolean {
  const deaths = [...of(signs.death, "console"), ...of(signs.hardwareDeath, "console")].slice(-MAX_COMPARED);
  return pstoreDeaths(signs)
    .slice(-MAX_COMPARED)
    .some((record) => deaths.some(({ finding }) => isSame(finding!, record.finding!)));
}
/** Whether the guest was still standing in its panic when the log of QEMU ends. */
const stands = (signs: Signs): boolean =>
  seen(signs, "panicEvent") && seen(signs, "stop") && !seen(signs, "resume") && !seen(signs, "guestReset");

export const AGREEMENT_RULES: readonly AgreementRule[] = [
  {
    id: "console-and-event",
    is: "agreement",
    says: (signs) => {
      const death = consoleDeath(signs);
      if (death === undefined || !seen(signs, "panicEvent")) return undefined;
      const later = between(death, signs.panicEvent[0]);
      const delay = later === undefined || later < 0 ? "" : `, ${seconds(later)} after the console's line`;
      return `The console has the panic and QEMU had the guest's report of it (GUEST_PANICKED)${delay}.`;
    },
  },
  {
    id: "console-and-pstore",
    is: "agreement",
    says: (signs) => (isKept(signs) ? "The panic on the console is kept in pstore too." : undefined),
  },
  {
    id: "console-and-dump",
    is: "agreement",
    says: (signs) => {
      const [a, b] = [consoleDeath(signs)?.finding, of(signs.death, "dump")[0]?.finding];
      return a !== undefined && b !== undefined && isSame(a, b)
        ? "The panic on the console is in the dump's own kernel log too."
        : undefined;
    },
  },
  {
    id: "event-and-pstore",
    is: "agreement",
    says: (signs) =>
      seen(signs, "panicEvent") && pstoreDeath(signs) !== undefined
        ? "The guest reported a panic to QEMU and kept a record of it in pstore."
        : undefined,
  },
  {
    id: "reset-after-panic",
    is: "agreement",
    says: (signs, machine) => {
      if (!isDead(signs) || !seen(signs, "guestReset")) return undefined;
      const { panicTimeout, noReboot } = machine ?? {};
      const asked = panicTimeout !== undefined && panicTimeout !== 0 ? ` (panic=${panicTimeout})` : "";
      const end = noReboot === true ? "; with -no-reboot that ended QEMU" : "";
      return `QEMU saw the guest reset itself, as it does after a panic${asked}${end}.`;
    },
  },
  {
    id: "kdump-took-it",
    is: "agreement",
    says: (signs) => {
      if (!seen(signs, "kdump")) return undefined;
      if (seen(signs, "crashLoaded"))
        return "GUEST_CRASHLOADED told that the crash kernel would come, and it did.";
      return (isDead(signs) || seen(signs, "oops")) && qemuWasRead(signs) && !seen(signs, "panicEvent")
        ? "No event of the panic reached QEMU, as is to be expected: the crash kernel starts before the panic notifiers, unless crash_kexec_post_notifiers is set."
        : undefined;
    },
  },
  {
    id: "no-device",
    is: "agreement",
    says: (signs, machine) =>
      isDead(signs) &&
      qemuWasRead(signs) &&
      machine?.pvpanic === false &&
      !seen(signs, "panicEvent") &&
      !seen(signs, "crashLoaded")
        ? "No event of the panic reached QEMU, as is to be expected: the machine has no pvpanic device."
        : undefined,
  },
  {
    id: "stopped-before-record",
    is: "agreement",
    says: (signs) =>
      stands(signs) && signs.kinds.has("pstore") && pstoreDeath(signs) === undefined
        ? "pstore has no record of the panic, as is to be expected: the guest was stopped in the panic notifier, before the kernel writes one."
        : undefined,
  },
  {
    id: "lockup-and-watchdog",
    is: "agreement",
    says: (signs) =>
      seen(signs, "hang") && seen(signs, "watchdog")
        ? `The guest's kernel reported that it was stuck, and then the watchdog fired: ${quoted(signs.hang[0]!.text)}.`
        : undefined,
  },
  {
    id: "orderly-end",
    is: "agreement",
    says: (signs) =>
      seen(signs, "powerOff") && seen(signs, "guestShutdown")
        ? "The console ends with an orderly power-off, and QEMU saw the guest shut itself down."
        : undefined,
  },
  {
    id: "power-button",
    is: "agreement",
    says: (signs) =>
      seen(signs, "powerButton") && (seen(signs, "guestShutdown") || seen(signs, "powerOff"))
        ? "The power button was pressed (system_powerdown), and the guest obeyed."
        : undefined,
  },
  {
    id: "memory-failure",
    is: "agreement",
    says: (signs) =>
      seen(signs, "memoryFailure") && (seen(signs, "hardwareDeath") || seen(signs, "hardwareError"))
        ? "QEMU told of a memory failure that it passed on to the guest (MEMORY_FAILURE), and the guest's kernel tells of one."
        : undefined,
  },
  {
    id: "event-without-console",
    is: "contradiction",
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
    is: "contradiction",
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
    is: "contradiction",
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
    is: "contradiction",
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
    is: "contradiction",
    says: (signs) =>
      seen(signs, "qemuDeath") && (isDead(signs) || seen(signs, "panicEvent"))
        ? `QEMU crashed as well, after the guest had panicked: ${quoted(signs.qemuDeath[0]!.text)}. That is a fault of its own.`
        : undefined,
  },
  {
    id: "host-fault-and-panic",
    is: "contradiction",
    says: (signs) =>
      seen(signs, "hostFault") && (isDead(signs) || seen(signs, "panicEvent"))
        ? `The host had a fault too: ${quoted(signs.hostFault[0]!.text)}. Which of the two came first decides which side failed.`
        : undefined,
  },
];

/** Everything that sources say alike, and everything in which they differ. */
export function compareSources(
  signs: Signs,
  machine: MachineFacts | undefined,
): { readonly agreements: readonly Statement[]; readonly contradictions: readonly Statement[] } {
  const told = AGREEMENT_RULES.flatMap(({ id, is, says }) => {
    const text = says(signs, machine);
    return text === undefined ? [] : [{ is, statement: { rule: id, text } }];
  });
  const those = (kind: AgreementRule["is"]) =>
    told.filter(({ is }) => is === kind).map(({ statement }) => statement);
  return { agreements: those("agreement"), contradictions: those("contradiction") };
}
