import { type Occurrence, placeOf, type SignName, type Signs } from "./signs.ts";
import type { SourceDetected } from "./types.ts";

/** The part of a console's log that is of one boot: uptimes compare within it. Places are those of occurrences. */
export interface Boot {
  readonly source: string;
  readonly first: number;
  /** Exclusive. */
  readonly end: number;
}

/** Ties the uptime of a boot to the host's clock: wall = 1000 uptime + offset, in milliseconds. */
export interface Anchor {
  readonly boot: Boot;
  readonly offset: number;
}

/** Two anchors of one boot that differ by more than this are told. */
const DIFFERENCE_MS = 2000;

/** What the guest's console and QEMU both tell of, the closest in time first. */
const PAIRS: readonly { readonly guest: SignName; readonly host: SignName; readonly what: string }[] = [
  { guest: "death", host: "panicEvent", what: "the panic" },
  { guest: "hardwareDeath", host: "panicEvent", what: "the panic" },
  { guest: "death", host: "crashLoaded", what: "the panic" },
  { guest: "powerOff", host: "guestShutdown", what: "the power-off" },
  { guest: "reboot", host: "guestReset", what: "the reboot" },
];

/** The boots of every console, in order. What precedes the first that is told of is a boot too. */
function bootsOf({ source, kind, events }: SourceDetected): Boot[] {
  if (kind !== "console") return [];
  const starts = events.flatMap((event, order) =>
    event.kind === "console/boot" ? [placeOf(event, order)] : [],
  );
  const bounds = [...new Set([0, ...starts])].sort((a, b) => a - b);
  return bounds.map((first, index) => ({
    source,
    first,
    end: bounds[index + 1] ?? Number.POSITIVE_INFINITY,
  }));
}

/**
 * Joins the clocks of guest and host: by lines of a console that have both, else by what console and QEMU both tell of.
 * Only pairs of which both sides tell equally often are taken: the n-th panic of a console is then the n-th event.
 */
export function anchorsOf(
  sources: readonly SourceDetected[],
  signs: Signs,
): { readonly anchors: readonly Anchor[]; readonly notes: readonly string[] } {
  const boots = sources.flatMap(bootsOf);
  const anchors = new Map<Boot, Anchor>();
  const notes = new Set<string>();
  const add = (boot: Boot | undefined, offset: number, what: string): void => {
    if (boot === undefined || !Number.isFinite(offset)) return;
    const before = anchors.get(boot);
    if (before === undefined) {
      anchors.set(boot, { boot, offset });
      notes.add(`Uptime is put on the host's clock by ${what}, which console and host both tell of.`);
    } else if (Math.abs(before.offset - offset) > DIFFERENCE_MS) {
      const apart = (Math.abs(before.offset - offset) / 1000).toFixed(1);
      notes.add(`By ${what} the guest's uptime lies ${apart} s elsewhere on the host's clock.`);
    }
  };
  const bootOf = ({ source, place }: Pick<Occurrence, "source" | "place">): Boot | undefined =>
    boots.find((boot) => boot.source === source && boot.first <= place && place < boot.end);
  for (const { source, kind, events } of sources) {
    if (kind !== "console") continue;
    const stamped = events.find(({ at }) => at?.uptime !== undefined && at.wall !== undefined);
    if (stamped === undefined) continue;
    const place = placeOf(stamped, events.indexOf(stamped));
    add(bootOf({ source, place }), stamped.at!.wall! - stamped.at!.uptime! * 1000, "stamped lines");
  }
  for (const { guest, host, what } of PAIRS) {
    const told = debounced(
      signs[guest].filter(({ kind, at }) => kind === "console" && at?.uptime !== undefined),
    );
    const heard = debounced(signs[host].filter(({ at }) => at?.wall !== undefined));
    if (told.length !== heard.length) continue;
    for (const [index, one] of told.entries()) {
      add(bootOf(one), heard[index]!.at!.wall! - one.at!.uptime! * 1000, what);
    }
  }
  return { anchors: [...anchors.values()], notes: [...notes] };
}

/** Within a second of each other: a finding and the event it was made of, or the events of two devices. */
const BOUNCE_MS = 1000;

function debounced(found: readonly Occurrence[]): readonly Occurrence[] {
  const kept: Occurrence[] = [];
  for (const one of found) {
    const last = kept.at(-1);
    const [before, now] = [timeOf(last), timeOf(one)];
    if (last?.source === one.source && before !== undefined && Math.abs(now! - before) < BOUNCE_MS) continue;
    kept.push(one);
  }
  return kept;
}

/** Milliseconds of whichever clock it has. */
const timeOf = (one: Occurrence | undefined): number | undefined =>
  one?.at?.wall ?? (one?.at?.uptime === undefined ? undefined : one.at.uptime * 1000);
