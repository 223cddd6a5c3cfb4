import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { FileSource } from "../src/io/file.ts";
import { type StreamOutcome, unpackedChunks } from "../src/io/unpacked-stream.ts";

const zstd = spawnSync("zstd", ["--version"]).error === undefined;

test.skipIf(!zstd).each([
  ["-1", [] as string[]],
  ["--long=27", ["--long=27"]],
])("zstd %s gives the same bytes (skipped without zstd)", async (_, options) => {
  const folder = mkdtempSync(join(tmpdir(), "guestcore-unpacked-"));
  try {
    // The second half is in the first, further back than the decoder remembers.
    const half = randomBytes(9 * 2 ** 20);
    const all = Buffer.concat([half, half]);
    const plain = join(folder, "plain");
    writeFileSync(plain, all);
    spawnSync("zstd", ["-q", "-1", ...options, plain, "-o", join(folder, "packed")]);
    const file = FileSource.open(join(folder, "packed"));
    const outcome: StreamOutcome = { size: 0, warning: undefined };
    const context = {
      progress: { start: () => {}, update: () => {}, finish: () => {} },
      warn: () => {},
      checkpoint: async () => {},
      temporaryDirectories: [folder],
    };
    const chunks: Buffer[] = [];
    for await (const chunk of unpackedChunks(file, "zstd", outcome, context)) chunks.push(Buffer.from(chunk));
    file.close();
    expect(Buffer.concat(chunks).equals(all)).toBe(true);
    expect(outcome).toEqual({ size: all.length, warning: undefined });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
