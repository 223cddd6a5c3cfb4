import { describe, expect, test } from "vitest";
import { GuestcoreError } from "../src/core/errors.ts";
import { isTar, readTar } from "../src/io/tree.ts";
import { findingsOf } from "../src/jobs/vmcsinfo.ts";
import { showText, vmcsInfoJson } from "../src/report/vmcsinfo.ts";
import {
  layoutOf,
  readVmcsInfo,
  type VmcsInfoInput,
  WRITABLE_FORMS,
  writeVmcsInfo,
} from "../src/vmx/vmcsinfo.ts";
import { cpuTime } from "./support/cpu-time.ts";
import { random } from "./synth/pattern.ts";
import {
  array,
  E7500,
  PACKED,
  rekall,
  setChecksum,
  sysfs,
  table,
  tar,
  v1Text,
  v2Binary,
} from "./synth/vmcsinfo.ts";

/** Damaged input of every form ends in one of our errors or in an answer that can be shown and written. */
const COUNT = Number(process.env.GUESTCORE_MUTANTS ?? 700);
const SEED = Number(process.env.GUESTCORE_SEED ?? 20261125);

const json = JSON.stringify({
  revisionId: 13,
  accessRights: { form: "rotated" },
  fields: E7500.map(({ encoding, offset }) => ({
    encoding: `0x${encoding.toString(16)}`,
    offset,
    raw: "0x0500",
  })),
});
const text = (lines: string): Buffer => Buffer.from(lines, "latin1");

const INPUTS: Readonly<Record<string, Buffer>> = {
  v1: text(v1Text(0xd, E7500)),
  v2: v2Binary(0xd, E7500),
  "v2, packed": v2Binary(0x12, PACKED),
  array: array(0xd, E7500),
  "array of u16": array(undefined, E7500, 2),
  table: text(table(0xd, E7500)),
  rekall: text(
    rekall(0xd, [
      ["GUEST_ES_SEL", 0x200],
      ["GUEST_ES_ATTR", 0x215],
      ["GUEST_RIP", 0x338],
    ]),
  ),
  json: text(json),
  tar: tar(sysfs(5, 0xd, E7500)),
  "tar of v4": tar(sysfs(4, 0xd, E7500, (value) => value.toString(16))),
};

const TOKENS = [
  "0x",
  "ffffffff",
  "-",
  "\0",
  "\n",
  "=",
  "(",
  "[",
  "{",
  '"fields":',
  "null",
  "9".repeat(40),
  "FIELD(",
];

function filled(bytes: Buffer, start: number, end: number, value: number): Buffer {
  bytes.subarray(start, end).fill(value);
  return bytes;
}

function* mutantsOf(input: Buffer): Generator<{ name: string; bytes: Buffer }> {
  for (let i = 0; i < COUNT; i++) {
    const chance = random(Math.imul(SEED, i + 1));
    let bytes: Buffer = Buffer.from(input);
    for (let n = 1 + chance.below(3); n > 0; n--) {
      const at = chance.below(bytes.length);
      const other = chance.below(bytes.length);
      const token = Buffer.from(chance.pick(TOKENS));
      bytes = chance.pick([
        () => filled(bytes, at, at + 1, chance.below(256)),
        () => bytes.subarray(0, at + 1),
        () => Buffer.concat([bytes.subarray(0, at), token, bytes.subarray(at)]),
        () => Buffer.concat([bytes.subarray(0, at), bytes.subarray(other)]),
        () => Buffer.concat([bytes, bytes.subarray(at)]),
        () => filled(bytes, at, at + chance.below(32), chance.pick([0, 0xff])),
      ])();
    }
    // Damage behind a right checksum is what matters.
    if (isTar(input) && chance.below(4) > 0 && bytes.length >= 512) setChecksum(bytes);
    yield { name: `#${i}`, bytes };
  }
}

function exercise(input: VmcsInfoInput): void {
  const info = readVmcsInfo(input, { numbers: "hex" });
  const layout = layoutOf(info);
  for (const [encoding, offset] of layout.fields) {
    expect(offset).toBeGreaterThanOrEqual(8);
    expect(offset).toBeLessThan(4096);
    expect(encoding).toBeLessThan(0x8000);
  }
  const opened = {
    input: { path: "x", size: 0, identities: [] },
    container: "file" as const,
    noteOffset: undefined,
    info,
    warnings: [],
  };
  for (const to of WRITABLE_FORMS) {
    const { bytes } = writeVmcsInfo(info, to);
    if (layout.fields.size >= 8) readVmcsInfo(bytes, { numbers: "hex" });
  }
  expect(showText(opened)).not.toMatch(/undefined|NaN|\[object/);
  JSON.stringify(vmcsInfoJson(opened), (_, value) => (typeof value === "bigint" ? `${value}` : value));
  findingsOf({ layout, opened });
}

describe.each(Object.entries(INPUTS))("%s", (_, input) => {
  test(`${COUNT} mutants of seed ${SEED}`, { timeout: 120_000 }, () => {
    const outcomes = { answer: 0, error: 0 };
    for (const { name, bytes } of mutantsOf(input)) {
      try {
        exercise(isTar(bytes) ? readTar(bytes) : bytes);
        outcomes.answer++;
      } catch (error) {
        if (!(error instanceof GuestcoreError)) throw new Error(name, { cause: error });
        expect(error.message, name).not.toMatch(/undefined|NaN|\[object/);
        outcomes.error++;
      }
    }
    expect(outcomes.answer).toBeGreaterThan(0);
    expect(outcomes.error).toBeGreaterThan(0);
  });
});

test("input that is made to be slow is not", () => {
  const began = cpuTime();
  const size = 2 ** 20;
  const slow: Buffer[] = [
    text("0x0800 0x100\n".repeat(size / 13)),
    text(`REVISION_ID=1\n${"FIELD(".repeat(size / 7)}`),
    text(`"$STRUCTS"${'"AAA": [1, ['.repeat(size / 13)}`),
    text(`"$STRUCTS" "AAAA": [${" ".repeat(size - 100)}`),
    text(`{"fields": [${"[".repeat(100_000)}`),
    Buffer.alloc(size, 0x44),
    v2Binary(
      0xd,
      Array.from({ length: 4000 }, () => E7500[0]!),
    ),
  ];
  for (const input of slow) {
    try {
      exercise(input);
    } catch (error) {
      expect(error).toBeInstanceOf(GuestcoreError);
    }
  }
  expect((cpuTime() - began) / 1000).toBeLessThan(10);
});
