import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type ExtractResult, extract } from "../src/jobs/extract.ts";
import type { LinuxImage } from "../src/kernel/linux.ts";
import { extractJson, extractText } from "../src/report/extract.ts";
import { nextLines, openingCommands } from "../src/report/next.ts";
import type { VmcoreFormat } from "../src/vmcore/plan.ts";
import { quiet } from "./support/memory-io.ts";

const linux = { release: { value: "6.1.0", source: "vmcoreinfo" } } as unknown as LinuxImage;
const whole = { note: true, kernelAddresses: true, headers: 10 };
const tools = (commands: readonly string[]) => commands.map((command) => command.split(" ")[0]);

describe("the commands that open a vmcore", () => {
  test.each([
    [whole, ["crash", "drgn", "vmcore-dmesg", "makedumpfile"]],
    [{ ...whole, note: false }, ["crash"]],
    [{ ...whole, kernelAddresses: false }, ["crash"]],
    [{ ...whole, headers: 0xfffe }, ["crash", "drgn", "vmcore-dmesg", "makedumpfile"]],
    [{ ...whole, headers: 0xffff }, ["crash", "drgn"]],
  ])("%j: %j", (traits, expected) => {
    expect(tools(openingCommands("x.vmcore", linux, traits))).toEqual(expected);
  });

  test("of no known kernel", () => {
    expect(tools(openingCommands("x.vmcore", undefined, whole))).toEqual(["gdb", "readelf"]);
  });
});

describe("the lines below what was written", () => {
  const lines = (format: VmcoreFormat, path = "x y") => nextLines({ path, format }, linux, whole);

  test("of a kdump-compressed dump name what reads it", () => {
    expect(lines("kdump")).toEqual([
      "next: crash vmlinux-6.1.0 'x y'",
      "      drgn -c 'x y' -s vmlinux-6.1.0",
    ]);
    expect(nextLines({ path: "x", format: "kdump" }, linux, { ...whole, note: false })).toEqual([
      "next: crash vmlinux-6.1.0 x",
    ]);
    expect(nextLines({ path: "x", format: "kdump" }, undefined, whole)).toEqual(["next: guestcore info x"]);
  });

  test("of a stream say how to put it together", () => {
    expect(lines("flat")).toEqual(["next: makedumpfile -R 'x y.kdump' < 'x y'"]);
  });

  test.each(["raw", "lime"] as const)("of %s are none", (format) => expect(lines(format)).toEqual([]));

  test("of standard output are none", () => expect(lines("elf", "-")).toEqual([]));
});

test("extract names a tool that needs VMCOREINFO only when it wrote the note", async () => {
  const dry = await extract(
    {
      input: join(import.meta.dirname, "../samples/nano-pc.core.zst"),
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
  /** As it would be of a guest with a direct map, its VMCOREINFO found or not. */
  const written = (best: unknown): ExtractResult => ({
    ...dry,
    linux: { ...linux, warnings: [] },
    vmcoreinfo: { ...dry.vmcoreinfo, best } as ExtractResult["vmcoreinfo"],
    output: { ...dry.output, path: "x.vmcore", kernelAddresses: true },
  });
  const found = { address: 0, form: "note", vmcoreinfo: { keys: [], get: () => undefined } };
  expect(tools(extractJson(written(undefined)).next)).toEqual(["crash"]);
  expect(tools(extractJson(written(found)).next)).toContain("vmcore-dmesg");
  expect(extractText(written(undefined), 1)).not.toContain("vmcore-dmesg");
  expect(extractText(written(found), 1)).toContain("vmcore-dmesg");
});
