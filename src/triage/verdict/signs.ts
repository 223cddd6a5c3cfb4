import { atLeast, type Finding, type Moment, type TimelineEvent } from "../finding.ts";
import type { SourceDetected, SourceKind } from "./types.ts";

/** One place of one source that bears a sign. */
export interface Occurrence {
  readonly source: string;
  readonly kind: SourceKind;
  readonly at: Moment | undefined;
  readonly text: string;
  /** Where it stands among the events and findings of its source: the line of a text, otherwise their order. */
  readonly place: number;
  readonly finding?: Finding;
  /** A crash kernel (kdump) said it, of itself: what made it boot is another failure. */
  readonly ofCrashKernel?: boolean;
}

/** What makes a finding or an event a sign; either alone suffices. */
interface SignRule {
  readonly finding?: (finding: Finding, kind: SourceKind) => boolean;
  readonly event?: (event: TimelineEvent, kind: SourceKind) => boolean;
}

/** Sources that repeat what QEMU says, not the guest. */
const OF_QEMU: ReadonlySet<SourceKind> = new Set(["qmp", "libvirt-log", "qemu-log", "cmdline"]);
const isOfQemu = (kind: SourceKind): boolean => OF_QEMU.has(kind);

const classed = (...classes: readonly string[]): NonNullable<SignRule["finding"]> => {
  const known = new Set(classes);
  return (finding) => known.has(finding.class);
};
const event = (kinds: readonly string[], words?: RegExp): NonNullable<SignRule["event"]> => {
  const known = new Set(kinds);
  return ({ kind, text }) => known.has(kind) && (words === undefined || words.test(text));
};
const lost = (finding: Finding): boolean => finding.survived !== true;

/** Events by which QEMU tells of an end; the reason (qapi/run-state.json: ShutdownCause) is a word of their text. */
const ENDS = ["qmp/shutdown", "qmp/reset", "qmp/shutoff"];

/**
 * What a verdict is made of, by name. Words are looked for only in the texts of events, which detectors write
 * themselves: never in a guest's own lines.
 */
export const SIGNS = {
  /** The guest says itself that it died. */
  death: {
    finding: (f, kind) =>
      !isOfQemu(kind) && f.severity === "panic" && lost(f) && (f.side === "guest" || f.side === "unknown"),
  },
  /** The guest told QEMU of its panic. */
  panicEvent: {
    finding: (f, kind) => isOfQemu(kind) && (f.class === "guest-panicked" || f.rule === "qmp/guest-panicked"),
    event: event(["qmp/guest-panicked"]),
  },
  /** The guest told QEMU of a panic that its crash kernel takes care of. */
  crashLoaded: { finding: classed("crash-loaded"), event: event(["qmp/guest-crashloaded"]) },
  /** A crash kernel came up. */
  kdump: { event: event(["console/kdump"]) },
  /** It did what it is there for. */
  dumpSaved: { event: event(["console/dump-saved"]) },
  /** QEMU ended the machine upon it. */
  panicEnd: { event: event(["qmp/shutdown"], /\bguest-panic\b/) },
  guestReset: {
    finding: (f, kind) => isOfQemu(kind) && (f.class === "guest-reset" || f.class === "reset-loop"),
    event: event(ENDS, /\bguest-reset\b/),
  },
  /** A console on which a boot broke off without a word, and another began. */
  brokenBoot: { finding: classed("silent-reset") },
  /** QEMU says that the guest switched itself off. */
  guestShutdown: {
    finding: classed("guest-shutdown"),
    event: event(ENDS, /\bguest-shutdown\b|^libvirt: shut off, shutdown\b/),
  },
  /** The guest's console says so. */
  powerOff: { event: event(["console/shutdown"], /power(?:ed)?[ -]?(?:down|off)|halt/i) },
  /** "reboot: " is what the kernel puts in front of a power-off too. */
  reboot: { event: event(["console/shutdown"], /restarting|rebooting/i) },
  hostStop: {
    finding: (f, kind) =>
      f.side === "policy" ||
      (isOfQemu(kind) && ["stopped-by-policy", "host-stop", "qemu-killed"].includes(f.class)),
    // A RESET from outside starts the guest anew.
    event: event(
      ["qmp/shutdown", "qmp/shutoff", "dump/qemu-ended"],
      /^QEMU was ended from outside\b|\bhost-(?:signal|qmp-quit|qmp-system-reset|ui|error)\b|^libvirt: shut off, (?:destroyed|saved|migrated)\b/,
    ),
  },
  powerButton: { event: event(["qmp/powerdown"]) },
  watchdog: {
    finding: (f, kind) => isOfQemu(kind) && f.class === "watchdog",
    event: event(["qmp/watchdog"]),
  },
  hostFault: {
    finding: (f) =>
      f.side === "host" && (atLeast(f.severity, "hang") || f.class === "start-failed") && lost(f),
  },
  hardwareDeath: { finding: (f) => f.side === "hardware" && f.severity === "panic" && lost(f) },
  /** The machine, or what poses as it, had an error that nobody died of as far as it is known. */
  hardwareError: { finding: (f) => f.side === "hardware" && atLeast(f.severity, "warning") },
  qemuDeath: { finding: (f) => f.side === "qemu" && atLeast(f.severity, "oops") && lost(f) },
  hang: {
    finding: (f, kind) =>
      !isOfQemu(kind) && f.severity === "hang" && lost(f) && (f.side === "guest" || f.side === "unknown"),
  },
  oops: {
    finding: (f, kind) =>
      !isOfQemu(kind) && f.severity === "oops" && (f.side === "guest" || f.side === "unknown"),
  },
  /** A guest's kernel or firmware spoke. */
  boot: { event: event(["console/boot"]) },
  /** QEMU got through its start. */
  ran: { event: event(["console/boot", "qmp/greeting", "qmp/resume"]) },
  /** The vCPUs were stopped, and stayed so as far as is told. */
  stop: { event: event(["qmp/stop"]) },
  resume: { event: event(["qmp/resume"]) },
  /** Nothing is left to be looked at: the process of QEMU is gone. */
  gone: { event: event(["qmp/exit", "qmp/abort", "qmp/killed"]) },
  memoryFailure: { finding: classed("memory-failure"), event: event(["qmp/memory-failure"]) },
  /** The guest's kernel could not read or write a disk, or gave a file system up. */
  guestDiskError: {
    finding: (f, kind) => !isOfQemu(kind) && (f.class === "filesystem" || f.rule.endsWith("/disk-error")),
  },
  /** QEMU could not, for the guest. */
  hostDiskError: { finding: (f, kind) => isOfQemu(kind) && f.class === "io-error" },
  /** Whoever ran QEMU waited for its end in vain. */
  timeout: { finding: classed("timeout"), event: event(["qmp/timeout"]) },
  lastLine: { event: event(["console/end"]) },
} as const satisfies Readonly<Record<string, SignRule>>;

export type SignName = keyof typeof SIGNS;

/** Every sign with where it was seen, in the order of the sources and of each. */
export type Signs = Readonly<Record<SignName, readonly Occurrence[]>> & {
  /** Kinds of the sources that were read. */
  readonly kinds: ReadonlySet<SourceKind>;
  readonly findings: readonly Occurrence[];
  /** By `placeKey`, where boots of the guest or of the machine began, ascending. */
  readonly starts: ReadonlyMap<string, readonly number[]>;
};

/** Names a source among others; places compare within one. */
export const placeKey = ({ source, kind }: Pick<Occurrence, "source" | "kind">): string =>
  `${kind} ${source}`;

/** Where an event stands among all else of its source. */
export const placeOf = ({ place, line }: TimelineEvent, order: number): number => place ?? line ?? order;

/** How many of the places, which ascend, are at that one or before it. */
export function countUpTo(places: readonly number[], place: number): number {
  let [low, high] = [0, places.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (places[middle]! <= place) low = middle + 1;
    else high = middle;
  }
  return low;
}

const STARTS: ReadonlySet<string> = new Set(["console/boot", "qmp/greeting", "qmp/start", "qmp/reset"]);
const placesOf = ({ events }: SourceDetected, isOne: (kind: string) => boolean): readonly number[] =>
  events.flatMap((event, order) => (isOne(event.kind) ? [placeOf(event, order)] : [])).sort((a, b) => a - b);

/** Looks for every sign in every source: linear in findings and events. */
export function readSigns(sources: readonly SourceDetected[]): Signs {
  const found = Object.fromEntries(NAMES.map((name) => [name, [] as Occurrence[]])) as unknown as Found;
  const findings: Occurrence[] = [];
  const starts = new Map<string, readonly number[]>();
  for (const source of sources) {
    readFindings(source, found, findings);
    readEvents(source, found);
    starts.set(
      placeKey(source),
      placesOf(source, (kind) => STARTS.has(kind)),
    );
  }
  const kinds = new Set(sources.filter(({ problem }) => problem === undefined).map(({ kind }) => kind));
  return { ...found, kinds, findings, starts };
}

type Found = Record<SignName, Occurrence[]>;
const NAMES = Object.keys(SIGNS) as SignName[];
const RULES: Readonly<Record<SignName, SignRule>> = SIGNS;

function readFindings(detected: SourceDetected, found: Found, all: Occurrence[]): void {
  const { source, kind, findings } = detected;
  const isOfCrashKernel = crashKernelOf(detected);
  for (const [order, finding] of findings.entries()) {
    const { at, title: text, evidence } = finding;
    const place = finding.place ?? evidence[0]?.line ?? order;
    const ofCrashKernel = isOfCrashKernel(place);
    const occurrence: Occurrence = { source, kind, at, text, place, finding, ofCrashKernel };
    all.push(occurrence);
    if (ofCrashKernel) continue;
    for (const name of NAMES) {
      if (RULES[name].finding?.(finding, kind) === true) found[name].push(occurrence);
    }
  }
}

/** Tells of a place whether a crash kernel speaks there: one came up, and nothing booted since. */
function crashKernelOf(source: SourceDetected): (place: number) => boolean {
  const kdumps = placesOf(source, (kind) => kind === "console/kdump");
  if (kdumps.length === 0) return () => false;
  const boots = placesOf(source, (kind) => kind === "console/boot");
  return (place) => {
    const [kdump, boot] = [kdumps[countUpTo(kdumps, place) - 1], boots[countUpTo(boots, place) - 1]];
    return kdump !== undefined && (boot === undefined || boot <= kdump);
  };
}

function readEvents({ source, kind, events }: SourceDetected, found: Found): void {
  for (const [order, event] of events.entries()) {
    const { at, text } = event;
    for (const name of NAMES) {
      if (RULES[name].event?.(event, kind) !== true) continue;
      found[name].push({ source, kind, at, text, place: placeOf(event, order) });
    }
  }
}

/** Whether a sign was seen at all. */
export const seen = (signs: Signs, name: SignName): boolean => signs[name].length > 0;
