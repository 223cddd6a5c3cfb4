import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { recognise } from "../src/jobs/triage-artefact.ts";
import { detect, KernelLog, kinds } from "./support/triage-console.ts";

const LOG = `${new KernelLog().boot().oops("foo_write", "caf\u00e9").panic()}`.replaceAll("\n", "\r\n");
const LE = Buffer.from(`\ufeff${LOG}`, "utf16le");
const ENCODED: [string, Buffer][] = [
  ["UTF-16, little-endian", LE],
  ["UTF-16, big-endian", Buffer.from(LE).swap16()],
  ["UTF-8 with a mark", Buffer.from(`\ufeff${LOG}`)],
];

test.each(ENCODED)("%s", (_, bytes) => {
  for (const piece of [1, 7, 4096]) {
    const report = detect(bytes, piece);
    expect(kinds(report)).toEqual(["null-deref/panic"]);
    expect(report.findings[0]!.details).toMatchObject({ comm: "caf\u00e9", guilty: "foo_write" });
    expect(report.boots).toMatchObject([{ number: 1, release: "6.1.0-1-amd64" }]);
  }
});

test("marks alone, halves of characters, and no mark", () => {
  for (const bytes of [[0xff], [0xff, 0xfe], [0xfe, 0xff, 0xd8], [0xef, 0xbb, 0xbf], []])
    expect(detect(Uint8Array.from(bytes)).findings).toEqual([]);
  expect(kinds(detect(Buffer.from(`a\n${LOG}`)))).toEqual(["null-deref/panic"]);
});

test.each(ENCODED)("%s is recognised by its text", async (_, bytes) => {
  const folder = mkdtempSync(join(tmpdir(), "guestcore-"));
  try {
    writeFileSync(join(folder, "x.bin"), bytes);
    const file = { path: join(folder, "x.bin"), within: ["x.bin"] };
    expect(await recognise(file as never)).toMatchObject({ kind: "console" });
    writeFileSync(file.path, Buffer.from("\ufeffno log at all", "utf16le"));
    expect((await recognise(file as never)).kind).toBe("unknown");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
