import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { resultPath } from "./extracted.ts";
import { parseGdbRegisters, parseInfoRegisters, userRegisters } from "./registers.ts";
import { guestcore, repository, runWell, testWith } from "./tools.ts";
import { compareMemory, VmcoreFile } from "./vmcore-file.ts";

// The first command of a first-time user, judged like every other core.
const samples = join(repository, "samples");
const out = () => resultPath("nano-pc.vmcore");
const truth = parseInfoRegisters(readFileSync(join(samples, "nano-pc.registers.txt"), "utf8"));

test("the shipped core becomes a vmcore", () => {
  const { status, stdout, stderr } = guestcore("extract", join(samples, "nano-pc.core.zst"), "-o", out());
  expect(stderr).toBe("");
  expect(status).toBe(0);
  expect(stdout).toContain("rip 0000000000007d10");
  expect(stdout).toContain(out());
});

testWith(["zstd"], "the shipped core's memory is what QEMU dumped", () => {
  const dump = resultPath("nano-pc.dump.elf");
  runWell("zstd", ["-q", "-d", "-f", "-o", dump, join(samples, "nano-pc.dump.elf.zst")]);
  const files = [new VmcoreFile(dump), new VmcoreFile(out())] as const;
  const { pages, different, absent, beyond } = compareMemory(...files);
  for (const file of files) file.close();
  expect(pages).toBeGreaterThanOrEqual(2048);
  expect({ different, absent, beyond }).toEqual({ different: [], absent: [], beyond: [] });
});

testWith(["gdb"], "the shipped core's registers are in gdb", () => {
  const quiet = ["-nx", "-batch", "-iex", "set debuginfod enabled off"];
  const { stdout } = runWell("gdb", [...quiet, "-core", out(), "-ex", "thread apply all info registers"]);
  const [registers, ...more] = parseGdbRegisters(stdout);
  expect(more).toEqual([]);
  for (const name of userRegisters) {
    if (registers!.has(name)) expect(registers!.get(name), name).toBe(truth[0]!.get(name));
  }
  expect(registers!.get("rax")).toBe(0x1122334455667788n);
});

testWith(["readelf"], "readelf -a reads it without a word on stderr", () => {
  expect(runWell("readelf", ["-a", "-W", out()]).stderr).toBe("");
});
