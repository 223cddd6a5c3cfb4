import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GuestcoreError } from "../src/core/errors.ts";
import { inspect } from "../src/jobs/inspect.ts";
import { infoJson, infoText } from "../src/report/info.ts";
import { envelope } from "../src/report/json.ts";
import { cpuTime } from "./support/cpu-time.ts";
import { extractInMemory } from "./support/extract-synth.ts";
import { quiet } from "./support/memory-io.ts";
import { vmcoreinfoNote, vmcoreinfoText } from "./synth/linux-guest.ts";
import { headerMutants, mutants, truncations } from "./synth/pattern.ts";
import { buildQemuCore } from "./synth/qemu.ts";
import { dimm, firmware, longMode, mainRam, seabiosParked, vga } from "./synth/qemu-presets.ts";
import type { QemuSpec } from "./synth/qemu-spec.ts";

/**
 * Damaged cores end in one of our errors or in an answer: never in another exception, never in much memory, never in
 * much time. A failure names seed and number of the mutant.
 */
/**
 * A kernel in the smallest guest there is: VMCOREINFO in one page, tables that map an image and a direct map in five
 * others. Physical 0 to 2 MiB is the image, linked to 16 MiB.
 */
function kernel(): { pages: Record<number, Uint8Array>; root: number } {
  const table = (entries: Readonly<Record<number, number>>) => {
    const page = Buffer.alloc(4096);
    for (const [index, entry] of Object.entries(entries)) page.writeUInt32LE(entry, Number(index) * 8);
    return page;
  };
  const text = vmcoreinfoText({
    "SYMBOL(swapper_pg_dir)": "ffffffff81004000",
    "SYMBOL(_stext)": "ffffffff81000000",
    "NUMBER(phys_base)": String(-0x100_0000),
  });
  const banner = Buffer.alloc(4096);
  banner.write("Linux version 6.1.0-56-amd64 (build@host) #1 SMP", 64);
  return {
    root: 0x4000,
    pages: {
      3: banner,
      4: table({ 272: 0x7003, 511: 0x5003 }),
      5: table({ 510: 0x6003 }),
      6: table({ 8: 0x83 }),
      7: table({ 0: 0x83 }),
      8: vmcoreinfoNote(text),
    },
  };
}

const { pages, root } = kernel();
const onKernelTables = { ...longMode(0), cr3: BigInt(root) };

const SPECS: Readonly<Record<string, QemuSpec>> = {
  "kernel core, QEMU 7.2": {
    blocks: [{ ...mainRam(), pages }, vga(), dimm(), ...firmware()],
    vcpus: [{ registers: onKernelTables }, { registers: seabiosParked(1) }],
  },
  "gcore, QEMU 10.0, q35": { layout: "10.0", machine: "q35", flavour: "gcore" },
  "KVM, QEMU 11.1": { layout: "11.1", accel: "kvm" },
  "kernel core, QEMU 5.2, microvm": {
    layout: "5.2",
    machine: "microvm",
    blocks: [mainRam({ idstr: "microvm.ram" }), ...firmware()],
  },
};

const COUNT = Number(process.env.GUESTCORE_MUTANTS ?? 700);
const SEED = Number(process.env.GUESTCORE_SEED ?? 20261121);
/** A mutant of a core of half a megabyte that takes longer has found a loop; a busy machine is no loop. */
const MAX_SECONDS = 10;
/** Of one mutant; what lists that multiply take is measured in processes of their own (hostile.test.ts). */
const MAX_HEAP_GROWTH = 128 * 2 ** 20;

async function survive(name: string, core: Buffer): Promise<"answer" | "error"> {
  const began = cpuTime();
  const heap = process.memoryUsage.rss();
  let outcome: "answer" | "error" = "answer";
  try {
    const { bytes, plan } = await extractInMemory(core, {}, "elf");
    expect(bytes.length, name).toBe(plan.size);
  } catch (error) {
    if (!(error instanceof GuestcoreError)) throw new Error(`${name}: ${String(error)}`, { cause: error });
    expect(error.exitCode, name).toBeGreaterThan(1);
    expect(error.message, name).not.toMatch(/undefined|NaN|\[object/);
    outcome = "error";
  }
  expect((cpuTime() - began) / 1000, name).toBeLessThan(MAX_SECONDS);
  expect(process.memoryUsage.rss() - heap, name).toBeLessThan(MAX_HEAP_GROWTH);
  return outcome;
}

test("a guest's kernel is described, so that its damage is seen too", async () => {
  const { linux, bytes } = await extractInMemory(buildQemuCore(SPECS["kernel core, QEMU 7.2"]).core);
  expect(linux).toMatchObject({
    release: { value: "6.1.0-56-amd64", source: "VMCOREINFO" },
    pageOffset: { value: 0xffff_8800_0000_0000n, source: "page tables" },
    text: { value: { physical: 0 } },
  });
  expect(bytes.includes("OSRELEASE=6.1.0-56-amd64")).toBe(true);
});

test(`${COUNT} guests whose kernel is damaged`, { timeout: 600_000 }, async () => {
  const { core, truth } = buildQemuCore(SPECS["kernel core, QEMU 7.2"]);
  const ram = truth.blocks.find(({ idstr }) => idstr === "pc.ram")!;
  const start = truth.fileOffset(ram.host)! + 0x3000;
  const part = core.subarray(start, start + 0x6000);
  const damage = fc.array(fc.tuple(fc.nat(part.length - 8), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })), {
    minLength: 1,
    maxLength: 8,
  });
  const property = fc.asyncProperty(damage, async (words) => {
    const damaged = Buffer.from(core);
    for (const [at, word] of words) damaged.writeBigUInt64LE(word, start + at);
    expect(await survive("kernel", damaged)).toBe("answer");
  });
  await fc.assert(property, { seed: SEED, numRuns: COUNT });
});

describe.each(Object.entries(SPECS))("%s", (_name, spec) => {
  const { core, truth } = buildQemuCore(spec);

  test(`${COUNT} mutants of seed ${SEED}`, { timeout: 600_000 }, async () => {
    const outcomes = { answer: 0, error: 0 };
    for (const mutant of mutants(core, SEED, COUNT, truth))
      outcomes[await survive(mutant.name, mutant.core)]++;
    // Both must happen, or the damage is all in places nobody reads, or in places nothing survives.
    expect(outcomes.answer).toBeGreaterThan(0);
    expect(outcomes.error).toBeGreaterThan(0);
  });

  test("info has an answer or one of our errors, in text and JSON", { timeout: 600_000 }, async () => {
    const folder = mkdtempSync(join(tmpdir(), "guestcore-mutants-"));
    try {
      for (const mutant of mutants(core, SEED + 1, Math.ceil(COUNT / 5), truth)) {
        const path = join(folder, "mutant");
        writeFileSync(path, mutant.core);
        try {
          const result = await inspect(path, quiet);
          expect(infoText(result, true), mutant.name).not.toMatch(/undefined|NaN|\[object/);
          JSON.parse(envelope("info", [result.input], result.warnings, infoJson(result)));
        } catch (error) {
          if (!(error instanceof GuestcoreError)) throw new Error(mutant.name, { cause: error });
        }
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("truncated at every interesting boundary", { timeout: 600_000 }, async () => {
    for (const mutant of truncations(core, truth.boundaries)) await survive(mutant.name, mutant.core);
  });
});

test("every header field at every extreme", { timeout: 600_000 }, async () => {
  const { core } = buildQemuCore({ blocks: [mainRam({ above: 0 })] });
  for (const mutant of headerMutants(core)) await survive(mutant.name, mutant.core);
});
