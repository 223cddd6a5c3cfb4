import { describe, expect, test } from "vitest";
import { detect, KernelLog, kinds } from "./support/triage-console.ts";

const LINES = `${new KernelLog().boot().oops("foo_write").panic()}`.trimEnd().split("\n");
const each = (wrap: (line: string, at: number) => string): string => `${LINES.map(wrap).join("\n")}\n`;
const second = (at: number): string => `2026-11-26T01:02:${String(at % 60).padStart(2, "0")}`;

/** A journal's fields of a kernel's line. */
const fieldsOf = (line: string): Record<string, string> => ({
  _TRANSPORT: "kernel",
  SYSLOG_IDENTIFIER: "kernel",
  MESSAGE: line.slice(15),
  _SOURCE_MONOTONIC_TIMESTAMP: String(Math.round(Number(line.slice(1, 13)) * 1e6)),
});

describe("what loggers wrap lines in", () => {
  test.each<[string, (line: string, at: number) => string]>([
    ["docker compose", (line) => `vm1-1  | ${line}`],
    ["a name and a bar", (line) => `vm1 | ${line}`],
    ["a name", (line) => `guest-1: ${line}`],
    ["NixOS' tests", (line) => `machine # ${line}`],
    ["Python's logging", (line, at) => `2026-11-20 10:00:00,${100 + at} - INFO - ${line}`],
    ["RFC 5424", (line) => `<4>1 2026-11-20T10:00:00.1Z vm kernel - - - ${line}`],
    ["go test", (line) => `    console_test.go:45: ${line}`],
    ["an indented paste", (line) => `    ${line}`],
    ["a tab", (line) => `\t${line}`],
    ["a mail's quotation", (line) => `> ${line}`],
    ["a quotation of a quotation", (line) => `> > ${line}`],
    ["a comment", (line) => `// ${line}`],
    ["cat -n", (line, at) => `${String(at + 1).padStart(6)}\t${line}`],
    ["a list", (line) => `  | ${line}`],
    ["a date and a name", (line, at) => `${second(at)}Z   guest: ${line}`],
    ["a date in colour and a name", (line, at) => `\x1b[90m${second(at)}Z\x1b[0m guest: ${line}`],
    ["avocado", (line, at) => `2026-11-26 01:02:03,${100 + at} qemu_vm L0153 DEBUG| ${line}`],
    ["LAVA", (line) => `- {"dt":"2026-11-26T01:02:03.1","lvl":"target","msg":${JSON.stringify(line)}}`],
    ["docker", (line) => JSON.stringify({ log: `${line}\r\n`, stream: "stdout", time: `${second(3)}.1Z` })],
    ["journalctl -o json", (line) => JSON.stringify(fieldsOf(line))],
    [
      "journalctl -o verbose",
      (line, at) =>
        [
          `Thu 2026-11-26 01:02:03.123456 UTC [s=0123456789abcdef;i=${at}]`,
          ...Object.entries(fieldsOf(line)).map(([name, value]) => `    ${name}=${value}`),
        ].join("\n"),
    ],
  ])("%s", (_, wrap) => {
    const report = detect(each(wrap));
    expect(kinds(report)).toEqual(["null-deref/panic"]);
    expect(report.findings[0]).toMatchObject({ trust: "certain", details: { guilty: "foo_write" } });
    expect(report.boots).toMatchObject([{ release: "6.1.0-1-amd64", end: "panic" }]);
  });

  test.each(["> ", "    ", "vm1  | "])("%j before a line that clears the screen", (margin) => {
    const [banner = "", ...others] = LINES;
    const clearing = ["SeaBIOS", "Booting from ROM...", `\x1bc\x1b[?7l\x1b[2J${banner}`, ...others];
    const report = detect(clearing.map((line) => `${margin}${line}\n`).join(""));
    expect(kinds(report)).toEqual(["null-deref/panic"]);
  });

  test.each([
    ["the kernel's own lines", `${new KernelLog().boot()}`],
    ["prose", "Known, fixed in 6.2.\n"],
    ["prose behind an empty line", "\n\nRegards,\n"],
  ])("a log with a margin is a quotation before %s", (_, others) => {
    for (const mark of ["> ", "    ", "// "]) {
      const report = detect(`${each((line) => mark + line)}${others}`);
      expect([kinds(report), report.quoted]).toEqual([[], 1]);
    }
  });

  test("nor does a margin take up again where it was left", () => {
    const quoted = each((line) => `> ${line}`);
    expect(kinds(detect(`${quoted}${new KernelLog().boot()}${quoted}`))).toEqual([]);
  });

  test("many lines without a time between the first with a margin", () => {
    const units = Array.from({ length: 60 }, (_, at) => `[  OK  ] Started unit ${at}.`);
    const lines = [...LINES.slice(0, 2), ...units, ...LINES.slice(2)];
    expect(kinds(detect(lines.map((line) => `> ${line}\n`).join("")))).toEqual(["null-deref/panic"]);
  });

  test("a wrapper behind what a spinner left", () => {
    expect(kinds(detect(each((line) => `waiting\r\x1b[Kvm1 | ${line}`)))).toEqual(["null-deref/panic"]);
  });

  test("numbers of lines may outgrow the room before them", () => {
    const numbered = each((line, at) => `${String(at + 99_990).padStart(6)}\t${line}`);
    expect(kinds(detect(numbered))).toEqual(["null-deref/panic"]);
  });

  test("dates of loggers are kept", () => {
    const wall = Date.parse("2026-11-26T01:02:03Z");
    const logs = [
      each((line) => `2026-11-26T01:02:03Z   guest: ${line}`),
      each((line) => JSON.stringify({ log: line, time: "2026-11-26T01:02:03Z" })),
    ];
    for (const log of logs) expect(detect(log).findings[0]!.at).toMatchObject({ wall });
  });

  test.each([
    ["a mail", "> "],
    ["a mail of a mail", "> > "],
    ["a comment", "# "],
    ["a comment of C", "// "],
    ["a diff", "-"],
    ["prose", "    "],
  ])("%s is a quotation", (_, mark) => {
    const quoted = each((line) => mark + line);
    for (const text of [`On Monday somebody wrote:\n${quoted}`, `${mark}Hello,\nthis is it:\n${quoted}`])
      expect(detect(text).findings).toEqual([]);
    // Of indentation behind a wrapper nobody knows whose it is.
    if (mark.trim() !== "") expect(detect(each((line) => `vm1 | ${mark}${line}`)).findings).toEqual([]);
  });

  test("LAVA's own words, other programs of the journal, and JSON of others are not the kernel's", () => {
    const text = LINES.at(-2)!;
    const others = [
      `- {"dt":"2026-11-26T01:02:03.1","lvl":"info","msg":${JSON.stringify(text)}}`,
      JSON.stringify({ MESSAGE: text.slice(15), SYSLOG_IDENTIFIER: "grep", _TRANSPORT: "stdout" }),
      JSON.stringify({ t: 1, msg: { event: text } }),
      "{ not JSON }",
    ];
    expect(detect(others.join("\n")).findings).toEqual([]);
  });

  test("a log that a script prints with a name before it is no wrapper where the kernel speaks for itself", () => {
    const old = LINES.map((line) => `old: ${line}`).join("\n");
    const stamped = `${new KernelLog().boot().later(40).say("a")}${old}\n${new KernelLog(50).say("reboot: Power down")}`;
    expect(kinds(detect(stamped))).toEqual([]);
    expect(kinds(detect(`Linux version 6.1.0 (a@b) (gcc 12) #1 SMP\n${old}\n`))).toEqual([]);
  });

  test.each<[string, (line: string, at: number) => string]>([
    ["a host's stamps", (line, at) => `${KernelLog.stamp(5000 + at / 10)}${line}`],
    ["a host's shorter stamps", (line, at) => `[${(at / 10).toFixed(3).padStart(8)}] ${line}`],
    ["a host's stamps, and a name", (line, at) => `${KernelLog.stamp(5000 + at / 10)}guest: ${line}`],
  ])("%s, from the firmware on", (_, wrap) => {
    const log = ["SeaBIOS (version 1.16)", "Booting from ROM..", ...LINES].map(wrap).join("\n");
    const report = detect(`${log}\n`);
    expect(kinds(report)).toEqual(["null-deref/panic"]);
    expect(report.findings[0]!.at!.uptime).toBeLessThan(100);
    expect(report.boots.at(-1)).toMatchObject({ release: "6.1.0-1-amd64", end: "panic" });
  });

  test("a log that a kernel is given to print has two stamps too, and is old", () => {
    const old = LINES.map((line, at) => `${KernelLog.stamp(20 + at / 1000)}${line}\n`).join("");
    const log = `${new KernelLog().boot()}${old}${new KernelLog(50).say("a", "b", "reboot: Power down")}`;
    expect(kinds(detect(log))).toEqual([]);
  });

  test("two lines in one shape are no wrapper, and are looked at all the same", () => {
    const text = `boot: [    1.000000] a\nboot: [    2.000000] b\nKernel panic - not syncing: x\n`;
    expect(kinds(detect(text))).toEqual(["panic/panic"]);
    expect(detect(`${"boot: [    1.000000] a\n".repeat(2)}x\n`).findings).toEqual([]);
  });

  test("in a log that nobody understands, the line that ends a panic is a hint", () => {
    const [found] = detect("node7/x ---[ end Kernel panic - not syncing: Fatal exception ]---\n").findings;
    expect(found).toMatchObject({ class: "panic", severity: "warning", trust: "possible" });
    expect(detect("> x ---[ end Kernel panic - not syncing: y ]---\n").findings).toEqual([]);
  });
});
