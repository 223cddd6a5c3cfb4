import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { parseNotes } from "../src/elf/notes.ts";
import { triage } from "../src/jobs/triage.ts";
import { endOf } from "../src/jobs/triage-dump-core.ts";
import { endEvent, endFinding } from "../src/triage/dump/process-end.ts";
import { NT_PRPSINFO, NT_PRSTATUS, NT_SIGINFO, note, prpsinfo, prstatus, siginfo } from "./synth/notes.ts";
import { buildQemuCore } from "./synth/qemu.ts";

const folder = mkdtempSync(join(tmpdir(), "guestcore-qemu-core-"));
afterAll(() => rmSync(folder, { recursive: true }));

const SIGABRT = 6;
const SIGBUS = 7;
const SIGSEGV = 11;
const SI_TKILL = -6;
const SELF = 77;

interface Notes {
  readonly comm?: string;
  readonly signal?: number;
  readonly info?: Buffer;
}
const endIn = ({ comm = "qemu-system-x86", signal = SIGABRT, info }: Notes) => {
  const notes = [
    note("CORE", NT_PRSTATUS, prstatus({ pid: SELF, signal })),
    note("CORE", NT_PRPSINFO, prpsinfo({ pid: SELF, comm, psargs: comm })),
    ...(info === undefined ? [] : [note("CORE", NT_SIGINFO, info)]),
  ];
  return endOf({ notes: [...parseNotes(Buffer.concat(notes), 0)] });
};
const sayIn = (notes: Notes): string | undefined => {
  const facts = { end: endIn(notes), source: "core" };
  return (endFinding(facts) ?? endEvent(facts)) && [endFinding(facts)?.title, endEvent(facts)?.text].join("");
};

describe("what QEMU died of, by its core", () => {
  test.each<[string, Notes, string | undefined]>([
    ["a fault", { signal: SIGSEGV, info: siginfo(SIGSEGV, 1, 0x18) }, "QEMU died of SIGSEGV at address 0x18"],
    [
      "an assertion: abort() sends to its own thread",
      { info: siginfo(SIGABRT, SI_TKILL, SELF) },
      "QEMU died of SIGABRT, which it raised itself",
    ],
    [
      "somebody who wanted a core",
      { info: siginfo(SIGABRT, 0, 4711) },
      "QEMU was ended from outside, with a core: SIGABRT, sent by process 4711",
    ],
    [
      "the same from outside of a container",
      { info: siginfo(SIGABRT) },
      "QEMU was ended from outside, with a core: SIGABRT, sent from outside of its container",
    ],
    ["a kernel that does not say who", { signal: SIGBUS }, "QEMU died of SIGBUS"],
    ["a note of another signal", { signal: SIGBUS, info: siginfo(19, 0x80) }, "QEMU died of SIGBUS"],
    ["gdb's core of a process that goes on", { signal: 0, info: siginfo(19, 0x80) }, undefined],
    ["a process that is stopped", { signal: 19 }, undefined],
    ["another program", { comm: "bash", info: siginfo(SIGABRT, SI_TKILL, SELF) }, undefined],
    ["a program called alike", { comm: "qemu-img", signal: SIGSEGV }, undefined],
  ])("%s", (_, notes, said) => {
    expect(sayIn(notes)).toBe(said);
  });

  test("a crash is certain where the kernel says who sent the signal, likely where not", () => {
    const findingOf = (notes: Notes) => endFinding({ end: endIn(notes), source: "core" });
    expect(findingOf({ signal: SIGSEGV, info: siginfo(SIGSEGV, 1, 0x18) })).toMatchObject({
      class: "qemu-abort",
      severity: "panic",
      side: "qemu",
      trust: "certain",
      signature: "qemu-abort SIGSEGV",
      details: { by: "fault", address: "0x0000000000000018" },
    });
    expect(findingOf({ signal: SIGBUS })).toMatchObject({ trust: "likely", details: { by: null } });
  });

  test("notes that are cut off tell nothing", () => {
    const short = [
      note("CORE", NT_PRSTATUS, Buffer.alloc(20)),
      note("CORE", NT_PRPSINFO, prpsinfo({ pid: 1, comm: "qemu-kvm", psargs: "" })),
    ];
    expect(endOf({ notes: [...parseNotes(Buffer.concat(short), 0)] })).toBeUndefined();
    expect(endOf({ notes: [] })).toBeUndefined();
    expect(sayIn({ info: Buffer.alloc(8) })).toBe("QEMU died of SIGABRT");
  });
});

describe("the verdict", () => {
  const judged = async (name: string, bytes: Uint8Array) => {
    const place = join(folder, name);
    writeFileSync(place, bytes);
    const warnings: string[] = [];
    const context = {
      progress: { start: () => {}, update: () => {}, finish: () => {} },
      warn: ({ code }: { code: string }) => warnings.push(code),
      checkpoint: async () => {},
      temporaryDirectories: [],
    };
    for await (const { verdict } of triage([place], {}, context)) return { ...verdict, warnings };
    throw new Error("no VM");
  };
  /** The first note of that type, with other bytes from an offset of its descriptor on. */
  const patched = (core: Buffer, type: number, at: number, value: number): Buffer => {
    const bytes = Buffer.from(core);
    const size = type === NT_SIGINFO ? 128 : 336;
    const header = Buffer.alloc(12);
    for (const [i, word] of [5, size, type].entries()) header.writeUInt32LE(word, 4 * i);
    bytes.writeInt32LE(value, bytes.indexOf(header) + 20 + at);
    return bytes;
  };
  const core = Buffer.from(buildQemuCore().core);
  const crashed = patched(patched(core, NT_SIGINFO, 8, 1), NT_SIGINFO, 16, 0x18);

  test("of a core that was asked for it is policy, of one of a fault QEMU's crash", async () => {
    expect(await judged("asked", core)).toMatchObject({
      verdict: "stopped-by-policy",
      rule: "asked-to-stop",
    });
    expect(await judged("crashed", crashed)).toMatchObject({
      verdict: "qemu-crash",
      side: "qemu",
      rule: "qemu-died",
      confidence: "certain",
    });
  });

  test("a core that was cut off tells still that QEMU crashed", async () => {
    const cut = crashed.subarray(0, 16384);
    const { verdict, warnings } = await judged("cut", cut);
    expect(verdict).toBe("qemu-crash");
    expect(warnings).toContain("TRI502");
  });

  test("a cut core of a QEMU that went on is not read at all", async () => {
    const calm = patched(core, NT_PRSTATUS, 12, 0).subarray(0, 16384);
    await expect(judged("calm", calm)).rejects.toThrow();
  });
});
