import { atLeast } from "../finding.ts";
import { finalEnds, followed, isInLastBoot, unended } from "./order.ts";
import { type Occurrence, placeKey, type SignName, type Signs } from "./signs.ts";

/** Sources in the order in which they are believed about what a guest died of. */
const TELLING = ["console", "dump", "pstore", "rtas", "qmp", "libvirt-log", "qemu-log"];

/** All that bear one of the signs, the best teller first; undefined when there are none. */
export function any(signs: Signs, ...names: readonly SignName[]): readonly Occurrence[] | undefined {
  const all = names.flatMap((name) => signs[name]);
  if (all.length === 0) return undefined;
  const rank = ({ kind }: Occurrence) => TELLING.indexOf(kind);
  return names.length > 1 ? all : all.toSorted((a, b) => rank(a) - rank(b));
}

export const ended = (signs: Signs): boolean => finalEnds(signs).length > 0;

/** An oops that nobody says the guest outlived. */
export const open = (found: readonly Occurrence[]): readonly Occurrence[] =>
  found.filter(({ finding }) => finding?.survived !== true);

/** What a whole report ends with: more lines of it would not have come. */
const WHOLE = /---\[ end |\b(?:CR2|DR[36]|PKRU): /;

/** Those of a console in whose report it breaks off, or after which it has no more but another boot. */
export function brokenOff(signs: Signs, found: readonly Occurrence[]): readonly Occurrence[] {
  const lastLines = new Map(signs.lastLine.map((one) => [placeKey(one), one]));
  return found.filter((one) => {
    const { kind, finding } = one;
    if (kind !== "console" || finding === undefined || finding.survived === true) return false;
    if (finding.survived === false || !isInLastBoot(signs, one)) return true;
    const [until, last] = [finding.details?.lastLine, lastLines.get(placeKey(one))];
    return typeof until === "number" && last !== undefined && until >= last.place && !WHOLE.test(last.text);
  });
}

/** Reports of checkers, after which a kernel goes on unless it is told to panic (mm/kasan, mm/kfence, mm/slub.c). */
const GOES_ON: ReadonlySet<string> = new Set(["kasan", "kfence", "kmsan", "bad-page", "slab-corruption"]);
export const isFatal = ({ finding }: Occurrence): boolean =>
  finding?.survived === false || !GOES_ON.has(finding?.class ?? "");

/** Hardware errors that a kernel took for worse than a warning. */
export const fatalHardware = (signs: Signs): readonly Occurrence[] =>
  signs.hardwareError.filter(({ finding }) => finding !== undefined && atLeast(finding.severity, "oops"));

/** What a guest reported last, whatever its severity. */
const lastReports = (signs: Signs): readonly Occurrence[] =>
  brokenOff(
    signs,
    signs.findings.filter(
      ({ finding, ofCrashKernel }) =>
        ofCrashKernel !== true && finding?.severity !== "notice" && finding?.class !== "silent-reset",
    ),
  );

/** What the guest may have died of without having said so. */
export const causes = (signs: Signs): readonly Occurrence[] => [
  ...new Set([...open(signs.oops), ...lastReports(signs)]),
];

/** What QEMU may do of a watchdog that lets the guest run on (hw/watchdog/watchdog.c: watchdog_perform_action()). */
const RUNS_ON: ReadonlySet<unknown> = new Set(["none", "debug", "inject-nmi"]);

/** Watchdogs that the guest did not go on after, to an orderly end. */
export function unansweredBites(signs: Signs): readonly Occurrence[] {
  const resumed = new Set(followed(signs, signs.watchdog, signs.resume));
  const goesOn = (one: Occurrence): boolean => {
    const action = one.finding?.details?.action ?? /\baction=(\S+)/.exec(one.text)?.[1];
    return RUNS_ON.has(action) || (action === "pause" && resumed.has(one));
  };
  const open = new Set(unended(signs, signs.watchdog));
  return signs.watchdog.filter((one) => open.has(one) || !goesOn(one));
}

/** The last fault that it seemed to outlive, in a boot that did not end in order. */
export const outlived = (signs: Signs): readonly Occurrence[] =>
  unended(
    signs,
    signs.oops.filter(({ kind, finding }) => kind === "console" && finding?.survived === true),
  ).slice(-1);

export const orUndefined = (found: readonly Occurrence[]): readonly Occurrence[] | undefined =>
  found.length > 0 ? found : undefined;
