import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readCommandLine } from "../src/triage/qmp/command-line.ts";
import { parseExact } from "../src/triage/qmp/exact-json.ts";
import { explainRow } from "../src/triage/qmp/explain.ts";
import { FrameReader, JSON_LIMIT, type Piece } from "../src/triage/qmp/frames.ts";
import { MAX_DEPTH } from "../src/triage/qmp/json-scan.ts";
import { QemucallReader } from "../src/triage/qmp/port-trace.ts";
import { isDeclared, needsReset, RUN_STATES } from "../src/triage/qmp/run-state.ts";
import { stampOf } from "../src/triage/qmp/stamp.ts";

function pieces(bytes: Buffer, sizes: readonly number[] = [bytes.length]): Piece[] {
  const found: Piece[] = [];
  const reader = new FrameReader((piece) => found.push(piece));
  let at = 0;
  for (let turn = 0; at < bytes.length; turn++) {
    const size = Math.max(1, sizes[turn % sizes.length]!);
    reader.push(bytes.subarray(at, at + size));
    at += size;
  }
  reader.end();
  return found;
}

describe("frames", () => {
  const objects = fc.array(fc.dictionary(fc.string(), fc.jsonValue()), { maxLength: 8 });

  test("every object of a text is found, however it is laid out and cut into chunks", () => {
    fc.assert(
      fc.property(
        objects,
        fc.constantFrom(0, 2, 4),
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }),
        (values, indent, sizes) => {
          const text = values.map((value) => JSON.stringify(value, null, indent)).join("\n");
          const found = pieces(Buffer.from(text), sizes).filter((piece) => piece.kind === "json");
          expect(found.map((piece) => JSON.parse(piece.text))).toEqual(
            JSON.parse(`[${values.map((value) => JSON.stringify(value)).join()}]`),
          );
        },
      ),
      { seed: 201, numRuns: 200 },
    );
  });

  test("the same in the C strings of strace", () => {
    fc.assert(
      fc.property(objects, (values) => {
        const texts = values.map((value) => JSON.stringify(value)).filter((text) => text !== "{}");
        const quoted = texts.map((text) => text.replace(/["\\]/g, "\\$&")).join("\\r\\n");
        const found = pieces(Buffer.from(`read(3, "${quoted}", 4096) = 9\n`)).filter(
          (piece) => piece.kind === "json",
        );
        expect(found.map((piece) => piece.text)).toEqual(texts);
      }),
      { seed: 202, numRuns: 200 },
    );
  });

  test("depth and length are bounded", () => {
    const deep = (levels: number) => `${'{"a":'.repeat(levels)}1${"}".repeat(levels)}\n`;
    expect(pieces(Buffer.from(deep(MAX_DEPTH)))).toMatchObject([{ kind: "json" }]);
    expect(pieces(Buffer.from(deep(MAX_DEPTH + 1)))[0]).toMatchObject({ kind: "damaged", reason: "deep" });
    const long = Buffer.from(`{"a":"${"x".repeat(JSON_LIMIT)}"}{"b":1}`);
    expect(pieces(long)).toMatchObject([
      { kind: "damaged", reason: "long" },
      { kind: "json", text: '{"b":1}' },
    ]);
  });

  test("braces of other text are text", () => {
    expect(pieces(Buffer.from("struct x { int y; }; {} f() { return 1 }\n"))).toMatchObject([
      { kind: "json", text: "{}" },
      { kind: "text" },
    ]);
  });
});

/** A value as JSON.parse has it. */
const rounded = (value: unknown): unknown =>
  JSON.parse(JSON.stringify(value, (_, item) => (typeof item === "bigint" ? Number(item) : item)));

describe("exact JSON", () => {
  test("integers of any size come back as they were", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 64n), max: 2n ** 64n }), (value) => {
        const parsed = parseExact(`{"a":[${value}],"s":"${value}"}`) as { a: (number | bigint)[]; s: string };
        expect(BigInt(parsed.a[0]!)).toBe(value);
        expect(parsed.s).toBe(String(value));
      }),
      { seed: 203, numRuns: 300 },
    );
  });

  test("all else is as JSON.parse has it", () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        expect(rounded(parseExact(text))).toEqual(JSON.parse(text));
      }),
      { seed: 204, numRuns: 300 },
    );
    expect(parseExact('{"a":1234567890123456.5e3}')).toEqual({ a: 1234567890123456.5e3 });
    expect(parseExact("{1234567890123456789}")).toBeUndefined();
    expect(parseExact(`{"a":${"9".repeat(100_000)}}`)).toEqual({ a: Number.POSITIVE_INFINITY });
  });
});

describe("command lines", () => {
  test("of a shell", () => {
    expect(
      readCommandLine(
        "'/usr/bin/qemu-system-x86_64' -machine q35,accel=kvm -append 'panic=5 -device pvpanic' -device pvpanic,events=2 -action panic=none,reboot=shutdown -S",
      ),
    ).toMatchObject({
      program: "qemu-system-x86_64",
      machine: "q35",
      panicDevices: ["pvpanic"],
      events: 2,
      actions: { panic: "none", reboot: "shutdown" },
      noReboot: true,
      paused: true,
      append: "panic=5 -device pvpanic",
    });
  });

  test("of /proc and of other forms", () => {
    expect(
      readCommandLine("/usr/libexec/qemu-kvm\0-M\0type=pc,usb=off\0-cpu\0host,hv-crash\0-no-shutdown\0"),
    ).toMatchObject({
      program: "qemu-kvm",
      machine: "pc",
      panicDevices: ["hv-crash"],
      noShutdown: true,
    });
    expect(readCommandLine("echo hello")).toBeUndefined();
    expect(readCommandLine("")).toBeUndefined();
  });

  test("no text is too odd", () => {
    fc.assert(
      fc.property(
        fc.string({
          unit: fc.constantFrom("'", '"', "\\", " ", "\n", "-device", "qemu-kvm ", "=", ","),
          maxLength: 60,
        }),
        (text) => {
          readCommandLine(text);
        },
      ),
      { seed: 205, numRuns: 300 },
    );
  });
});

describe("the compatibility matrix", () => {
  const v = (major: number, minor: number, micro = 0) => ({ major, minor, micro });
  test.each([
    [v(1, 4), "pc-1.4", "none: QEMU", "not needed", 1],
    [v(1, 5, 3), "pc-i440fx-1.5", "built in", "refused", 1],
    [v(1, 5, 3), "pc-1.3", "none (has_pvpanic", "not needed", 1],
    [v(1, 6, 0), "pc-i440fx-1.5", "built in", "refused", 1],
    [v(1, 6, 1), "pc-i440fx-1.5", "built in", "works", 1],
    [v(1, 6, 0), "pc", "only with", "refused", 1],
    [v(1, 7), "pc-q35-1.5", "built in", "works", 1],
    [v(2, 4), "pc-i440fx-1.5", "only with", "works", 1],
    [v(5, 1), "pc", "only with", "works", 1],
    [v(5, 2), "pc", "only with", "works", 3],
    [v(7, 2), "pc-i440fx-2.0", "only with", "works", 1],
    [v(7, 2), "q35", "only with", "works", 3],
    [v(10, 0), "pc", "only with", "works", 7],
    [v(7, 2), "pseries", "not needed", "works", undefined],
    [v(7, 2), "s390-ccw-virtio", "not needed", "works", undefined],
    [v(9, 0), "virt-9.0", "only with -device pvpanic-pci", "works", undefined],
  ])("%j %s", (version, machine, device, cont, events) => {
    const explained = explainRow({ version, machine })!;
    expect(explained.row.device).toContain(device);
    expect(explained.row.cont).toContain(cont);
    expect(explained.events).toBe(events);
  });

  test("nothing is told of what is not known", () => {
    expect(explainRow({ version: undefined, machine: "pc" })).toBeUndefined();
    expect(explainRow({ version: v(3, 0), machine: "virt" })).toBeUndefined();
    expect(explainRow({ version: v(7, 2), machine: undefined })!.assumed).toHaveLength(1);
  });
});

describe("run states", () => {
  test("guest-panicked before and after 1.6.1", () => {
    const old = { major: 1, minor: 6, micro: 0 };
    const patched = { major: 1, minor: 6, micro: 1 };
    expect([old, patched].map((version) => isDeclared("guest-panicked", "running", version))).toEqual([
      false,
      true,
    ]);
    expect([old, patched].map((version) => isDeclared("guest-panicked", "paused", version))).toEqual([
      true,
      false,
    ]);
    expect([old, patched].map((version) => isDeclared("inmigrate", "guest-panicked", version))).toEqual([
      false,
      true,
    ]);
    expect([old, patched].map((version) => needsReset("guest-panicked", version))).toEqual([true, false]);
    for (const state of RUN_STATES) expect(isDeclared(state, state, undefined)).toBe(true);
  });
});

test("time stamps", () => {
  const at = Date.UTC(2024, 8, 30, 16, 30, 49, 506);
  expect(stampOf("2024-09-30 16:30:49.506+0000: x")).toEqual({ wall: at });
  expect(stampOf("2024-09-30T18:30:49.506+02:00 x")).toEqual({ wall: at });
  expect(stampOf("2024-09-30T16:30:49.506000Z qemu: x")).toEqual({ wall: at });
  expect(stampOf("1700000000.250000 read(3")).toEqual({ wall: 1_700_000_000_250 });
  expect(stampOf("4711@1700000000.250000:cpu_out")).toEqual({ wall: 1_700_000_000_250 });
  expect(stampOf("[    4.500000] x")).toEqual({ t: 4.5 });
  expect(stampOf("no time")).toEqual({});
});

test("qemucalls: magic, features, a latch that was left out", () => {
  const reader = new QemucallReader(0x600, 4);
  const access = (direction: "read" | "write", register: number, value: bigint) =>
    reader.push({ direction, port: 0x600 + 4 * register, size: 4, value });
  access("read", 0, 0x1234n);
  access("read", 1, 5n);
  access("write", 3, 7n);
  expect(access("write", 0, 2n)).toEqual({ index: 2n, arguments: [undefined, undefined, 7n] });
  expect([reader.magic, reader.features]).toEqual([0x1234n, 5n]);
  expect(reader.push({ direction: "write", port: 0x600 + 4 * 17, size: 4, value: 1n })).toBeUndefined();
});
