import type { CommandLine } from "./command-line.ts";
import type { Fact } from "./fact.ts";
import type { Incident, IncidentKind, Noted } from "./incident.ts";
import { kept } from "./kept.ts";
import type { QemuVersion } from "./message.ts";
import { isReachable, type KnownState } from "./run-state.ts";

const MAX_INCIDENTS = 200;
const MAX_FACTS = 6;
const MAX_AFTER = 8;
/** The first and the last of a longer time line are kept. */
const KEPT_NOTED = 1000;
const MAX_CONTRADICTIONS = 20;
const MAX_PENDING = 64;

/** Key of the incident that an error at QEMU's start makes. */
export const EARLY = "early";

/** What is known of one machine, while its log is replayed. */
export class Guest {
  /** What the log calls it: a monitor, a domain; empty where there is one only. */
  readonly key: string;
  readonly given: CommandLine | undefined;
  commandLine: CommandLine | undefined;
  version: QemuVersion | undefined;
  package: string | undefined;
  libvirt: string | undefined;
  state: KnownState | undefined;
  /** The state it was in when its QEMU ended. */
  lastState: Exclude<KnownState, "exited"> | undefined;
  /** Who says so. */
  stateSource: "query-status" | "events" = "events";
  #stateFact: Fact | undefined;
  /** The state that the next STOP leads to. */
  stopsTo: { readonly state: KnownState; readonly fact: Fact } | undefined;
  /** The last reset that was asked for outside, and that no other came after. */
  hostReset: Fact | undefined;
  run = 1;
  /** The last run's end, as QEMU or libvirt named it. */
  ended: { readonly reason: string; readonly fact: Fact } | undefined;
  exit: number | undefined;
  migrating = false;
  /** Panic policy as set-action had it. */
  setAction: Record<string, string> = {};
  readonly incidents: Incident[] = [];
  /** Those that may go on. */
  #open: Incident[] = [];
  lostIncidents = 0;
  readonly contradictions: { readonly text: string; readonly fact: Fact }[] = [];
  readonly #noted: Noted[] = [];
  readonly #lastNoted: Noted[] = [];
  omitted = 0;
  messages = 0;
  /** Whether the machine was heard of: its start did not fail. */
  hasRun = false;
  ignored = 0;
  /** Commands without an answer yet. */
  readonly #pending: { readonly name: string; readonly id: string | undefined }[] = [];
  first: Fact | undefined;
  last: Fact | undefined;
  /**
   * From a transcript's own clock to Unix time, in ms. A message is noted after it was sent: the largest difference is of
   * the one that took the shortest time.
   */
  #offset: number | undefined;
  offered: number | undefined;

  constructor(key: string, given: CommandLine | undefined) {
    this.key = key;
    this.given = given;
    this.commandLine = given;
  }

  /** Takes note of where and when something was said. */
  see(fact: Fact): void {
    this.first ??= fact;
    this.last = fact;
    if (fact.wall === undefined || fact.t === undefined) return;
    this.#offset = Math.max(fact.wall - fact.t * 1000, this.#offset ?? Number.NEGATIVE_INFINITY);
  }

  /** Unix time in ms of a fact, by the transcript's own clock where it has none. */
  wallOf({ wall, t }: Fact): number | undefined {
    if (wall !== undefined) return wall;
    return t === undefined || this.#offset === undefined ? undefined : t * 1000 + this.#offset;
  }

  /** Seconds from one fact to another; undefined where their clocks are not known. */
  between(from: Fact, to: Fact): number | undefined {
    const [a, b] = [this.wallOf(from), this.wallOf(to)];
    if (a !== undefined && b !== undefined) return (b - a) / 1000;
    return from.t === undefined || to.t === undefined ? undefined : to.t - from.t;
  }

  note(kind: string, fact: Fact, text: string): void {
    const noted = { kind: `qmp/${kind}`, fact, text: kept(text) };
    if (this.#noted.length < KEPT_NOTED) this.#noted.push(noted);
    else {
      this.#lastNoted.push(noted);
      if (this.#lastNoted.length >= 2 * KEPT_NOTED) {
        this.omitted += this.#lastNoted.splice(0, KEPT_NOTED).length;
      }
    }
  }

  get noted(): readonly Noted[] {
    const last = this.#lastNoted.slice(-KEPT_NOTED);
    return [...this.#noted, ...last];
  }

  /** Adds an incident, or counts it with one of the same key that is still open. */
  incident(kind: IncidentKind, fact: Fact, what: string, key = ""): Incident {
    const open = this.open(kind, key);
    if (open !== undefined) {
      open.count++;
      open.last = fact;
      if (open.facts.length < MAX_FACTS) open.facts.push(fact);
      return open;
    }
    const incident: Incident = {
      ...{
        kind,
        first: fact,
        facts: [fact],
        count: 1,
        last: fact,
        key,
        what: kept(what),
        actions: [],
        info: undefined,
      },
      ...{ after: [], resumed: false, run: this.run, details: {} },
    };
    if (this.incidents.length < MAX_INCIDENTS) {
      this.incidents.push(incident);
      this.#open.push(incident);
    } else this.lostIncidents++;
    return incident;
  }

  /** The last incident of a kind that is not over. */
  open(kind: IncidentKind, key?: string): Incident | undefined {
    return this.#open.findLast((one) => one.kind === kind && (key === undefined || one.key === key));
  }

  /** What comes after is another incident. */
  close(incident: Incident): void {
    this.#open = this.#open.filter((one) => one !== incident);
  }

  /** Forgets what turned out to be of no interest. */
  forget(incident: Incident): void {
    this.close(incident);
    const index = this.incidents.lastIndexOf(incident);
    if (index >= 0) this.incidents.splice(index, 1);
  }

  /** The machine runs, or did: what was said at its start did not end it. */
  ran(): void {
    if (this.hasRun) return;
    this.hasRun = true;
    const early = this.open("start-failed", EARLY);
    if (early !== undefined) this.forget(early);
  }

  /** The incident that explains why the machine no longer runs as it did. */
  get cause(): Incident | undefined {
    const failure = this.open("memory-failure");
    return (
      this.open("panic") ??
      this.open("crash-loaded") ??
      this.open("watchdog") ??
      (failure?.what === "reset" ? failure : undefined)
    );
  }

  /** Adds to what became of the machine after its panic, or what else explains it. */
  became(word: string): void {
    const after = this.cause?.after;
    if (after !== undefined && after.at(-1) !== word && after.length < MAX_AFTER) after.push(word);
  }

  /** A reset of the machine: what was wrong with the guest before is over. */
  closeAll(): void {
    this.#open = this.#open.filter(({ kind }) => kind === "reset" || kind === "io-error");
    this.stopsTo = undefined;
  }

  /** Takes a state from an event. */
  become(state: KnownState, fact: Fact): void {
    if (state !== "exited") this.lastState = state;
    this.state = state;
    this.stateSource = "events";
    this.#stateFact = fact;
  }

  /** Takes the state that QEMU answered, and says where it cannot follow from what was before. */
  answered(state: KnownState, fact: Fact): void {
    const before = this.state;
    if (before !== undefined && before !== "exited" && state !== "exited" && this.#isLater(fact)) {
      if (!isReachable(before, state, this.version)) {
        this.contradict(`QEMU says ${state}, which it cannot reach from ${before} without a RESET`, fact);
      } else if (state === "running" && STOPPED.has(before)) {
        this.contradict(`QEMU says running after ${before}, and no RESUME is in the log`, fact);
      }
    }
    if (state !== "exited") this.lastState = state;
    this.state = state;
    this.stateSource = "query-status";
    this.#stateFact = fact;
  }

  /** An answer that comes at once may be older than the event before it; one after another answer is not. */
  #isLater(fact: Fact): boolean {
    if (this.stateSource === "query-status") return true;
    const seconds = this.#stateFact === undefined ? undefined : this.between(this.#stateFact, fact);
    return seconds !== undefined && seconds > 1;
  }

  contradict(text: string, fact: Fact): void {
    if (this.contradictions.length < MAX_CONTRADICTIONS) this.contradictions.push({ text, fact });
  }

  /** QEMU was started anew. */
  newRun(): void {
    if (this.messages > 0) this.run++;
    this.#open = [];
    this.stopsTo = undefined;
    this.hostReset = undefined;
    this.state = undefined;
    this.lastState = undefined;
    this.ended = undefined;
    this.hasRun = false;
    this.exit = undefined;
    this.migrating = false;
    this.#pending.length = 0;
  }

  ask(name: string, id: string | undefined): void {
    if (this.#pending.length === MAX_PENDING) this.#pending.shift();
    this.#pending.push({ name: kept(name, 100), id });
  }

  /** Takes the command that an answer is to; without an id the oldest one. */
  answer(id: string | undefined): string | undefined {
    const index = this.#pending.findIndex((one) => one.id === id);
    return index < 0 ? undefined : this.#pending.splice(index, 1)[0]!.name;
  }

  /** Whether a command is on its way. */
  asks(...names: readonly string[]): boolean {
    return this.#pending.some(({ name }) => names.includes(name));
  }
}

const STOPPED: ReadonlySet<KnownState> = new Set([
  ...(["guest-panicked", "paused", "io-error", "internal-error", "watchdog", "shutdown"] as const),
]);
