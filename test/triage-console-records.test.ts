import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Envelopes, unwrapped } from "../src/triage/console/envelopes.ts";
import { MceDetector } from "../src/triage/mce/detector.ts";
import { detect, KernelLog, kinds } from "./support/triage-console.ts";

const LINES = `${new KernelLog().boot().oops("foo_write").panic()}`.trimEnd().split("\n");
const OOPS = LINES.findIndex((line) => line.includes("BUG: "));
const second = (at: number): string => `2026-11-26T01:02:${String(at % 60).padStart(2, "0")}`;

type Fields = Readonly<Record<string, string>>;
const fieldsOf = (line: string, at = 0, more: Fields = {}): Fields => ({
  __CURSOR: `s=0123456789abcdef;i=${at}`,
  __REALTIME_TIMESTAMP: String(Date.parse(`${second(at)}Z`) * 1000),
  _BOOT_ID: "0".repeat(32),
  _TRANSPORT: "kernel",
  SYSLOG_IDENTIFIER: "kernel",
  MESSAGE: line.slice(15),
  _SOURCE_MONOTONIC_TIMESTAMP: String(Math.round(Number(line.slice(1, 13)) * 1e6)),
  ...more,
});

/** systemd docs/JOURNAL_EXPORT_FORMATS.md: what is no plain text has its length in front. */
const exported = (fields: Fields, isBinary = false): Buffer =>
  Buffer.concat([
    ...Object.entries(fields).map(([name, value]) => {
      if (name !== "MESSAGE" || !isBinary) return Buffer.from(`${name}=${value}\n`);
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(BigInt(Buffer.byteLength(value)));
      return Buffer.concat([Buffer.from(`${name}\n`), length, Buffer.from(`${value}\n`)]);
    }),
    Buffer.from("\n"),
  ]);
const jsonLines = (all: readonly unknown[]): string => all.map((one) => `${JSON.stringify(one)}\n`).join("");
const inBytes = (fields: Fields) => ({ ...fields, MESSAGE: [...Buffer.from(fields.MESSAGE!)] });
const docker = (log: string, at: number) => ({ log, stream: "stdout", time: `${second(at)}.5Z` });
const cri = (text: string, at: number, tag = "F") => `${second(at)}.123456789Z stdout ${tag} ${text}\n`;
const halves = (line: string): [string, string] => [line.slice(0, 20), line.slice(20)];

/** Each form, and the line of it that the oops is in. */
const FORMS: readonly [string, string | Buffer, number][] = [
  ["export", Buffer.concat(LINES.map((line, at) => exported(fieldsOf(line, at)))), OOPS * 8 + 6],
  ["export, with bytes", Buffer.concat(LINES.map((line, at) => exported(fieldsOf(line, at), true))), -1],
  ["json", jsonLines(LINES.map((line, at) => fieldsOf(line, at))), OOPS + 1],
  ["json, a message of bytes", jsonLines(LINES.map((line, at) => inBytes(fieldsOf(line, at)))), OOPS + 1],
  [
    "json, long",
    jsonLines(LINES.map((line, at) => ({ ...fieldsOf(line, at), X: "x".repeat(9000) }))),
    OOPS + 1,
  ],
  ["json-seq", LINES.map((line, at) => `\x1e${JSON.stringify(fieldsOf(line, at))}\n`).join(""), OOPS + 1],
  [
    "json-sse",
    LINES.map((line, at) => `data: ${JSON.stringify(fieldsOf(line, at))}\n\n`).join(""),
    OOPS * 2 + 1,
  ],
  [
    "json-pretty",
    LINES.map((line, at) => `${JSON.stringify(fieldsOf(line, at), undefined, "\t")}\n`).join(""),
    OOPS * 9 + 7,
  ],
  ["docker", jsonLines(LINES.map((line, at) => docker(`${line}\r\n`, at))), OOPS + 1],
  [
    "docker, in two records a line",
    jsonLines([
      docker("a\n", 0),
      ...LINES.flatMap((line, at) => halves(`${line}\n`).map((part) => docker(part, at))),
    ]),
    OOPS * 2 + 3,
  ],
  ["CRI", LINES.map((line, at) => cri(line, at)).join(""), OOPS + 1],
  [
    "CRI, in two records a line",
    LINES.flatMap((line, at) => halves(line).map((part, i) => cri(part, at, "PF"[i]))).join(""),
    OOPS * 2 + 2,
  ],
  [
    "EC2",
    JSON.stringify({ InstanceId: "i-0", Output: `${LINES.join("\r\n")}\r\n`, Timestamp: "x" }),
    OOPS + 1,
  ],
  [
    "EC2, in base64",
    JSON.stringify(
      { InstanceId: "i-0", Output: Buffer.from(LINES.join("\n")).toString("base64") },
      undefined,
      4,
    ),
    OOPS + 1,
  ],
  ["Compute Engine", JSON.stringify({ contents: LINES.join("\n"), kind: "x", next: "1" }), OOPS + 1],
  ["Nova", `{"output": ${JSON.stringify(LINES.join("\n"))}}\n`, OOPS + 1],
  [
    "LAVA, with an escape of YAML",
    LINES.map((line) => `- {"dt": "x", "lvl": "target", "msg": "\\e[0m${line}"}\n`).join(""),
    OOPS + 1,
  ],
];

describe("records of loggers", () => {
  test.each(FORMS)("%s", (_, log, line) => {
    const report = detect(log);
    expect(kinds(report)).toEqual(["null-deref/panic"]);
    expect(report.findings[0]).toMatchObject({ trust: "certain", details: { guilty: "foo_write" } });
    expect(report.boots).toMatchObject([{ release: "6.1.0-1-amd64", end: "panic" }]);
    if (line > 0) expect(report.findings[0]!.evidence[0]!.line).toBe(line);
  });

  test.each(FORMS)("%s: how it is cut into pieces makes no difference", (_, log) => {
    const { findings, events, lines } = detect(log);
    for (const piece of [1, 7, 1000]) expect(detect(log, piece)).toMatchObject({ findings, events, lines });
  });

  test("a record's date is kept", () => {
    const wall = Date.parse(`${second(OOPS)}Z`);
    const journal = jsonLines(LINES.map((line, at) => fieldsOf(line, at)));
    expect(detect(journal).findings[0]!.at).toMatchObject({ wall });
    expect(detect(LINES.map((line, at) => cri(line, at)).join("")).findings[0]!.at).toMatchObject({
      wall: wall + 123,
    });
  });

  test("a boot of the journal without a banner is one of its own", () => {
    const later = Array.from({ length: 9 }, (_, at) => `${KernelLog.stamp(3 + at)}usb ${at}`);
    const other = { _BOOT_ID: "f".repeat(32) };
    const first = LINES.slice(0, -2).map((line, at) => fieldsOf(line, at));
    const boots = [...first, ...later.map((line, at) => fieldsOf(line, at, other))];
    for (const log of [jsonLines(boots), Buffer.concat(boots.map((one) => exported(one)))]) {
      const report = detect(log);
      expect(report.boots).toMatchObject([{ release: "6.1.0-1-amd64" }, { release: undefined }]);
      expect(report.findings).toMatchObject([{ class: "null-deref", details: { boot: 1 } }]);
      expect(report.events.filter(({ kind }) => kind === "console/boot")).toHaveLength(2);
    }
  });

  test("a boot of the journal with a banner is told once", () => {
    const again = LINES.map((line, at) => fieldsOf(line, at, { _BOOT_ID: "f".repeat(32) }));
    const report = detect(jsonLines([...LINES.map((line, at) => fieldsOf(line, at)), ...again]));
    expect(report.events.filter(({ kind }) => kind === "console/boot")).toHaveLength(2);
    expect(report.boots).toHaveLength(2);
  });

  test("what programs say in the journal is not the kernel's", () => {
    const text = "Kernel panic - not syncing: Fatal exception";
    const said = { _TRANSPORT: "stdout", SYSLOG_IDENTIFIER: "grep", _PID: "7", MESSAGE: text };
    const kernel = LINES.slice(0, 5).map((line, at) => fieldsOf(line, at));
    const all = [...kernel, { ...fieldsOf("", 9), ...said }, ...kernel];
    const log = Buffer.concat(all.map((one) => exported(one, true)));
    expect(detect(log).findings).toEqual([]);
    expect(detect(jsonLines(all.map(inBytes))).findings).toEqual([]);
  });

  test("a record of docker without a line break is a line where none has one", () => {
    expect(unwrapped(jsonLines([{ log: "a" }, { log: "b" }]))).toBe("a\nb\n");
    expect(unwrapped(jsonLines([{ log: "x".repeat(16_384) }, { log: "b\n" }]))).toBe(
      `\n${"x".repeat(16_384)}b\n`,
    );
  });

  test("streams of a container are kept apart", () => {
    const err = cri("of stderr", 1).replace("stdout", "stderr");
    expect(unwrapped(`${cri("a", 0, "P")}${err}${cri("b", 2)}`)).toMatch(/^\n\S+ of stderr\n\S+ ab\n$/);
  });

  test("no records: nothing is changed", () => {
    for (const text of [
      "",
      "a\n{\nb\n",
      '{"a": 1}\n',
      "{ not JSON }\r\nx",
      '{"Output": 7}',
      "{",
      "MESSAGE=x\n",
    ]) {
      expect(unwrapped(text)).toBe(text);
    }
    const late = `${"building\n".repeat(9000)}${jsonLines([{ log: "x\n" }])}`;
    expect(unwrapped(late)).toBe(late);
  });

  test("whatever comes, lines stay lines, and pieces make no difference", () => {
    const piece = fc.constantFrom(
      ...[
        '{"log":"a\\n"}',
        '{"log":"b"}',
        "{",
        "}",
        '\t"MESSAGE" : "x",',
        "__CURSOR=s=1",
        "MESSAGE",
        "MESSAGE=a",
        "\n",
      ],
      ...[
        "\n\n",
        "\0\0\0\0\0\0\0\0",
        "\x02\0\0\0\0\0\0\0",
        `${second(1)}Z stdout P x`,
        `${second(1)}Z stdout F y`,
        "\r",
      ],
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), fc.nat(), (parts, cut) => {
        const text = parts.join("");
        const whole = unwrapped(text);
        const at = cut % (text.length + 1);
        const envelopes = new Envelopes();
        expect(envelopes.push(text.slice(0, at)) + envelopes.push(text.slice(at)) + envelopes.end()).toBe(
          whole,
        );
        const breaks = (one: string) => one.split("\n").length;
        expect(Math.abs(breaks(whole) - breaks(text))).toBeLessThanOrEqual(1);
      }),
      { numRuns: 500, seed: 7 },
    );
  });
});

describe("other forms of journalctl and dmesg", () => {
  test.each<[string, (line: string) => string]>([
    ["short-monotonic", (line) => line.replace("] ", "] vm1 kernel: ")],
    ["short-delta", (line) => line.replace("] ", " <    0.000001>] vm1 kernel: ")],
    ["short-full", (line) => `Thu 2026-11-26 01:02:03 UTC vm1 kernel: ${line.slice(15)}`],
    ["dmesg -d", (line) => line.replace("] ", " <    0.000001>] ")],
  ])("%s", (_, form) => {
    const report = detect(`${LINES.map(form).join("\n")}\n`);
    expect(kinds(report)).toEqual(["null-deref/panic"]);
    expect(report.boots).toMatchObject([{ release: "6.1.0-1-amd64" }]);
  });

  test("a program of short-monotonic is no kernel", () => {
    const boot = `${new KernelLog().boot()}`;
    const said = `${KernelLog.stamp(9)}vm1 grep[7]: Kernel panic - not syncing: x\n`;
    expect(detect(boot + said).findings).toEqual([]);
  });
});

describe("errors of hardware behind what loggers write", () => {
  const LINE = "[    9.000000] Memory failure: 0x1234: recovery action for dirty LRU page: Recovered";
  const found = (log: string) => {
    const detector = new MceDetector({ source: "console" });
    detector.push(Buffer.from(log));
    return detector.end().findings;
  };

  test.each([
    ["nothing", `${LINE}\n`],
    ["docker", jsonLines([docker(`${LINE}\n`, 1)])],
    ["CRI", cri(LINE, 1)],
    ["docker compose", `vm1-1  | ${LINE}\n`],
  ])("%s", (_, log) => expect(found(log)).toMatchObject([{ at: { uptime: 9 }, evidence: [{ line: 1 }] }]));

  test("a quotation is none", () => expect(found(`> ${LINE}\n`)).toEqual([]));
});

test("a field of the journal that lies about its length hides nothing, and line breaks without end take no memory", () => {
  const panic = "[    9.000000] Kernel panic - not syncing: x\n".repeat(2);
  const lie = Buffer.concat([
    Buffer.from("__CURSOR=s=1\nMESSAGE\n"),
    Buffer.alloc(8, 0xff),
    Buffer.from(`\n${panic}`),
  ]);
  expect(detect(lie).findings).toMatchObject([{ class: "panic" }]);
  const breaks = Buffer.alloc(3 * 2 ** 20, "\n");
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(breaks.length));
  const many = [Buffer.from("__CURSOR=s=1\nMESSAGE\n"), length, breaks, Buffer.from(`\n\n${panic}`)];
  const report = detect(Buffer.concat(many));
  expect(report.findings).toMatchObject([{ class: "panic" }]);
  expect(report.lines).toBeLessThan(2 ** 21);
});

test("records of one line that have an `Output` each are no document: nothing behind the first is lost", () => {
  const record = (text: string) =>
    JSON.stringify({ Time: "2026-11-26T10:00:00Z", Action: "output", Output: text });
  const lines = ["a", "b", "c"].map((word) => record(`[    1.000000] ${word}\n`));
  const log = `${[...lines, ""].join("\n")}[    9.000000] Kernel panic - not syncing: x\n`;
  for (const piece of [1, 70, 9999]) {
    expect(detect(log, piece).findings).toMatchObject([{ class: "panic" }]);
  }
});
