// node bench/codec.mjs [CORE] [--pages N] [--rounds N]: how fast pages are compressed and decompressed by each
// implementation, on real pages: those of an ELF core, or of the qemu process in samples/. What is not installed is left
// out. CPU time, the best of several rounds that alternate.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { IMPLEMENTATIONS } from "../dist/codec/pages.js";
import { MIB, PAGE, realPages } from "./dumps.mjs";
import { table } from "./measure.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { pages: { type: "string", default: "3000" }, rounds: { type: "string", default: "7" } },
});
const folder = mkdtempSync(join(tmpdir(), "guestcore-bench-"));
process.once("exit", () => rmSync(folder, { recursive: true, force: true }));

const bytes = await realPages(folder, Number(values.pages), positionals[0]);
const pages = Array.from({ length: bytes.length / PAGE }, (_, i) => bytes.subarray(i * PAGE, (i + 1) * PAGE));
const output = Buffer.alloc(PAGE);

/** The pages as a dump stores them; undefined where one does not shrink. */
const packAll = ({ pack }) =>
  pages.map((page) => {
    const size = pack(page, output);
    return size === undefined ? undefined : Buffer.from(output.subarray(0, size));
  });

const jobs = [];
for (const [compression, implementations] of Object.entries(IMPLEMENTATIONS)) {
  const loaded = implementations.map(({ name, load }) => ({ name, codec: load() }));
  const packer = loaded.find(({ codec }) => codec?.pack !== undefined);
  if (packer === undefined) console.log(`${compression}: nothing here compresses it`);
  for (const { name, codec } of packer === undefined ? [] : loaded) {
    if (codec === undefined) {
      console.log(`${compression} by ${name}: not available`);
      continue;
    }
    const packed = packAll(codec.pack === undefined ? packer.codec : codec);
    const size = packed.reduce((sum, block) => sum + (block?.length ?? PAGE), 0);
    const blocks = packed.flatMap((block, i) => (block === undefined ? [] : [[block, pages[i]]]));
    if (blocks.some(([block, page]) => codec.unpack(block, output) !== PAGE || !output.equals(page))) {
      throw new Error(`${compression} by ${name}: a page is not what it was`);
    }
    jobs.push({
      compression,
      name,
      codec,
      blocks,
      ratio: codec.pack && size / bytes.length,
      pack: [],
      unpack: [],
    });
  }
}

/** Seconds of CPU time for each of the items. */
function seconds(items, work) {
  const began = process.cpuUsage();
  for (const item of items) work(item);
  const { user, system } = process.cpuUsage(began);
  return (user + system) / 1e6 / items.length;
}

for (let round = 0; round < Number(values.rounds); round++) {
  for (const { codec, blocks, pack, unpack } of jobs) {
    unpack.push(seconds(blocks, ([block]) => codec.unpack(block, output)));
    if (codec.pack !== undefined) pack.push(seconds(pages, (page) => codec.pack(page, output)));
  }
}

const rate = (times) => (times.length === 0 ? "–" : (PAGE / MIB / Math.min(...times)).toFixed(0));
const micros = (times) => (times.length === 0 ? "–" : (Math.min(...times) * 1e6).toFixed(1));
console.log(
  `${pages.length} pages of ${positionals[0] ?? "a qemu process"}, MiB/s and µs a page of CPU time`,
);
console.log(
  table([
    ["", "compressed to", "compress", "µs", "decompress", "µs"],
    ...jobs.map(({ compression, name, ratio, pack, unpack }) => [
      `${compression} by ${name}`,
      ratio === undefined ? "–" : `${(100 * ratio).toFixed(1)} %`,
      rate(pack),
      micros(pack),
      rate(unpack),
      micros(unpack),
    ]),
  ]),
);
