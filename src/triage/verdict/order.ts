import { countUpTo, type Occurrence, placeKey, type Signs } from "./signs.ts";

/** Which boot of its source something was in: how many began before it. */
const bootOf = ({ starts }: Signs, one: Occurrence): number =>
  countUpTo(starts.get(placeKey(one)) ?? [], one.place);

const bootKey = (signs: Signs, one: Occurrence): string => `${bootOf(signs, one)} ${placeKey(one)}`;

/** Of each boot the last place of those. */
function lastPlaces(signs: Signs, found: readonly Occurrence[]): ReadonlyMap<string, number> {
  const latest = new Map<string, number>();
  for (const one of found) {
    const key = bootKey(signs, one);
    latest.set(key, Math.max(latest.get(key) ?? one.place, one.place));
  }
  return latest;
}

/** Those that one of the others comes after, in the same boot of the same source. */
export function followed(
  signs: Signs,
  found: readonly Occurrence[],
  by: readonly Occurrence[],
): readonly Occurrence[] {
  const latest = lastPlaces(signs, by);
  return found.filter((one) => (latest.get(bootKey(signs, one)) ?? -1) > one.place);
}

/** Whether its source has no boot after it. */
export const isInLastBoot = (signs: Signs, one: Occurrence): boolean =>
  bootOf(signs, one) === (signs.starts.get(placeKey(one))?.length ?? 0);

/** Orderly power-offs after which nothing booted. */
export const finalEnds = (signs: Signs): readonly Occurrence[] =>
  [...signs.guestShutdown, ...signs.powerOff].filter((end) => isInLastBoot(signs, end));

/**
 * Failures that no orderly end came after. An end excuses what its source has before it in the same boot; of another
 * kind of source, whose order cannot be compared, what is in the last boot, when the end is the last thing too.
 */
export function unended(signs: Signs, failures: readonly Occurrence[]): readonly Occurrence[] {
  const ends = [...signs.guestShutdown, ...signs.powerOff, ...signs.reboot];
  const excused = new Set(followed(signs, failures, ends));
  const kinds = new Set(ends.filter((end) => isInLastBoot(signs, end)).map(({ kind }) => kind));
  const isElsewhere = (failure: Occurrence): boolean => [...kinds].some((kind) => kind !== failure.kind);
  return failures.filter(
    (failure) => !excused.has(failure) && !(isElsewhere(failure) && isInLastBoot(signs, failure)),
  );
}

/** How many of the resets that QEMU saw no console has an orderly reboot for. */
export const silentResets = (signs: Signs): number => Math.max(0, resets(signs) - reboots(signs));

/** Of the source that has most; a finding counts for as many as it tells of, and for its events. */
function resets({ guestReset }: Signs): number {
  const found = new Map<string, { events: number; told: number }>();
  for (const one of guestReset) {
    const counts = found.get(placeKey(one)) ?? { events: 0, told: 0 };
    const told = one.finding?.details?.count;
    if (one.finding === undefined) counts.events++;
    else counts.told += typeof told === "number" ? told : 1;
    found.set(placeKey(one), counts);
  }
  return Math.max(0, ...[...found.values()].map(({ events, told }) => (told > 0 ? told : events)));
}

/** Two consoles of a guest have the same one at the same uptime: it counts once. */
function reboots({ reboot }: Signs): number {
  const seen = new Map<string, number>();
  const known = new Set<string>();
  for (const one of reboot) {
    const uptime = one.at?.uptime;
    const key = `${uptime} ${placeKey(one)}`;
    const before = seen.get(key) ?? 0;
    seen.set(key, before + 1);
    known.add(`${uptime} ${before}`);
  }
  return known.size;
}
