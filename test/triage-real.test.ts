import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { triage, type VmResult } from "../src/jobs/triage.ts";
import { READERS } from "../src/jobs/triage-readers.ts";

const root = join(process.env.GUESTCORE_DATA ?? join(import.meta.dirname, "../../shared/data"), "triage");
const isReady =
  existsSync(join(root, "expected.json")) && READERS.console !== undefined && READERS.qmp !== undefined;

/** What no console tells, but QMP and console together do. */
const BEYOND_THE_CONSOLE: Readonly<Record<string, string>> = {
  // The console breaks off in the report, and QEMU saw the guest reset itself.
  "kasan-panic-on-warn": "guest-panic",
  "hardlockup-tcg": "guest-hang",
  softlockup: "guest-hang",
  "mce-fatal": "hardware-fault",
  "neg-ovmf-no-boot": "unknown",
  "ppc64le-mce-kernel-tlb-multihit-panic": "hardware-fault",
  "ppc64le-mce-nested": "hardware-fault",
  // The lab ended these with `quit` once it had seen enough.
  "ppc64le-mce-kernel-recovered-erat": "stopped-by-policy",
  "ppc64le-mce-kernel-ue-ptw": "stopped-by-policy",
  "ppc64le-mce-user-ue": "stopped-by-policy",
};

interface Truth {
  readonly file: string;
  readonly panic: boolean;
}

describe.skipIf(!isReady)(`real VMs (skipped without ${root} or the readers)`, () => {
  const context = {
    progress: { start: () => {}, update: () => {}, finish: () => {} },
    warn: () => {},
    checkpoint: async () => {},
    temporaryDirectories: [],
  };
  async function verdicts(folder: string): Promise<Map<string, VmResult>> {
    const results = new Map<string, VmResult>();
    for await (const result of triage([join(root, folder)], {}, context)) results.set(result.vm, result);
    return results;
  }

  test.each(["console", "foreign"])(
    "%s: every verdict is the one that is known to be true",
    async (folder) => {
      const truths = (JSON.parse(readFileSync(join(root, "expected.json"), "utf8")) as Truth[]).filter(
        ({ file }) => file.startsWith(`${folder}/`),
      );
      const results = await verdicts(folder);
      const told = truths.map(({ file }) => {
        const name = file.slice(folder.length + 1).replace(".console.log", "");
        return [name, results.get(name)?.verdict.verdict];
      });
      const expected = truths.map(({ file, panic }) => {
        const name = file.slice(folder.length + 1).replace(".console.log", "");
        return [name, BEYOND_THE_CONSOLE[name] ?? (panic ? "guest-panic" : "clean")];
      });
      expect(told).toEqual(expected);
    },
  );

  test("qmp: every guest that panicked is told to have", async () => {
    const clean = ["internal-triplefault", "qemu10.0-pvshutdown", "watchdog-pause"];
    for (const [name, { verdict }] of await verdicts("qmp")) {
      expect([name, verdict.verdict]).toEqual([name, clean.includes(name) ? "clean" : "guest-panic"]);
    }
  });
});
