import { expect, test } from "vitest";
import { openProcessCore } from "../src/dump/process-core.ts";
import { wordScanner } from "../src/qemu/scan.ts";
import { MemorySource } from "./support/memory-io.ts";
import { buildElf } from "./synth/elf.ts";

test("one buffer serves every range, and each word is seen where it is", async () => {
  const vaddrs = [0x1000, 0x3000, 0x8000];
  const segments = vaddrs.map((vaddr) => {
    const bytes = Buffer.alloc(4096);
    bytes.writeUInt32LE(vaddr, 8);
    return { type: 1, flags: 6, vaddr, bytes };
  });
  const image = openProcessCore(new MemorySource(buildElf({ segments })));
  const seen: { address: number; word: number | undefined; count: number; buffer: ArrayBufferLike }[] = [];
  const scan = wordScanner(image, 64, (words, address) => {
    seen.push({ address, word: words[2], count: words.length, buffer: words.buffer });
  });
  for (const range of [...image.mappings, { start: 0x2_0000, end: 0x3_0000 }]) await scan(range);
  expect(seen).toMatchObject(vaddrs.map((vaddr) => ({ address: vaddr, word: vaddr, count: 1024 })));
  expect(new Set(seen.map(({ buffer }) => buffer)).size).toBe(1);
});
