import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { patternBytes } from "./synth/pattern.ts";
import { buildDiskSet } from "./synth/sadump.ts";
import { buildState, regionTags } from "./synth/vmware.ts";

/** Files that no option names but a job reads all the same: evidence, which --force must not replace. */

const PAGE = 4096;
const folder = mkdtempSync(join(tmpdir(), "guestcore-kept-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string) => join(folder, name);

const run = async (...words: string[]) => {
  const terminal = new FakeTerminal();
  return { status: await main(words, terminal), out: terminal.out, err: terminal.err };
};

const ranges = [
  { gpa: 0, length: 2 * PAGE },
  { gpa: 2 ** 32, length: 2 * PAGE },
];
const state = JSON.stringify({ memory_ranges: { data: ranges }, start_of_device_area: 2 ** 40 });
const inputs = new Map<string, string | Buffer>([
  ["web1.vmss", buildState([{ name: "memory", tags: regionTags([{ stored: 0, page: 0, count: 4 }]) }])],
  ["web1.vmem", patternBytes(4 * PAGE, 1)],
  ["ranges", patternBytes(4 * PAGE, 2)],
  ["state.json", JSON.stringify({ snapshots: { "memory-manager": { snapshot_data: { state } } } })],
  ...buildDiskSet({ pages: new Map([1, 2, 3].map((pfn) => [pfn, patternBytes(PAGE, pfn)])) }, [2]).map(
    (disk, i) => [`disk${i + 1}`, disk] as const,
  ),
]);

beforeAll(() => {
  for (const [name, contents] of inputs) writeFileSync(at(name), contents);
});

const unchanged = () =>
  [...inputs].filter(([name, contents]) => !readFileSync(at(name)).equals(Buffer.from(contents)));

describe("--json-file --force keeps what the job reads", () => {
  test.each([
    ["web1.vmem", ["verify", "web1.vmss"]],
    ["web1.vmss", ["verify", "web1.vmem"]],
    ["web1.vmem", ["info", "web1.vmss"]],
    ["web1.vmem", ["convert", "web1.vmss", "one.elf"]],
    ["disk2", ["verify", "disk1"]],
    ["state.json", ["verify", "ranges", "--map", "state.json"]],
    ["state.json", ["info", "ranges", "--map", "state.json"]],
    ["state.json", ["guests", "ranges", "--map", "state.json"]],
    ["state.json", ["convert", "ranges", "two.elf", "--map", "state.json"]],
  ])("%s of %j", async (name, [command, ...words]) => {
    const paths = words.map((word) => (word.startsWith("-") ? word : at(word)));
    const { status, err } = await run(command!, ...paths, "--json-file", at(name), "--force");
    expect([status, err]).toEqual([2, expect.stringMatching(/is an input|is named twice/)]);
    expect(unchanged()).toEqual([]);
    expect(readdirSync(folder).filter((file) => file.endsWith(".incomplete"))).toEqual([]);
  });

  test("and replaces another file", async () => {
    mkdirSync(at("out"));
    writeFileSync(at("out/result.json"), "old");
    const { status } = await run(
      ...["verify", at("web1.vmss"), "--json-file", at("out/result.json"), "--force"],
    );
    expect(status).toBe(0);
    expect(JSON.parse(readFileSync(at("out/result.json"), "utf8")).schema).toBe("guestcore/verify/1");
  });
});
