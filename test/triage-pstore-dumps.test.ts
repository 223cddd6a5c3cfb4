import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { pstoreReport, rangesText } from "../src/triage/pstore/report.ts";
import { logLine, OOPS_LINES, PANIC_LINES, record } from "./synth/pstore.ts";

const lines = Array.from({ length: 60 }, (_, i) => logLine(i / 10, `event ${i}`, 6));
const all = [...lines, logLine(7, "Kernel panic - not syncing: test", 0)];

/** A log as a kernel saves it in parts: part 1 has the newest text. */
const partsOf = (log: readonly string[], size: number, count = 1): Buffer[] => {
  const parts: Buffer[] = [];
  for (let end = log.length; end > 0; end -= size) {
    parts.push(record("Panic", count, parts.length + 1, log.slice(Math.max(0, end - size), end)));
  }
  return parts;
};
const asFiles = (parts: readonly Buffer[], seconds = 1_795_231_050) =>
  parts.map((bytes, i) => ({ path: `dmesg-efi-${(seconds * 100 + i + 1) * 1000 + 1}`, bytes }));

describe("parts", () => {
  test("in any order give the log, byte for byte", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 30 }), fc.infiniteStream(fc.nat()), (size, order) => {
        const files = asFiles(partsOf(all, size)).map((file) => ({
          file,
          key: order.next().value as number,
        }));
        const shuffled = files.sort((a, b) => a.key - b.key).map(({ file }) => file);
        const { crashes, problems } = pstoreReport(shuffled);
        expect(crashes.map(({ text }) => text.toString())).toEqual([all.join("")]);
        expect(problems).toEqual([]);
      }),
      { seed: 5, numRuns: 60 },
    );
  });

  test("that are missing are named", () => {
    const files = asFiles(partsOf(all, 6)).filter((_, i) => ![0, 3, 4].includes(i));
    const { dumps, problems, crashes } = pstoreReport(files);
    expect(dumps[0]!.missing).toEqual([1, 4, 5]);
    expect(problems.map(({ message }) => message)).toEqual([
      "Panic#1 is not whole: parts 1, 4-5 missing, the newest text among them",
    ]);
    expect(crashes[0]!.kind).toBe("panic");
  });

  test("of two boots with the same numbers are two dumps", () => {
    const first = asFiles(partsOf(all, 20));
    const other = all.map((line) => line.replace("event", "thing"));
    const { crashes } = pstoreReport([...first, ...asFiles(partsOf(other, 20), 1_795_239_999)]);
    expect(crashes.map(({ text }) => text.toString())).toEqual([all.join(""), other.join("")]);
  });

  test("given times seconds apart are of one dump", () => {
    const parts = partsOf(all, 20);
    const { crashes } = pstoreReport([
      ...asFiles(parts.slice(0, 1), 1_795_231_049),
      ...parts
        .slice(1)
        .map((bytes, i) => ({ path: `dmesg-efi-${(1_795_231_051 * 100 + i + 2) * 1000 + 1}`, bytes })),
    ]);
    expect(crashes.length).toBe(1);
  });

  test("found twice count once", () => {
    const files = asFiles(partsOf(all, 20));
    const { crashes, copies, records } = pstoreReport([
      ...files,
      ...files.map((file) => ({ ...file, path: `b/${file.path}` })),
    ]);
    expect([crashes.length, copies, records.length]).toEqual([1, files.length, files.length]);
  });
});

describe("an oops and the panic that comes of it", () => {
  const file = (index: number, bytes: Buffer) => ({ path: `dmesg-ramoops-${index}`, bytes });

  test("are one crash, told by the oops", () => {
    const { crashes, findings } = pstoreReport([
      file(1, record("Panic", 2, 1, PANIC_LINES)),
      file(0, record("Oops", 1, 1, OOPS_LINES)),
    ]);
    expect(crashes.map(({ dumps }) => dumps.length)).toEqual([2]);
    expect(findings).toMatchObject([
      {
        rule: "pstore/record",
        class: "panic",
        severity: "panic",
        title: "BUG: kernel NULL pointer dereference, address: 0000000000000000",
        survived: false,
        evidence: [{ source: "dmesg-ramoops-0", line: 3 }, { source: "dmesg-ramoops-1", line: 6 }, {}, {}],
      },
    ]);
  });

  test("of another boot stand apart", () => {
    const other = OOPS_LINES.map((line) => line.replace("0000000000000000", "00000000000000ff"));
    const { crashes } = pstoreReport([
      file(0, record("Oops", 1, 1, other)),
      file(1, record("Panic", 2, 1, PANIC_LINES)),
    ]);
    expect(crashes.map(({ kind }) => kind).sort()).toEqual(["oops", "panic"]);
  });

  test("an oops that the guest survived is told so", () => {
    const later = [...OOPS_LINES, logLine(90, "reboot: Power down", 6)];
    const { findings, events } = pstoreReport([
      file(0, record("Oops", 1, 1, OOPS_LINES)),
      file(1, record("Shutdown", 2, 1, later)),
    ]);
    expect(findings).toMatchObject([{ class: "oops", survived: true }]);
    expect(events.map(({ text }) => text)).toEqual(["Oops#1 saved", "Shutdown#2 saved"]);
  });

  test("a panic's dump that does not go back as far is filled up from the oops's", () => {
    const { crashes } = pstoreReport([
      file(0, record("Oops", 1, 1, OOPS_LINES)),
      file(1, record("Panic", 2, 1, PANIC_LINES.slice(2))),
    ]);
    expect(crashes[0]!.text.toString()).toBe(PANIC_LINES.join(""));
  });
});

describe("no crash", () => {
  test.each(["Shutdown", "Restart", "Halt", "Poweroff", "Kexec", "Emergency", "Unknown"])("%s", (reason) => {
    const text = ["Command line: panic=30 oops=panic", "an old Kernel panic - not syncing: quoted"];
    const bytes = record(
      reason,
      1,
      1,
      text.map((line, i) => logLine(i, line)),
    );
    expect(pstoreReport([{ path: "dmesg-ramoops-0", bytes }]).findings).toEqual([]);
  });
});

describe("titles", () => {
  const titleOf = (...said: readonly string[]) => {
    const bytes = record(
      "Panic",
      1,
      1,
      said.map((line, i) => logLine(50 + i / 10, line)),
    );
    return pstoreReport([{ path: "dmesg-ramoops-0", bytes }]).findings[0];
  };

  test("a crash on purpose is told by what panic() says", () => {
    expect(
      titleOf("sysrq: Trigger a crash", "Kernel panic - not syncing: sysrq triggered crash")!.title,
    ).toBe("Kernel panic - not syncing: sysrq triggered crash");
  });

  test("a machine check is the hardware's", () => {
    expect(titleOf("Kernel panic - not syncing: Fatal machine check on current CPU")!.side).toBe("hardware");
  });

  test("warnings long before have no part in it", () => {
    const bytes = record("Panic", 1, 1, [
      logLine(1, "WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2"),
      logLine(2, "BUG: sleeping function called from invalid context"),
      logLine(900, "Kernel panic - not syncing: hung_task: blocked tasks", 0),
    ]);
    const [finding] = pstoreReport([{ path: "dmesg-ramoops-0", bytes }]).findings;
    expect(finding!.title).toBe("Kernel panic - not syncing: hung_task: blocked tasks");
  });

  test("a dump that says nothing has the name of its reason", () => {
    expect(titleOf("last words")!.title).toBe("Panic#1: the guest's kernel saved its log");
  });
});

test("lines that end as another system's do", () => {
  const bytes = Buffer.from(record("Panic", 1, 1, PANIC_LINES).toString().replaceAll("\n", "\r\n"));
  const [finding] = pstoreReport([{ path: "dmesg-ramoops-0", bytes }]).findings;
  expect(finding!.title).toBe("BUG: kernel NULL pointer dereference, address: 0000000000000000");
});

test("a text without a first line is judged by what is in it", () => {
  const bytes = Buffer.from(`cut\n${PANIC_LINES.slice(1).join("")}`);
  const { findings, problems } = pstoreReport([{ path: "dmesg-ramoops-0", bytes }]);
  expect(findings).toMatchObject([{ class: "panic", trust: "likely" }]);
  expect(problems).toEqual([]);
});

test("ranges", () => {
  expect(rangesText([1, 2, 3, 7, 9, 10])).toBe("1-3, 7, 9-10");
});
