import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { extract } from "../src/jobs/extract.ts";
import { openInput } from "../src/jobs/input.ts";
import { extractText } from "../src/report/extract.ts";
import { quiet } from "./support/memory-io.ts";
import { physicalAt, prstatusRegisters, readVmcore } from "./support/read-vmcore.ts";
import { schemas } from "./support/schemas.ts";

/** The shipped core of a real qemu process, judged by QEMU's own dump and registers of the same moment. */
const root = join(import.meta.dirname, "..");
const sample = (name: string) => join(root, "samples", name);
const guestcore = (...args: string[]) =>
  spawnSync(process.execPath, [join(root, "bin/guestcore.js"), ...args], { cwd: folder, encoding: "utf8" });
const SCHEMAS = schemas();

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "guestcore-test-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** QEMU's dump, unpacked and read with a reader that shares nothing with src/. */
async function qemuDump(): Promise<{ start: number; bytes: Buffer }[]> {
  const input = await openInput(sample("nano-pc.dump.elf.zst"), quiet);
  const file = Buffer.alloc(input.source.size);
  input.source.read(0, file);
  input.close();
  // QEMU 7.2 puts section headers first: program headers are where e_phoff says, e_ehsize is 8.
  const phoff = Number(file.readBigUInt64LE(32));
  const ranges: { start: number; bytes: Buffer }[] = [];
  for (let i = 0; i < file.readUInt16LE(56); i++) {
    const at = phoff + 56 * i;
    if (file.readUInt32LE(at) !== 1) continue;
    const [offset, start, size] = [8, 24, 32].map((field) => Number(file.readBigUInt64LE(at + field)));
    ranges.push({ start: start!, bytes: file.subarray(offset!, offset! + size!) });
  }
  return ranges;
}

describe("samples/nano-pc", () => {
  test("memory and registers equal what QEMU itself dumped", async () => {
    const out = join(folder, "nano.vmcore");
    const run = guestcore("extract", sample("nano-pc.core.zst"), "-o", out);
    expect(run.stderr).toBe("");
    expect(run.status).toBe(0);
    const vmcore = readVmcore(readFileSync(out));
    const truth = await qemuDump();
    expect(truth.map(({ start, bytes }) => [start, bytes.length])).toEqual([
      [0, 8 * 2 ** 20],
      [0xfffc_0000, 256 * 1024],
    ]);
    for (const { start, bytes } of truth) {
      expect(physicalAt(vmcore, start, bytes.length)?.equals(bytes), start.toString(16)).toBe(true);
    }
    const registers = prstatusRegisters(vmcore.notes.find(({ name }) => name === "CORE")!.desc);
    const printed = readFileSync(sample("nano-pc.registers.txt"), "latin1");
    const names = { RFL: "rflags" } as Record<string, string>;
    const pairs = [...printed.matchAll(/\b(R[A-Z0-9]{1,2}|RFL)\s*=([0-9a-f]{8,16})/g)];
    expect(pairs.length).toBe(18);
    for (const [, name, value] of pairs) {
      expect(registers[names[name!] ?? name!.toLowerCase()], name).toBe(BigInt(`0x${value}`));
    }
    const mode = statSync(out).mode & 0o777;
    expect(mode).toBe(0o600);
    expect(statSync(out).blocks * 512).toBeLessThan(2 * 2 ** 20);
    expect(readdirSync(folder)).toEqual(["nano.vmcore"]);
  });

  test("the summary", async () => {
    const result = await extract(
      {
        input: sample("nano-pc.core.zst"),
        output: undefined,
        format: "elf",
        vaddr: "direct-map",
        ram: new Map(),
        layout: undefined,
        dryRun: true,
        force: false,
        keepPartial: false,
      },
      quiet,
    );
    expect(extractText(result, 0.1).replaceAll(root, ".")).toMatchSnapshot();
  });

  const runs = [
    ["extract", sample("nano-pc.core.zst"), "--dry-run"],
    ...["elf", "kdump", "flat", "raw", "lime"].flatMap((format) => [
      ["extract", sample("nano-pc.core.zst"), "--format", format, "-o", `extracted.${format}`],
      ["convert", sample("nano-pc.dump.elf.zst"), `converted.${format}`, "--format", format],
    ]),
    ["verify", sample("nano-pc.dump.elf.zst")],
    ["dmesg", sample("nano-pc.dump.elf.zst")],
    ["info", sample("nano-pc.core.zst")],
    ["info", sample("nano-pc.dump.elf.zst")],
    ["info", sample("README.md")],
    ["extract", sample("README.md"), "-o", "never"],
    ["extract", sample("kvm-host.vmcore.zst"), "--dry-run"],
    ["guests", sample("kvm-host.vmcore.zst")],
    ["vmcs", "list", sample("kvm-host.vmcore.zst")],
    ["vmcs", "show", sample("kvm-host.vmcore.zst"), "1:2"],
    ["vmcs", "show", sample("kvm-host.vmcore.zst"), "0x12e2c000"],
    ["vmcs", "diff", sample("kvm-host.vmcore.zst"), "1:0", "1:3"],
    ["vmcsinfo", "show", sample("kvm-host.vmcore.zst")],
  ];
  test.each(runs.map((args) => ({ command: args.join(" ").replaceAll(sample(""), ""), args })))(
    "JSON of $command is what its schema says",
    ({ args }) => {
      const output = JSON.parse(guestcore(...args, "--json").stdout);
      const validate = SCHEMAS.getSchema(`${String(output.schema).split("/")[1]}.json`);
      expect(validate, output.schema).toBeDefined();
      expect(validate!(output), JSON.stringify(validate!.errors?.slice(0, 3))).toBe(true);
    },
  );

  test("what is not the core of a process is named, with what to do", () => {
    const vmcore = guestcore("extract", sample("nano-pc.dump.elf.zst"), "-o", join(folder, "never"));
    expect(vmcore.status).toBe(5);
    expect(vmcore.stderr).toMatch(
      /no guest was found in this vmcore\n +hint: a guest's own vmcore opens as it is/,
    );
    const text = guestcore("extract", sample("README.md"), "-o", join(folder, "never"));
    expect(text.status).toBe(3);
    expect(text.stderr).toMatch(/not the core of a process: text/);
    expect(existsSync(join(folder, "never"))).toBe(false);
  });

  test("readelf reads the vmcore without complaint", (context) => {
    if (spawnSync("readelf", ["--version"]).error !== undefined) context.skip("readelf is not installed");
    const out = join(folder, "readelf.vmcore");
    expect(guestcore("extract", sample("nano-pc.core.zst"), "-o", out).status).toBe(0);
    const run = spawnSync("readelf", ["-aW", out], { encoding: "utf8" });
    expect(run.stderr).toBe("");
    expect(execFileSync("readelf", ["-nW", out], { encoding: "utf8" })).toMatch(/NT_PRSTATUS/);
    rmSync(out);
  });
});
