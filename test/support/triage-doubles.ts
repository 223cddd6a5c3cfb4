import { readFileSync } from "node:fs";
import type { Reader } from "../../src/jobs/triage-artefact.ts";
import { feedLog } from "../../src/jobs/triage-feed.ts";
import type { Detected, Finding, TimelineEvent } from "../../src/triage/finding.ts";
import type { SourceKind } from "../../src/triage/verdict/types.ts";

/** Collects a log's lines and hands them over whole: what the doubles of detectors have in common. */
class Lines {
  #bytes: Buffer[] = [];
  push(bytes: Uint8Array): void {
    this.#bytes.push(Buffer.from(bytes));
  }
  all(): string[] {
    return Buffer.concat(this.#bytes).toString("latin1").split(/\r?\n/);
  }
}

const PATTERNS: readonly [RegExp, Pick<Finding, "class" | "severity" | "side">, string][] = [
  [/^Kernel panic - not syncing: /, { class: "panic", severity: "panic", side: "guest" }, "panic"],
  [
    /^BUG: |^general protection fault|^kernel BUG at /,
    { class: "oops", severity: "oops", side: "guest" },
    "oops",
  ],
  [/^watchdog: BUG: soft lockup/, { class: "soft-lockup", severity: "hang", side: "guest" }, "lockup"],
  [/^WARNING: CPU: /, { class: "warning", severity: "warning", side: "guest" }, "warning"],
];

/** A stand-in for the console detector: only what the tests of the verdict need of it. */
export class ConsoleDouble extends Lines {
  readonly #source: string;
  constructor(source: string) {
    super();
    this.#source = source;
  }

  end(): Detected {
    const findings: Finding[] = [];
    const events: TimelineEvent[] = [];
    const source = this.#source;
    let last: TimelineEvent | undefined;
    for (const [index, text] of this.all().entries()) {
      const [, stamp, said] = /^\[ *(\d+\.\d+)\] (.*)$/.exec(text) ?? [];
      if (stamp === undefined || said === undefined) continue;
      const at = { uptime: Number(stamp) };
      const line = index + 1;
      last = { kind: "console/end", at, source, line, text: said };
      if (said.startsWith("Linux version "))
        events.push({ kind: "console/boot", at, source, line, text: said });
      if (/^reboot: /.test(said)) events.push({ kind: "console/shutdown", at, source, line, text: said });
      for (const [pattern, facts, name] of PATTERNS) {
        if (!pattern.test(said)) continue;
        findings.push({
          rule: `console/${name}`,
          ...facts,
          trust: "certain",
          title: said,
          signature: said.replace(/\d+/g, "N").slice(0, 80),
          at,
          ...(facts.severity === "panic" ? { survived: false } : {}),
          evidence: [{ source, line, text: said }],
        });
      }
    }
    if (last !== undefined) events.push(last);
    return { findings, events };
  }
}

/** A stand-in for the QMP detector. */
export class QmpDouble extends Lines {
  readonly #source: string;
  constructor(source: string) {
    super();
    this.#source = source;
  }

  end(): Detected {
    const findings: Finding[] = [];
    const events: TimelineEvent[] = [];
    const source = this.#source;
    for (const [index, text] of this.all().entries()) {
      const message = parse(text);
      const { event, timestamp, data, exit } = message.msg ?? message;
      if (exit !== undefined)
        events.push({ kind: "qmp/exit", source, line: index + 1, text: `exit ${exit}` });
      if (event === undefined) continue;
      const wall = timestamp.seconds * 1000 + timestamp.microseconds / 1000;
      const line = index + 1;
      const kind = `qmp/${event.toLowerCase().replaceAll("_", "-")}`;
      const said = `${event} ${data?.reason ?? data?.action ?? ""}`.trim();
      events.push({ kind, at: { wall }, source, line, text: said });
      if (event === "GUEST_PANICKED") {
        findings.push({
          rule: "qmp/guest-panicked",
          class: "guest-panicked",
          severity: "panic",
          side: "guest",
          trust: "certain",
          title: "guest panicked",
          survived: false,
          at: { wall },
          evidence: [{ source, line, text }],
        });
      }
    }
    return { findings, events };
  }
}

// biome-ignore lint/suspicious/noExplicitAny: the tests write the messages themselves
function parse(text: string): any {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

/** A stand-in for the pstore detector: one finding for each record that begins with Panic#. */
const pstoreDouble: Reader = async ({ files, source }) => {
  const findings: Finding[] = files.flatMap(({ path }): Finding[] => {
    const text = readFileSync(path, "latin1");
    const [title = ""] = /Kernel panic - not syncing: .*/.exec(text) ?? [];
    if (!text.startsWith("Panic#") || title === "") return [];
    return [
      {
        rule: "pstore/record",
        class: "panic",
        severity: "panic",
        side: "guest",
        trust: "certain",
        title,
        survived: false,
        evidence: [{ source: `${source}:${path.split("/").at(-1)}`, text: title }],
      },
    ];
  });
  return { findings, events: [] };
};

/** Readers for every kind the tests have artefacts of. */
export const DOUBLES: Readonly<Partial<Record<SourceKind, Reader>>> = {
  console: (input, context) => feedLog(input, new ConsoleDouble(input.source), context),
  qmp: (input, context) => feedLog(input, new QmpDouble(input.source), context),
  pstore: pstoreDouble,
  dump: async () => ({ findings: [], events: [] }),
};
