import { describe, expect, test } from "vitest";
import { type GuestcoreError, UnavailableError, UnsupportedError } from "../src/core/errors.ts";
import type { InspectResult, ProcessInfo } from "../src/jobs/inspect.ts";
import { infoText } from "../src/report/info.ts";

/** What `info` says of a core of `path` in which no guest was found. */
function textOf(path: string, problem: GuestcoreError): string {
  const process = {
    executable: { path },
    core: { threadCount: 1 },
    problem,
  } as unknown as ProcessInfo;
  const result = {
    input: { path: "core", size: 4096, sizeOnDisk: 4096, unpacked: undefined },
    identification: { phrase: "ELF", facts: {}, advice: "" },
    elf: {
      elf: { header: { bits: 64, littleEndian: true, machine: 62, type: 4 }, programs: [] },
      kind: "process-core",
      notes: [],
      lost: 0,
    },
    process,
    vmcore: undefined,
    warnings: [],
  } as unknown as InspectResult;
  return infoText(result, false);
}

describe("info of a process without a guest to be found", () => {
  const notX86 = new UnsupportedError("the guest is not x86: its vCPUs are of type cortex-a57-arm-cpu");

  test("a qemu process says why, whatever the reason", () => {
    expect(textOf("/usr/bin/qemu-system-aarch64", notX86)).toMatch(/^ {2}guest +the guest is not x86/m);
    const lost = new UnavailableError("a core of QEMU, but no guest memory", { hint: "take it again" });
    expect(textOf("/usr/libexec/renamed", lost)).toMatch(/^ {2}guest +a core of QEMU.*\n +take it again$/m);
  });

  test("of any other program that goes without saying", () => {
    expect(textOf("/bin/bash", new UnsupportedError("no QEMU in this core"))).not.toContain("QEMU");
  });
});
