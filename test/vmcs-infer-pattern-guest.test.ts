import { spawnSync } from "node:child_process";
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { Command } from "commander";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { vmcsLayoutCommand } from "../src/cli/commands/vmcs-layout.ts";
import { withDescendants } from "../src/cli/subcommands.ts";
import { GuestcoreError } from "../src/core/errors.ts";
import { extract } from "../src/jobs/extract.ts";
import { listGuests } from "../src/jobs/guests.ts";
import { openHostKernel } from "../src/jobs/host-kernel.ts";
import { type InferResult, inferHostLayout } from "../src/jobs/infer-layout.ts";
import { openInput } from "../src/jobs/input.ts";
import { openVmcsInfo } from "../src/jobs/vmcsinfo.ts";
import { knownVmcs } from "../src/kvm/known-vmcs.ts";
import { kvmVms } from "../src/kvm/vms.ts";
import type { KnownRegion } from "../src/vmx/infer/claims.ts";
import { inferLayout } from "../src/vmx/infer/infer.ts";
import { VMCS_LAYOUTS } from "../src/vmx/layouts.ts";
import { quiet } from "./support/memory-io.ts";
import { mutantOf } from "./support/mutants.ts";
import { readVmcore } from "./support/read-vmcore.ts";
import { type Places, placesIn, relaid, reversed } from "./support/relayout.ts";
import { FakeTerminal } from "./support/terminal.ts";

/**
 * A real KVM host's vmcore with all of the kernel's data, and where its processor keeps the fields, measured on it by
 * other software; and the same with its VMCSs in another layout.
 */
const DATA = join(
  process.env.GUESTCORE_DATA ?? join(import.meta.dirname, "../../shared/data"),
  "vmx/pattern-guest",
);
const PACKED = join(DATA, "vmcore.elf.zst");
const zstd = spawnSync("zstd", ["--version"]).status === 0;
const skipped = !existsSync(PACKED) ? `no ${PACKED}` : zstd ? undefined : "no zstd command";
const REVISION = 0x11e57ed0;

describe.skipIf(skipped !== undefined)(
  `pattern-guest${skipped === undefined ? "" : ` (skipped: ${skipped})`}`,
  () => {
    const directory = mkdtempSync(join(tmpdir(), "guestcore-infer-"));
    afterAll(() => rmSync(directory, { recursive: true }));
    const at = (name: string): string => join(directory, name);
    const truth = (name: string): string =>
      skipped === undefined ? readFileSync(join(DATA, "truth", name), "latin1") : "";
    const original = placesIn(truth("vmcsinfo.txt"));
    const other = reversed(original, 0x18);

    beforeAll(() => {
      spawnSync("zstd", ["-dq", "--long=27", PACKED, "-o", at("original.elf")]);
      copyFileSync(at("original.elf"), at("other.elf"));
      const addresses = [...truth("vmcsdump.txt").matchAll(/^vmcs pa=(0x[0-9a-f]+)/gm)].map(([, pa]) =>
        Number(pa),
      );
      for (const offset of fileOffsets(at("other.elf"), addresses))
        rewrite(at("other.elf"), offset, original, other);
    }, 60_000);

    const infer = (name: string, options: { readonly onlyCertain?: boolean } = {}): Promise<InferResult> =>
      inferHostLayout(
        at(`${name}.elf`),
        { output: at(`${name}.txt`), to: "table", onlyCertain: false, force: true, ...options },
        quiet,
        () => "",
      );

    describe.each([
      ["original", original, 0x2b, "rotated"],
      ["other", other, REVISION, "packed"],
    ] as const)("%s layout", (name, places, revision, form) => {
      test("every place is right, and most fields have one", async () => {
        const { inferred } = await infer(name);
        expect(inferred).toMatchObject({ revisionId: revision, accessRights: form, used: 4, leftOut: 0 });
        const placed = inferred.fields.filter(({ offset }) => offset !== undefined);
        const wrong = placed.filter(({ encoding, offset }) => places.get(encoding)?.offset !== offset);
        expect(wrong).toEqual([]);
        expect(placed.filter(({ verdict }) => verdict === "certain").length).toBeGreaterThanOrEqual(27);
        expect(placed.length).toBeGreaterThanOrEqual(85);
        for (const { encoding, places: open } of inferred.fields.filter(
          ({ verdict }) => verdict === "ambiguous",
        )) {
          expect(open).toContain(places.get(encoding)?.offset);
        }
      }, 60_000);

      test("what is written is VMCSINFO that describes it", async () => {
        const { inferred } = await infer(name);
        const { info } = await openVmcsInfo(at(`${name}.txt`), {}, quiet);
        expect(info.revisionId).toBe(revision);
        expect(info.accessRights?.form).toBe(form);
        expect(info.problems).toEqual([]);
        expect(info.records.length).toBe(inferred.fields.filter(({ offset }) => offset !== undefined).length);
      }, 60_000);

      test("and with it the guest is the same as with what was measured", async () => {
        await infer(name);
        const expected = await extracted(
          at("original.elf"),
          join(DATA, "truth/vmcsinfo.txt"),
          at("expected.vmcore"),
        );
        const found = await extracted(at(`${name}.elf`), at(`${name}.txt`), at("found.vmcore"));
        expect(found.states).toEqual(expected.states);
        expect(found.memory.equals(expected.memory)).toBe(true);
      }, 60_000);

      test("by what is certain alone registers that the rest tells are KVM's, or said to be unknown", async () => {
        await infer(name, { onlyCertain: true });
        const expected = await extracted(
          at("original.elf"),
          join(DATA, "truth/vmcsinfo.txt"),
          at("expected.vmcore"),
        );
        const found = await extracted(at(`${name}.elf`), at(`${name}.txt`), at("found.vmcore"));
        expect(found.memory.equals(expected.memory)).toBe(true);
        for (const [i, state] of found.states.entries()) {
          const { rip, rsp, cr0, cr3, cr4, rax, rdi, r15, cr2, efer } = expected.states[i]!;
          expect(state).toMatchObject({ rip, rsp, cr0, cr3, cr4, rax, rdi, r15, cr2, efer });
          expect(found.caveats[i]?.[0]).toMatch(/^where the VMCS has .*RFLAGS is not known: 0 in the notes$/);
        }
      }, 60_000);
    });

    test("in every layout known nothing that has a place is wrong, by one VMCS or by all", async () => {
      const regions = await knownRegions(at("original.elf"));
      expect(regions).toHaveLength(4);
      const layouts = VMCS_LAYOUTS.filter(({ fields }) => fields.size > 100);
      expect(layouts.length).toBeGreaterThanOrEqual(10);
      let certain = 0;
      for (const { name: layout, fields, accessRights: form = "plain" } of layouts) {
        const places: Places = new Map(
          [...fields]
            .filter(([encoding]) => encoding % 2 === 0)
            .map(([encoding, offset]) => [encoding, { offset, form }]),
        );
        const all = regions.map((region) => ({
          ...region,
          bytes: relaid(Buffer.from(region.bytes), original, places, 0x77),
        }));
        for (const some of [all, ...all.map((region) => [region]), all.slice(1, 3)]) {
          const found = inferLayout(some, true)?.fields ?? [];
          const placed = found.filter(({ offset }) => offset !== undefined);
          const wrong = placed.filter(({ encoding, offset }) => places.get(encoding)?.offset !== offset);
          expect([layout, some.length, wrong]).toEqual([layout, some.length, []]);
          certain += placed.filter(({ verdict }) => verdict === "certain").length;
          if (some === all) expect(placed.length).toBeGreaterThanOrEqual(60);
        }
      }
      expect(certain).toBeGreaterThan(1000);
    }, 120_000);

    test("the command: text for people, JSON that is a layout again", async () => {
      const output = at("command.json");
      const { out } = await run("infer", at("other.elf"), "-o", output, "--to", "json", "--force");
      expect(out).toMatch(
        /: layout of revision 0x11e57ed0, inferred from 4 VMCSs of 1 VM of Linux 6\.1\.0-56/,
      );
      expect(out).toMatch(
        /^ {2}0x[0-9a-f]{3} +0x6c16 +HOST_RIP +certain +the only place that holds vmx_vmexit, /m,
      );
      expect(out).toContain(`next: guestcore extract ${at("other.elf")} --vmcsinfo ${output}`);
      const { info } = await openVmcsInfo(output, {}, quiet);
      expect(info.records.find(({ encoding }) => encoding === 0x6c16)?.certainty).toBe("certain");
      const json = await run("infer", at("other.elf"), "--json");
      const { result } = validated(json.out);
      expect(result.inference).toEqual({ vms: 1, vcpus: 4, used: 4, leftOut: 0 });
      writeFileSync(at("result.json"), json.out);
      const again = await openVmcsInfo(at("result.json"), {}, quiet);
      expect(again.info.records.length).toBe(info.records.length);
      await expect(run("infer", at("other.elf"), "--json", "-o", "-")).rejects.toThrow(/standard output/);
    }, 60_000);

    test("damaged structures of KVM: a reason, or a layout in which what is certain is right", async () => {
      const structures = [...truth("vmcsdump.txt").matchAll(/^0x2008 (0x[0-9a-f]+)/gm)].map(([, at]) =>
        Number(at),
      );
      const pages = structures.flatMap((address) =>
        [-2, -1, 0].map((i) => (Math.floor(address / 4096) + i) * 4096),
      );
      const offsets = fileOffsets(at("original.elf"), pages);
      let placed = 0;
      for (let seed = 0; seed < 12; seed++) {
        copyFileSync(at("original.elf"), at("mutant.elf"));
        for (const offset of offsets) damage(at("mutant.elf"), offset, seed);
        const found = await infer("mutant").catch((error: unknown) => {
          if (error instanceof GuestcoreError) return undefined;
          throw error;
        });
        for (const { encoding, offset, verdict } of found?.inferred.fields ?? []) {
          if (verdict !== "certain") continue;
          placed++;
          expect([seed, encoding, offset]).toEqual([seed, encoding, original.get(encoding)?.offset]);
        }
      }
      expect(placed).toBeGreaterThan(100);
    }, 120_000);

    test("guests of a host whose VMCSs are in no known layout: a hint", async () => {
      const { guests, warnings } = await listGuests(at("other.elf"), {}, quiet);
      expect(guests).toHaveLength(1);
      expect(guests[0]!.vcpus).toHaveLength(4);
      const hint = warnings.find(({ code }) => code === "VMI012");
      expect(hint?.message).toContain("0x11e57ed0");
      expect(hint?.hint).toContain("guestcore vmcs layout infer");
      const known = await listGuests(at("original.elf"), {}, quiet);
      expect(known.warnings.filter(({ code }) => code === "VMI012")).toEqual([]);
    }, 60_000);

    test("a dump without the kernel's own data: why it cannot be done", async () => {
      const reduced = join(DATA, "vmcore.reduced.elf.zst");
      const options = { output: undefined, to: "table", onlyCertain: false, force: false } as const;
      await expect(
        inferHostLayout(reduced, options, { ...quiet, temporaryDirectories: [directory] }, () => ""),
      ).rejects.toThrow(/^.*the host's kernel does not tell what is in its VMCSs: .+/);
    }, 60_000);

    async function extracted(input: string, vmcsinfo: string, output: string) {
      const { guest } = await extract(
        {
          input,
          output,
          guest: 1,
          ram: new Map(),
          layout: undefined,
          format: "elf",
          vaddr: "none",
          dryRun: false,
          force: true,
          keepPartial: false,
          host: { vmcsinfo },
        },
        quiet,
      );
      const { loads } = readVmcore(readFileSync(output));
      return {
        caveats: guest.vcpus.map(({ caveats }) => caveats ?? []),
        states: guest.vcpus.map(({ state }) => state),
        memory: Buffer.concat(loads.map(({ bytes }) => bytes)),
      };
    }
  },
);

/** What KVM knows of the VMCSs of a host. */
async function knownRegions(path: string): Promise<KnownRegion[]> {
  const input = await openInput(path, quiet);
  const { kernel } = await openHostKernel(input, {}, () => {}, quiet);
  const vcpus = (await kvmVms(kernel!)).vms.flatMap((vm) => vm.vcpus);
  const regions = vcpus.map((vcpu) => knownVmcs(kernel!, vcpu)!);
  input.close();
  return regions;
}

async function run(...argv: string[]) {
  const terminal = new FakeTerminal();
  const vmcs = new Command("vmcs");
  vmcsLayoutCommand(vmcs, terminal);
  for (const command of withDescendants(vmcs)) {
    command.exitOverride().configureOutput({ writeErr: () => {}, outputError: () => {} });
  }
  await vmcs.parseAsync(["layout", ...argv], { from: "user" });
  return { out: terminal.out, err: terminal.err };
}

const schemas = join(import.meta.dirname, "../schema");
function validated(json: string) {
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  for (const name of readdirSync(schemas)) {
    ajv.addSchema(JSON.parse(readFileSync(join(schemas, name), "utf8")));
  }
  const document = JSON.parse(json);
  const validate = ajv.getSchema("vmcs-layout.json");
  expect(validate?.(document), JSON.stringify(validate?.errors)).toBe(true);
  return document;
}

/** Changes some words of a page, as the seed says. */
function damage(path: string, offset: number, seed: number): void {
  const page = Buffer.alloc(4096);
  const file = openSync(path, "r+");
  readSync(file, page, 0, page.length, offset);
  const bytes = mutantOf(page, seed * 31 + (offset % 65_521), 4 + 8 * (seed % 4), (chance) =>
    chance.below(4089),
  );
  writeSync(file, bytes, 0, bytes.length, offset);
  closeSync(file);
}

/** Every place in an ELF file where the page of an address is. */
function fileOffsets(path: string, addresses: readonly number[]): number[] {
  const file = openSync(path, "r");
  const headers = Buffer.alloc(65_536);
  readSync(file, headers, 0, headers.length, 0);
  closeSync(file);
  const [phoff, count] = [Number(headers.readBigUInt64LE(32)), headers.readUInt16LE(56)];
  return Array.from({ length: count }, (_, i) => phoff + 56 * i).flatMap((at) => {
    if (headers.readUInt32LE(at) !== 1) return [];
    const word = (offset: number) => Number(headers.readBigUInt64LE(at + offset));
    const [offset, paddr, size] = [word(8), word(24), word(32)];
    return addresses
      .filter((address) => address >= paddr && address < paddr + size)
      .map((address) => offset + address - paddr);
  });
}

function rewrite(path: string, offset: number, from: Places, to: Places): void {
  const file = openSync(path, "r+");
  const page = Buffer.alloc(4096);
  readSync(file, page, 0, page.length, offset);
  writeSync(file, relaid(page, from, to, REVISION), 0, page.length, offset);
  closeSync(file);
}
