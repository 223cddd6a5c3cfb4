import { describe, expect, test } from "vitest";
import { type GuestcoreError, UnavailableError, UnsupportedError } from "../src/core/errors.ts";
import type { InspectResult, ProcessInfo } from "../src/jobs/inspect.ts";
import type { VerifyResult } from "../src/jobs/verify.ts";
import { infoJson, infoText } from "../src/report/info.ts";
import { verifyText } from "../src/report/verify.ts";

/** What `info` says of a core of `path` in which no guest was found. */
function textOf(path: string, problem: GuestcoreError): string {
  const process = {
    executable: { path },
    core: { threadCount: 1 },
    problem,
  } as unknown as ProcessInfo;
  return infoText(resultOf(process), false);
}

function resultOf(process: ProcessInfo): InspectResult {
  return {
    input: { path: "core", identities: [], size: 4096, sizeOnDisk: 4096, unpacked: undefined },
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

const nextOf = (result: InspectResult, words?: readonly string[]) => infoJson(result, words).next;

describe("the next command of info and verify", () => {
  const saving = { name: "saved.dump", command: "cat > saved.dump" };
  const input = { path: "-", identities: [], size: 4096, sizeOnDisk: 4096, unpacked: undefined, saving };
  const next = (text: string) => text.slice(text.indexOf("next: ") + 6).trimEnd();
  const qemu = {
    ...{ executable: { path: "qemu" }, core: { threadCount: 1 } },
    qemu: { guest: { ranges: [], vcpus: [] }, machine: {} },
  } as unknown as ProcessInfo;
  const gdb = { executable: { path: "cat" }, core: { threadCount: 1 } } as unknown as ProcessInfo;
  const verified = {
    ...{ input, format: "elf", flattened: false, quick: false, whole: true },
    ...{ checked: undefined, findings: [] },
  } as VerifyResult;

  test("saves standard input first", () => {
    const info = (process: ProcessInfo) => nextOf({ ...resultOf(process), input });
    expect(info(gdb)).toEqual(["cat > saved.dump", "gdb cat saved.dump"]);
    expect(info(qemu)).toEqual(["cat > saved.dump && guestcore extract saved.dump -o saved.dump.vmcore"]);
    expect(next(verifyText(verified))).toBe("cat > saved.dump && guestcore info saved.dump");
  });

  test("says of the dump what the user said", () => {
    const words = ["--part", "'a b'", "--map", "0-0x1000"];
    const file = { ...verified, input: { ...input, path: "x y", saving: undefined } };
    expect(next(verifyText(file, words))).toBe("guestcore info 'x y' --part 'a b' --map 0-0x1000");
    const raw = { ...resultOf(gdb), input: file.input, elf: undefined, process: undefined };
    expect(nextOf(raw, words)).toEqual(["guestcore convert 'x y' vmcore --part 'a b' --map 0-0x1000"]);
  });
});
