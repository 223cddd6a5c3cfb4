import { isSame } from "./same.ts";
import { type Occurrence, type Signs, seen } from "./signs.ts";
import type { MachineFacts } from "./types.ts";

/** How sources stand to each other. */
export interface ComparisonRule {
  readonly id: string;
  /** @returns a sentence; undefined when there is nothing to say */
  readonly says: (signs: Signs, machine: MachineFacts | undefined) => string | undefined;
}

export const of = (found: readonly Occurrence[], ...kinds: readonly string[]): readonly Occurrence[] =>
  found.filter(({ kind }) => kinds.includes(kind));

export const quoted = (text: string): string => `"${text.length > 120 ? `${text.slice(0, 117)}...` : text}"`;

/** Seconds with one digit. */
export const seconds = (milliseconds: number): string => `${(milliseconds / 1000).toFixed(1)} s`;

/** Time between two moments of one clock; undefined where either is not known. */
export function between(earlier: Occurrence | undefined, later: Occurrence | undefined): number | undefined {
  const [from, to] = [earlier?.at?.wall, later?.at?.wall];
  return from === undefined || to === undefined ? undefined : to - from;
}

export const qemuWasRead = ({ kinds }: Signs): boolean => kinds.has("qmp");
export const hasConsole = ({ kinds }: Signs): boolean => kinds.has("console");
/** Sources that have the guest's own words. */
export const OF_GUEST = ["console", "pstore", "dump", "qemu-core", "rtas"];
/** Whether the guest itself says so: of what QEMU killed no event can be missing. */
export const isDead = (signs: Signs): boolean =>
  of([...signs.death, ...signs.hardwareDeath], ...OF_GUEST).length > 0;
export const consoleDeath = (signs: Signs): Occurrence | undefined =>
  [...of(signs.death, "console"), ...of(signs.hardwareDeath, "console")][0];
/** Whether the same console has a boot after that, of a crash kernel or of the guest again. */
export const bootedAfter = (death: Occurrence | undefined, { boot, kdump }: Signs): boolean =>
  [...boot, ...kdump].some(({ source, place }) => source === death?.source && place > death.place);
/** A record that has no line of the panic: which one it was cannot be told. */
export const isBare = ({ finding }: Occurrence): boolean =>
  finding?.rule === "pstore/record" && finding.evidence.every(({ line }) => line === undefined);
const pstoreDeaths = (signs: Signs): readonly Occurrence[] => [
  ...of(signs.death, "pstore"),
  ...of(signs.hardwareDeath, "pstore"),
];
export const pstoreDeath = (signs: Signs): Occurrence | undefined => {
  const deaths = pstoreDeaths(signs);
  return deaths.find((one) => !isBare(one)) ?? deaths[0];
};
/** Deaths of a source that are compared with those of another, the last ones. */
const MAX_COMPARED = 50;
/** Whether one of the console's deaths is in pstore; a console can have several boots. */
export function isKept(signs: Signs): boolean {
  const deaths = [...of(signs.death, "console"), ...of(signs.hardwareDeath, "console")].slice(-MAX_COMPARED);
  return pstoreDeaths(signs)
    .slice(-MAX_COMPARED)
    .some((record) => deaths.some(({ finding }) => isSame(finding!, record.finding!)));
}
/** Whether the guest was still standing in its panic when the log of QEMU ends, or QEMU with it. */
export const stands = (signs: Signs): boolean =>
  seen(signs, "panicEvent") &&
  (seen(signs, "stop") || seen(signs, "panicEnd")) &&
  !seen(signs, "resume") &&
  !seen(signs, "guestReset");
