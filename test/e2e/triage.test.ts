import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { main } from "../../src/cli/main.ts";
import { FakeTerminal } from "../support/terminal.ts";
import { findKernel } from "./lab-kernel.ts";
import { guestcore, missing, required, run } from "./tools.ts";
import type { Case } from "./triage-case.ts";
import { outlived, panics } from "./triage-cases-guest.ts";
import { hangs } from "./triage-cases-hang.ts";
import { ends } from "./triage-cases-host.ts";
import { kept, OVMF, RAMOOPS } from "./triage-cases-kept.ts";
import { type Left, runMachine } from "./triage-guest.ts";
import { buildTree } from "./triage-tree.ts";

/**
 * Guests that fail in every way that can be brought about, and what `guestcore triage` says of what they leave. What is
 * true of them is known from what was done to them, and from QEMU's own events.
 */
const EMULATOR = "qemu-system-x86_64";
/** Machines at a time. */
const WIDTH = 2;

const SIDES: Readonly<Record<string, string>> = {
  clean: "unknown",
  "guest-panic": "guest",
  "guest-hang": "guest",
  "guest-reset": "guest",
  "host-fault": "host",
  "hardware-fault": "hardware",
  "qemu-crash": "qemu",
  "stopped-by-policy": "policy",
};

interface Told {
  readonly rule: string;
}
interface Vm {
  readonly vm: string;
  readonly verdict: string;
  readonly rule: string;
  readonly side: string;
  readonly severity: string | null;
  readonly failed: boolean;
  readonly findings: readonly { readonly class: string; readonly severity: string }[];
  readonly agreements: readonly Told[];
  readonly contradictions: readonly Told[];
}

/** The command in this process, for there are many. */
async function triage(...args: string[]) {
  const terminal = new FakeTerminal();
  const status = await main(["triage", ...args, "--json", "--progress", "none"], terminal);
  expect(terminal.err).toBe("");
  const { result, warnings } = JSON.parse(terminal.out) as { result: { vms: Vm[] }; warnings: unknown[] };
  return { status, vms: result.vms, warnings };
}

const notes: string[] = [];
const kernel = findKernel((line) => notes.push(line));
const absent = [
  ...missing([EMULATOR, "as", "readelf", "gdb"]).map((tool) => `not installed: ${tool}`),
  ...(kernel === undefined || existsSync(kernel.modules) ? notes : ["no modules: run fetch-kernel.sh again"]),
];

/** Why a case cannot be run here. */
function lacking({ needs }: Case): string | undefined {
  const pattern = "/proc/sys/kernel/core_pattern";
  if (needs === "core" && /[|/]/.test(readFileSync(pattern, "utf8"))) return "cores go elsewhere";
  if (needs === "ovmf" && !existsSync(OVMF.code)) return "no OVMF";
  return needs === "kexec" && missing(["kexec", "ldd"]).length > 0 ? "no kexec" : undefined;
}

const CASES = [...kept, ...hangs, ...panics, ...outlived, ...ends];
const ready = CASES.filter((one) => absent.length === 0 && lacking(one) === undefined);
/** Those without a dump or a core, which take their time to read. */
const quick = ready.filter(({ name, needs }) => needs !== "core" && !name.endsWith("-dumped"));
const skipped = CASES.filter((one) => !ready.includes(one));

describe("what failing guests leave", () => {
  const folder = mkdtempSync(join(tmpdir(), "guestcore-triage-"));
  const vms = join(folder, "vms");
  const runs = new Map<string, Promise<Left>>();
  const placeOf = (name: string): string => join(vms, name);
  afterAll(() => rmSync(folder, { recursive: true }));

  beforeAll(() => {
    if (ready.length === 0) return;
    const bench = { kernel: kernel!, tree: buildTree(kernel!, folder), folder };
    const lanes = Array.from({ length: WIDTH }, (): Promise<unknown> => Promise.resolve());
    for (const [index, one] of ready.entries()) {
      // Whether a guest does under emulation on a busy machine what it is to do is not what is tested here.
      const attempt = () => runMachine(one, bench);
      const left = lanes[index % WIDTH]!.then(attempt).catch(attempt);
      lanes[index % WIDTH] = left.catch(() => {});
      runs.set(one.name, left);
    }
  });

  test.each(ready)("$name: $verdict", async (one) => {
    const left = await runs.get(one.name)!;
    expectTruth(one, left);
    const { status, vms, warnings } = await triage(left.place);
    expect(vms).toMatchObject([toldOf(one)]);
    expect(warnings).toEqual([]);
    expect(status).toBe(one.failsOn === "panic" ? 1 : 0);
    expect(vms[0]!.agreements.map(({ rule }) => rule)).toEqual(
      expect.arrayContaining([...(one.agreements ?? [])]),
    );
  });

  for (const one of skipped) {
    const why = absent[0] ?? lacking(one);
    // Where cores go elsewhere, there is nothing to install.
    if (required && one.needs !== "core") {
      test(one.name, () => {
        throw new Error(why);
      });
    } else test.skip(`${one.name} (${why})`, () => {});
  }

  describe.skipIf(ready.length === 0)("and beyond the verdict", () => {
    test.each(["erst", "ramoops", "ramoops-ecc", "efi"].filter(isReady))(
      "%s: pstore's text is the console's",
      async (name) => {
        const { place, console } = await runs.get(name)!;
        const store = STORES.find((file) => existsSync(join(place, file)))!;
        const { stdout } = guestcore("triage", "pstore", join(place, store), "--dmesg", "-", "--quiet");
        expectOnConsole(stdout, console);
      },
    );

    test.skipIf(!isReady("ramoops"))("ramoops is found in all of the guest's memory, too", async () => {
      const { work, console } = await runs.get("ramoops")!;
      const where = `address=${RAMOOPS.address},size=${RAMOOPS.size}`;
      const ram = join(work, "ram.bin");
      const { stdout } = guestcore("triage", "pstore", ram, "--ramoops", where, "--dmesg", "-", "--quiet");
      expectOnConsole(stdout, console);
    });

    test("a console of the boot that printed the records of the one before is clean", async () => {
      const { console } = await runs.get("erst-read-again")!;
      const second = console.slice(console.lastIndexOf("\n[    0.000000] Linux version"));
      expect(second).toMatch(SYSRQ_QUOTED);
      const place = join(folder, "second-boot");
      mkdirSync(place);
      writeFileSync(join(place, "console.log"), second, "latin1");
      const { status, vms } = await triage(place);
      expect(vms).toMatchObject([{ verdict: "clean", rule: "orderly-shutdown", findings: [] }]);
      expect(status).toBe(0);
    });

    test("a QEMU that does not get to run a guest is a fault of the host", async () => {
      const place = join(folder, "no-start");
      mkdirSync(place);
      const line = ["-nodefaults", "-display", "none", "-drive", "file=missing.img,format=raw,if=ide"];
      const { status: ended, stderr } = run(EMULATOR, line, { cwd: place });
      expect(ended).toBe(1);
      writeFileSync(join(place, "qemu.log"), stderr);
      const { status, vms } = await triage(place);
      expect(vms).toMatchObject([{ verdict: "host-fault", side: "host", rule: "host-fault" }]);
      expect(status).toBe(1);
    });

    test("all of them together are told as each by itself, and fail together", async () => {
      await Promise.all(runs.values());
      const names = ready.map(({ name }) => name).sort();
      const all = await triage(vms);
      expect(all.vms.map(({ vm }) => vm)).toEqual(names);
      for (const one of ready) expect(all.vms.find(({ vm }) => vm === one.name)).toMatchObject(toldOf(one));
      expect(all.status).toBe(1);
      const { stdout } = guestcore("triage", vms);
      const counts = Object.keys(SIDES).map((verdict) => [
        verdict,
        ready.filter((one) => one.verdict === verdict).length,
      ]);
      const summary = stdout.trimEnd().split("\n").at(-1)!;
      expect(summary).toMatch(new RegExp(`^${ready.length} VMs: `));
      for (const [verdict, count] of counts) {
        if (count !== 0) expect(summary).toContain(`${count} ${verdict}`);
      }
    });

    test.each(["oops", "hang", "warning"] as const)(
      "--fail-on %s fails those that it is to",
      async (limit) => {
        await Promise.all(runs.values());
        const isFailing = ({ failsOn }: Case) =>
          failsOn !== undefined && LIMITS.indexOf(failsOn) <= LIMITS.indexOf(limit);
        const { vms: told } = await triage(...quick.map(({ name }) => placeOf(name)), "--fail-on", limit);
        const expected = quick.filter(isFailing).map(({ name }) => name);
        expect(told.filter(({ failed }) => failed).map(({ vm }) => vm)).toEqual(expected.sort());
      },
    );

    test("guests that ended well fail nothing", async () => {
      const well = quick.filter(({ failsOn }) => failsOn === undefined).map(({ name }) => name);
      await Promise.all(well.map((name) => runs.get(name)));
      expect((await triage(...well.map(placeOf), "--fail-on", "warning")).status).toBe(0);
    });
  });
});

const LIMITS = ["panic", "oops", "hang", "warning"];
const STORES = ["erst.img", "ramoops.bin", "OVMF_VARS.fd"];
const SYSRQ_QUOTED = /Kernel panic - not syncing: sysrq triggered crash/;

function isReady(name: string): boolean {
  return ready.some((one) => one.name === name);
}

/** That the machine did what it was to do: without that there is nothing to judge. */
function expectTruth(one: Case, { events, console, ended }: Left): void {
  let at = 0;
  for (const event of one.events) {
    const found = events.indexOf(event, at);
    expect(found, `${event} in ${events.join(", ")}`).toBeGreaterThanOrEqual(0);
    at = found + 1;
  }
  if (one.says !== undefined) expect(console).toMatch(one.says);
  expect(ended).toBe(one.ends ?? 0);
}

const toldOf = ({ name, verdict, rule, findings, failsOn, contradictions = [] }: Case) => ({
  vm: name,
  verdict,
  rule,
  side: SIDES[verdict],
  severity: failsOn ?? null,
  contradictions: contradictions.map((rule) => ({ rule })),
  findings: expect.toSatisfy(
    (found: Vm["findings"]) =>
      found
        .filter(({ severity }) => severity !== "notice")
        .map((finding) => finding.class)
        .join() === findings.join(),
    `has ${findings.join()}`,
  ),
});

/** The log that a guest saved, `<6>[    1.234567] text`, is what it had written until then, line by line. */
function expectOnConsole(saved: string, console: string): void {
  const lines = saved
    .trimEnd()
    .split("\n")
    .map((line) => line.replace(/^<\d+>/, ""));
  const written = console.split(/\r?\n/).filter((line) => /^\[ *\d+\.\d{6}\]/.test(line));
  expect(lines.length).toBeGreaterThan(50);
  expect(lines.filter((line) => SYSRQ_QUOTED.test(line))).toHaveLength(1);
  const start = written.indexOf(lines[0]!);
  expect(written.slice(start, start + lines.length)).toEqual(lines);
}
