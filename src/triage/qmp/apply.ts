import { lifecycle, noteExit, noteShutoff } from "./ends.ts";
import { EVENTS, eventText, isFirmwareReset, noteCrashLoaded, notePanic } from "./events.ts";
import { isObject, type Json, member, text } from "./exact-json.ts";
import type { Fact, Said } from "./fact.ts";
import { EARLY, type Guest } from "./guest.ts";
import { kept } from "./kept.ts";
import { greetingOf, versionText } from "./message.ts";
import { panicTitle } from "./panic-info.ts";
import { PVPANIC_PORT, pvpanicAccessOf } from "./port-trace.ts";
import { isRunState, type RunState } from "./run-state.ts";
import { saidBy } from "./text-lines.ts";

/** Commands that change what a machine does; others are questions. */
const COMMANDS = new Set([
  ...[
    "cont",
    "stop",
    "quit",
    "system_reset",
    "system_powerdown",
    "system_wakeup",
    "inject-nmi",
    "set-action",
  ],
  ...[
    "dump-guest-memory",
    "migrate",
    "migrate_cancel",
    "watchdog-set-action",
    "snapshot-save",
    "snapshot-load",
  ],
]);

type Of<K extends Said["kind"]> = Extract<Said, { kind: K }>;
type Handlers = { readonly [K in Said["kind"]]: (guest: Guest, fact: Fact, said: Of<K>) => void };

/** Replays what was said on the machine it is of. */
export function apply(guest: Guest, fact: Fact, said: Said): void {
  guest.see(fact);
  const handler = HANDLERS[said.kind] as (guest: Guest, fact: Fact, said: Said) => void;
  handler(guest, fact, said);
  if (OF_A_RUN.has(said.kind)) guest.ran();
  guest.messages++;
}

/** What is heard of a machine only once QEMU got through its start. */
const OF_A_RUN: ReadonlySet<Said["kind"]> = new Set([
  ...(["greeting", "event", "reply", "refusal", "panic", "signal", "internal-error"] as const),
  ...(["memory-error", "status", "port", "fell-back"] as const),
]);

const HANDLERS: Handlers = {
  greeting: (guest, fact, { version, package: name }) => {
    // A second greeting is another client, or another QEMU after the first has ended.
    if (guest.state === "exited") guest.newRun();
    guest.version = version ?? guest.version;
    guest.package = name ?? guest.package;
    guest.note(
      "greeting",
      fact,
      `QEMU ${version === undefined ? "of an unknown version" : versionText(version)}`,
    );
  },
  event: (guest, fact, { name, data }) => {
    const handler = Object.hasOwn(EVENTS, name) ? EVENTS[name] : undefined;
    if (handler === undefined) {
      guest.ignored++;
      return;
    }
    if (guest.state === "exited") guest.newRun();
    const kind = name.toLowerCase().replaceAll("_", "-");
    const isAgain = name === "RESET" && isFirmwareReset(guest, fact, data);
    guest.note(isAgain ? "firmware-reset" : kind, fact, eventText(name, data));
    handler(guest, fact, data);
  },
  command: (guest, fact, { name, arguments: args, id }) => {
    guest.ask(name, idOf(id));
    if (name === "set-action" && isObject(args)) {
      for (const what of ["panic", "shutdown", "reboot", "watchdog"]) {
        const action = text(args, what);
        if (action !== undefined) guest.setAction[what] = kept(action, 40);
      }
    }
    // Events of a migration are off unless a client asks for them.
    if (name === "migrate") guest.migrating = true;
    if (COMMANDS.has(name)) guest.note("command", fact, `> ${name}`);
  },
  reply: (guest, fact, { value, id }) => {
    guest.answer(idOf(id));
    answer(guest, fact, value);
  },
  refusal: (guest, fact, { desc, id }) => {
    const command = guest.answer(idOf(id));
    const ofCont = command === "cont" || desc.startsWith("Resetting the Virtual Machine is required");
    guest.note("refused", fact, `${command ?? "command"} refused: ${desc.slice(0, 200)}`);
    if (!ofCont) return;
    const incident = guest.incident("cont-refused", fact, desc.slice(0, 200));
    incident.details.state ??= guest.state ?? null;
    guest.became("cont refused");
  },
  exit: (guest, fact, { status }) => {
    guest.exit = status;
    guest.note("exit", fact, `QEMU ended with ${status < 0 ? `signal ${-status}` : `status ${status}`}`);
    noteExit(guest, fact, status);
    guest.become("exited", fact);
  },
  timeout: (guest, fact) => {
    guest.note("timeout", fact, "the one who ran QEMU gave up waiting");
    guest.incident("timeout", fact, "timeout").details.state = guest.state ?? null;
  },
  start: (guest, fact, { version, libvirt }) => {
    guest.newRun();
    guest.version = version ?? guest.version;
    guest.libvirt = libvirt;
    guest.note("start", fact, `libvirt ${libvirt} started QEMU`);
  },
  shutoff: (guest, fact, { reason }) => noteShutoff(guest, fact, reason),
  lifecycle: (guest, fact, { event, detail }) => {
    guest.note("lifecycle", fact, `${event} ${detail}`.trim());
    lifecycle(guest, fact, event, detail);
  },
  panic: (guest, fact, { what, info, message }) => {
    const title = info === undefined ? (message ?? what) : panicTitle(info);
    guest.note(what === "panicked" ? "guest-panicked" : "guest-crashloaded", fact, title);
    if (what === "crash-loaded") noteCrashLoaded(guest, fact);
    else notePanic(guest, fact, { info, message });
  },
  signal: (guest, fact, { number, by }) => {
    guest.note("signal", fact, `QEMU was ended with signal ${number}${by === undefined ? "" : ` by ${by}`}`);
    if (guest.cause === undefined) guest.incident("ended", fact, `signal ${number}`);
    guest.became(`ended by signal ${number}`);
    guest.ended = { reason: "host-signal", fact };
  },
  abort: (guest, fact, { what }) => {
    guest.note("abort", fact, what);
    guest.incident("qemu-abort", fact, what);
  },
  killed: (guest, fact, { what }) => {
    guest.note("killed", fact, what);
    guest.incident("killed", fact, what);
  },
  "internal-error": (guest, fact, { what }) => {
    guest.note("internal-error", fact, what);
    guest.incident("internal-error", fact, what);
    guest.stopsTo = { state: "internal-error", fact };
  },
  "memory-error": (guest, fact, { what }) => {
    guest.note("memory-failure", fact, what);
    guest.incident("memory-failure", fact, what, "line").details.action = "inject";
  },
  "start-failed": (guest, fact, { what, early = false }) => {
    if (early && guest.hasRun && guest.state !== "exited") return;
    guest.note("start-failed", fact, what);
    guest.incident("start-failed", fact, what, guest.open("start-failed")?.key ?? (early ? EARLY : ""));
  },
  "fell-back": () => {},
  status: (guest, fact, { state }) => status(guest, fact, state),
  version: (guest, _fact, { version }) => {
    guest.version ??= version;
  },
  port: (guest, fact, { access }) => {
    const pvpanic = pvpanicAccessOf(access);
    if (pvpanic === undefined) return;
    if (pvpanic.offered !== undefined) guest.offered = pvpanic.offered;
    const does = access.direction === "read" ? "read" : "wrote";
    const where = access.region ?? `port 0x${PVPANIC_PORT.toString(16)}`;
    guest.note("pvpanic", fact, `guest ${does} 0x${access.value.toString(16)} (${where})`);
    if (pvpanic.told === "panicked") notePanic(guest, fact, {});
    if (pvpanic.told === "crash-loaded") noteCrashLoaded(guest, fact);
  },
};

/** Ids are anything in JSON; those of one answer and its command are alike. */
const idOf = (id: Json | undefined): string | undefined =>
  id === undefined ? undefined : kept(String(typeof id === "object" ? "object" : id), 200);

function answer(guest: Guest, fact: Fact, value: Json): void {
  const state = text(value, "status");
  if (state !== undefined && isRunState(state) && typeof member(value, "running") === "boolean") {
    status(guest, fact, state);
  } else if (isObject(member(value, "qemu"))) {
    const greeting = greetingOf(value);
    if (greeting.kind === "greeting") guest.version = greeting.version ?? guest.version;
  } else if (typeof value === "string" && value.length < 400) {
    const said = saidBy(value.trim());
    if (said?.kind === "status") status(guest, fact, said.state);
  }
}

/** States that are trouble, and the incident each is. */
const TROUBLE = {
  "internal-error": "internal-error",
  "io-error": "io-error",
  watchdog: "watchdog",
  "guest-panicked": "panic",
} as const;

function status(guest: Guest, fact: Fact, state: RunState): void {
  if (guest.state === "exited") guest.newRun();
  if (guest.state !== state || guest.stateSource === "events") guest.note("status", fact, `state ${state}`);
  guest.answered(state, fact);
  const kind = state in TROUBLE ? TROUBLE[state as keyof typeof TROUBLE] : undefined;
  if (kind === undefined || guest.incidents.some((one) => one.kind === kind && one.run === guest.run)) return;
  // A STOP before it was this one's, not somebody's.
  const stop = guest.open("stop");
  if (stop?.what === "unknown") guest.forget(stop);
  guest.incident(kind, fact, "");
}
