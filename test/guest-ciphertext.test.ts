import { createCipheriv } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { SegmentMemory, segmentsOf } from "../src/dump/segment-memory.ts";
import { looksEncrypted } from "../src/guest/ciphertext.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { buildElf } from "./synth/elf.ts";

const PAGE = 4096;
const MIB = 2 ** 20;

/** A memory as AES-XTS-like encryption leaves it: a counter for each block, so that equal pages differ. */
const encrypted = (plain: Buffer): Buffer =>
  createCipheriv("aes-128-ctr", Buffer.alloc(16, 7), Buffer.alloc(16)).update(plain);
const words = Buffer.from("the quick brown fox ".repeat(PAGE)).subarray(0, PAGE);
const plain = (size: number): Buffer => Buffer.alloc(size, Buffer.concat([words, Buffer.alloc(PAGE)]));

const memoryOf = (bytes: Buffer): SegmentMemory => {
  const source = {
    name: "m",
    size: bytes.length,
    read: (at: number, into: Uint8Array) => bytes.copy(into, 0, at),
  };
  return new SegmentMemory(source, segmentsOf([{ start: 0, end: bytes.length, offset: 0 }]));
};

test("ciphertext is told from what machines have in their memory", () => {
  expect(looksEncrypted(memoryOf(encrypted(plain(MIB))))).toBe(true);
  expect(looksEncrypted(memoryOf(plain(MIB)))).toBe(false);
  expect(looksEncrypted(memoryOf(Buffer.alloc(MIB)))).toBe(false);
  const half = Buffer.concat([encrypted(plain(MIB)), plain(MIB)]);
  expect(looksEncrypted(memoryOf(half))).toBe(false);
  expect(looksEncrypted(memoryOf(encrypted(plain(16 * PAGE))))).toBe(false);
});

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ciphertext-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

test("triage says so of a dump in which it finds no kernel", async () => {
  const path = join(folder, "sev.vmcore");
  const notes = Buffer.alloc(0);
  writeFileSync(
    path,
    buildElf({ notes, segments: [{ paddr: 0, vaddr: 0, bytes: encrypted(plain(2 * MIB)) }] }),
  );
  const terminal = new FakeTerminal();
  expect(await main(["triage", "dump", path, "--json"], terminal)).toBe(0);
  const { warnings } = JSON.parse(terminal.out);
  expect(warnings.map(({ code }: { code: string }) => code)).toContain("GST011");
});
