import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { GuestcoreError } from "../src/core/errors.ts";
import { extract } from "../src/jobs/extract.ts";
import { listGuests } from "../src/jobs/guests.ts";
import { openInput } from "../src/jobs/input.ts";
import { listVmcs, showVmcs } from "../src/jobs/vmcs.ts";
import { extractText } from "../src/report/extract.ts";
import { guestsText } from "../src/report/guests.ts";
import { blockText } from "../src/report/vmcs-block.ts";
import { vmcsListText } from "../src/report/vmcs-list.ts";
import { cpuTime } from "./support/cpu-time.ts";
import { quiet } from "./support/memory-io.ts";
import { physicalAt, readVmcore } from "./support/read-vmcore.ts";

/**
 * Damage to a host's dump where guestcore reads it (notes, VMCSs, EPT) ends in one of our errors or in an answer. A
 * failure names seed and number of the mutant.
 */
const COUNT = Number(process.env.GUESTCORE_MUTANTS ?? 200);
const SEED = Number(process.env.GUESTCORE_SEED ?? 20261125);
const MAX_SECONDS = 20;

const VMCSS = [0x254_9000, 0x25f_f000, 0xf13_9000, 0x12f4_2000];
const EPT_ROOT = 0x12e2_2000;

const folder = mkdtempSync(join(tmpdir(), "guestcore-host-mutants-"));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, "host");
let file = Buffer.alloc(0);
/** File offsets of the pages that matter, and the end of the headers. */
let pages: number[] = [];

beforeAll(async () => {
  const input = await openInput(join(import.meta.dirname, "../samples/kvm-host.vmcore.zst"), quiet);
  file = Buffer.alloc(input.source.size);
  input.source.read(0, file);
  input.close();
  writeFileSync(path, file);
  const core = readVmcore(readFileSync(path));
  const offsetOf = (at: number): number => {
    const page = physicalAt(core, at, 4096);
    if (page === undefined) throw new Error(`no page at ${at.toString(16)}`);
    return page.byteOffset - core.file.byteOffset;
  };
  // The tables that the walk reads, three levels below the root.
  const tables = [EPT_ROOT];
  for (let level = 0, from = 0; level < 3; level++) {
    const end = tables.length;
    for (; from < end; from++) {
      const table = physicalAt(core, tables[from]!, 4096)!;
      for (let at = 0; at < 4096; at += 8) {
        const entry = table.readBigUInt64LE(at);
        if ((entry & 7n) !== 0n && (entry & 0x80n) === 0n) tables.push(Number(entry & 0xf_ffff_ffff_f000n));
      }
    }
  }
  pages = [...VMCSS, ...tables].map(offsetOf);
});

/** Numbers by a linear congruential generator, so that a mutant can be made again. */
function random(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

const INTERESTING = [0x00, 0x01, 0x07, 0x1e, 0x7f, 0x80, 0xff];

async function survives(name: string): Promise<"answer" | "error"> {
  const began = cpuTime();
  let outcome: "answer" | "error" = "answer";
  try {
    const texts = [
      vmcsListText(await listVmcs(path, {}, quiet), true),
      guestsText(await listGuests(path, {}, quiet)),
      ...(await showVmcs(path, ["0x2549000"], {}, quiet)).shown.map((shown) =>
        blockText(shown, { bytes: true, all: true }),
      ),
      extractText(
        await extract(
          {
            input: path,
            output: undefined,
            format: "elf",
            vaddr: "direct-map",
            ram: new Map(),
            layout: undefined,
            dryRun: true,
            force: false,
            keepPartial: false,
            guest: 1,
          },
          quiet,
        ),
        0,
      ),
    ];
    for (const text of texts) expect(text, name).not.toMatch(/undefined|NaN|\[object|Infinity/);
  } catch (error) {
    if (!(error instanceof GuestcoreError)) throw new Error(`${name}: ${String(error)}`, { cause: error });
    expect(error.message, name).not.toMatch(/undefined|NaN|\[object/);
    outcome = "error";
  }
  expect((cpuTime() - began) / 1000, name).toBeLessThan(MAX_SECONDS);
  return outcome;
}

test(`${COUNT} mutants of seed ${SEED}`, { timeout: 900_000 }, async () => {
  const outcomes = { answer: 0, error: 0 };
  const fd = openSync(path, "r+");
  for (let number = 0; number < COUNT; number++) {
    const next = random(SEED + number);
    const places: number[] = [];
    for (let i = 0; i < 1 + next(12); i++) {
      // A third each in the headers and notes, in a VMCS or table, and a whole word of one.
      const kind = next(3);
      const page = pages[next(next(2) === 0 ? VMCSS.length : pages.length)]!;
      const at = kind === 0 ? next(0x2000) : page + 8 * next(512);
      const length = kind === 2 ? 8 : 1;
      for (let byte = 0; byte < length; byte++) {
        places.push(at + byte);
        writeSync(
          fd,
          Buffer.from([next(2) === 0 ? INTERESTING[next(INTERESTING.length)]! : next(256)]),
          0,
          1,
          at + byte,
        );
      }
    }
    outcomes[await survives(`mutant ${number} of seed ${SEED}`)]++;
    for (const at of places) writeSync(fd, file, at, 1, at);
  }
  closeSync(fd);
  expect(outcomes.answer).toBeGreaterThan(0);
  expect(outcomes.error).toBeGreaterThan(0);
});
