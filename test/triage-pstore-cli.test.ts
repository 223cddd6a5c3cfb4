import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { triagePstore } from "../src/jobs/triage-pstore.ts";
import type { Detected } from "../src/triage/finding.ts";
import { quiet } from "./support/memory-io.ts";
import { schemas } from "./support/schemas.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { dumpZone, logLine, OOPS_LINES, PANIC_LINES, ramoopsRegion, record } from "./synth/pstore.ts";

const samples = join(import.meta.dirname, "../samples/triage/pstore");
const ramoops = join(samples, "ramoops-ecc-oops-then-panic.bin.zst");
const rotated = join(samples, "virtio-rotated");
const temporary = mkdtempSync(join(tmpdir(), "guestcore-pstore-"));
afterAll(() => rmSync(temporary, { recursive: true }));

const file = (name: string, bytes: Buffer | string): string => {
  const path = join(temporary, name);
  writeFileSync(path, bytes);
  return path;
};
const oops = file("dmesg-ramoops-0", record("Oops", 1, 1, OOPS_LINES));

async function run(words: readonly string[], isTTY = false) {
  const terminal = new FakeTerminal({ isTTY });
  const status = await main(["triage", "pstore", ...words], terminal);
  return { status, out: terminal.out, err: terminal.err };
}

describe("the samples", () => {
  test.each([
    [
      "ramoops-ecc-oops-then-panic.bin.zst",
      ["Oops#1", "Panic#2"],
      "BUG: KASAN: null-ptr-deref in lkdtm_EXCEPTION+0xc/0x20",
    ],
    ["OVMF_VARS-panic.fd.zst", ["Panic#1"], "Kernel panic - not syncing: sysrq triggered crash"],
    ["acpi-erst-panic.backing.zst", ["Panic#1"], "Kernel panic - not syncing: sysrq triggered crash"],
    ["virtio-rotated", ["Panic#1"], "Panic#1: the guest's kernel saved its log"],
  ])("%s", async (name, dumps, title) => {
    const { findings, report } = await triagePstore([join(samples, name)], {}, quiet);
    expect(findings.map((finding) => [finding.title, finding.details!.dumps])).toEqual([[title, dumps]]);
    expect(report.records.every(({ fault }) => fault === undefined)).toBe(true);
  });

  test("as people see them", async () => {
    const { status, out, err } = await run([ramoops]);
    expect(status).toBe(1);
    expect(err).toBe("");
    expect(out.replaceAll(samples, "SAMPLES")).toMatchInlineSnapshot(`
      "SAMPLES/ramoops-ecc-oops-then-panic.bin.zst: 3 records, 1 crash

      panic: BUG: KASAN: null-ptr-deref in lkdtm_EXCEPTION+0xc/0x20
        then    Kernel panic - not syncing: Fatal exception
        when    2026-11-21T03:41:13.556Z by the guest's clock, 5.962093 s after its boot
        saved   Oops#1 by ramoops: 1 record, deflate
        saved   Panic#2 by ramoops: 1 record, deflate
        log     21.9 KiB

      panic: BUG: KASAN: null-ptr-deref in lkdtm_EXCEPTION (Panic#2 in SAMPLES/ramoops-ecc-oops-then-panic.bin.zst:0x8276)
      panic: BUG: KASAN: null-ptr-deref in lkdtm_EXCEPTION (SAMPLES/ramoops-ecc-oops-then-panic.bin.zst:0xd3ffc)

      also kept: console 20.4 KiB

      next: guestcore triage pstore SAMPLES/ramoops-ecc-oops-then-panic.bin.zst --dmesg dmesg.txt
      "
    `);
  });

  test("and what is missing is told", async () => {
    const { status, err } = await run([rotated]);
    expect(status).toBe(1);
    expect(err.replaceAll(samples, "SAMPLES")).toMatchInlineSnapshot(`
      "warning TRI301: Panic#1 is not whole: parts 1-14 missing, the newest text among them
      warning TRI306: SAMPLES/virtio-rotated/: the files begin with number 15: those before it were rotated away, or the guest deleted them
        hint: start QEMU with a larger file-max=
      "
    `);
  });
});

describe("JSON", () => {
  const validate = schemas().getSchema("triage-pstore.json")!;

  test.each([[ramoops], [rotated], [join(samples, "OVMF_VARS-panic.fd.zst")], [oops]])(
    "of %s fits its schema",
    async (path) => {
      const { out } = await run([path, "--json"]);
      validate(JSON.parse(out));
      expect(validate.errors ?? []).toEqual([]);
    },
  );

  test("says what people are told", async () => {
    const { result, inputs, warnings } = JSON.parse((await run([rotated, "--json"])).out);
    expect(inputs).toEqual([{ path: rotated, size: 3787 }]);
    expect(warnings.map(({ code }: { code: string }) => code)).toEqual(["TRI301", "TRI306"]);
    expect(result.dumps[0].missing).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
    expect(result.dumps[0].records).toEqual([5, 4, 3, 2, 1]);
    expect(result.records[0]).toMatchObject({
      compression: "zlib",
      id: "0x000000000000000f",
      backend: "virtio",
    });
  });
});

describe("status", () => {
  test.each([
    ["a panic", [ramoops], 1],
    ["an oops is below the default", [oops], 0],
    ["an oops with --fail-on oops", [oops, "--fail-on", "oops"], 1],
    [
      "an orderly end",
      [file("dmesg-ramoops-1", record("Shutdown", 2, 1, OOPS_LINES)), "--fail-on", "warning"],
      0,
    ],
    [
      "a panic that is only quoted",
      [file("dmesg-ramoops-2", record("Shutdown", 1, 1, [logLine(1, "Kernel panic - not syncing: no")]))],
      0,
    ],
    ["another file", [file("notes.txt", "panic=30\n")], 3],
    ["a damaged store", [file("erst", Buffer.concat([Buffer.from("ERSTSTOR"), Buffer.alloc(100)]))], 4],
    ["no such file", [join(temporary, "none")], 7],
    ["an unknown severity", [oops, "--fail-on", "everything"], 2],
    ["a key that ramoops has not", [oops, "--ramoops", "records=1"], 2],
    ["two things for standard output", [oops, "--record", "1", "--json"], 2],
    ["a record that is not there", [oops, "--record", "9"], 2],
    ["a log where there is no crash", [join(temporary, "dmesg-ramoops-1"), "--dmesg", "-"], 5],
  ])("%s", async (_, words, status) => expect((await run(words)).status).toBe(status));

  test("an empty pstore is clean, a directory of other files is none", async () => {
    const empty = join(temporary, "empty");
    mkdirSync(empty);
    expect((await run([empty])).status).toBe(0);
    writeFileSync(join(empty, "readme.txt"), "hello");
    expect((await run([empty])).status).toBe(3);
  });
});

describe("what goes out as it is", () => {
  test("the log of a crash, to a file and to standard output", async () => {
    const path = join(temporary, "out.txt");
    const { status, out } = await run([ramoops, "--dmesg", path]);
    expect([status, out.includes("1 crash")]).toEqual([1, true]);
    const log = readFileSync(path, "utf8");
    expect(log.startsWith("<5>[    0.000000] Linux version 6.1.192")).toBe(true);
    expect(log).toContain("Kernel panic - not syncing: Fatal exception");
    expect((await run([ramoops, "--dmesg", "-"])).out).toBe(log);
    expect((await run([ramoops, "--dmesg", path])).status).toBe(2);
    expect((await run([ramoops, "--dmesg", path, "--force"])).status).toBe(1);
  });

  test("never over an input", async () => {
    expect((await run([oops, "--dmesg", oops, "--force"])).status).toBe(2);
    expect(readFileSync(oops).equals(record("Oops", 1, 1, OOPS_LINES))).toBe(true);
  });

  test("a record; on a terminal with what it would obey escaped", async () => {
    const path = file("dmesg-ramoops-7", record("Panic", 1, 1, [logLine(1, "\x1b[31mred\x07 tab\there")]));
    expect((await run([path, "--record", "1"])).out).toContain("\x1b[31mred");
    const { out } = await run([path, "--record", "1"], true);
    expect(out).toContain("\\x1b[31mred\\x07 tab\there");
    expect((await run([path])).out).not.toContain("\x1b");
  });

  test("--list names every record and file", async () => {
    const { out } = await run([rotated, "--list"]);
    expect(out).toMatch(/^ {2}5 {2}dmesg {2}Panic#1 Part19 {2}884 +zlib +1776 +\S+dmesg-19\.enc\.z$/m);
    expect(out).toMatch(/dmesg-19\.enc\.z: virtio-pstore file, 1 record$/m);
  });
});

test("a region in a guest's memory is where --ramoops says", async () => {
  const spec = { size: 0x1_0000, record: 0x4000, console: 0x1000, ftrace: 0x1000, pmsg: 0x1000 };
  const region = ramoopsRegion(spec, { dumps: [dumpZone(record("Panic", 2, 1, PANIC_LINES), false)] });
  const path = file("guest.mem", Buffer.concat([Buffer.alloc(0x3000, 1), region, Buffer.alloc(0x1000, 2)]));
  const where = "address=0x3000,size=0x10000,ramoops.record_size=0x4000,console_size=4096,ecc=0";
  const { out, status } = await run([path, "--ramoops", where]);
  expect(status).toBe(1);
  expect(out).toContain("panic: BUG: kernel NULL pointer dereference");
});

test("what reads consoles is given every text", async () => {
  const seen: string[] = [];
  const hook = (source: string, text: Uint8Array): Detected => {
    seen.push(`${source.replace(samples, "")}: ${Buffer.from(text).toString().split("\n", 1)}`.slice(0, 90));
    return { findings: [], events: [{ kind: "console/end", source, text: "end" }] };
  };
  const { events } = await triagePstore([ramoops], { console: hook }, quiet);
  expect(seen.length).toBe(2);
  expect(seen[0]).toMatch(/^Panic#2 in \/ramoops-ecc-oops-then-panic\.bin\.zst:0x8276: <5>\[ {4}0\.000000\]/);
  expect(events.filter(({ kind }) => kind === "console/end").length).toBe(2);
});
