import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { afterAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { buildElf } from "./synth/elf.ts";
import { note } from "./synth/notes.ts";
import { patternBytes } from "./synth/pattern.ts";
import { array, E7500, PACKED, rekall, sysfs, table, tar, v1Text, v2Binary } from "./synth/vmcsinfo.ts";

const directory = mkdtempSync(join(tmpdir(), "guestcore-vmcsinfo-cli-"));
afterAll(() => rmSync(directory, { recursive: true }));

const path = (name: string): string => join(directory, name);
function file(name: string, contents: string | Buffer): string {
  mkdirSync(dirname(path(name)), { recursive: true });
  writeFileSync(path(name), contents);
  return path(name);
}

async function run(...argv: string[]) {
  const terminal = new FakeTerminal();
  const status = await main(argv, terminal);
  return { status, out: terminal.out, err: terminal.err };
}

const schemas = join(import.meta.dirname, "../schema");
function validated(json: string) {
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  for (const name of readdirSync(schemas)) {
    ajv.addSchema(JSON.parse(readFileSync(join(schemas, name), "utf8")));
  }
  const document = JSON.parse(json);
  const validate = ajv.getSchema(`${String(document.schema).split("/")[1]}.json`);
  expect(validate?.(document), JSON.stringify(validate?.errors)).toBe(true);
  return document;
}

const OTHERS = Buffer.concat([
  note("CORE", 1, Buffer.alloc(336)),
  note("VMCOREINFO", 0, Buffer.from("A=1\n")),
]);
const loads = [{ paddr: 0x1000, bytes: patternBytes(0x8000, 1), align: 0 }];
const dumpWith = (notes: readonly Buffer[]): Buffer =>
  buildElf({ notes: Buffer.concat([OTHERS, ...notes]), segments: loads });
const v2Note = note("VMCSINFO", 0, v2Binary(0xd, E7500));

file("note-only", v2Note);
file("notes-only", Buffer.concat([OTHERS, v2Note]));
file("bare-v2", v2Binary(0xd, E7500));
file("bare-v1", v1Text(0xd, E7500));
file("array", array(0xd, E7500));
file("table", table(0xd, E7500));
file(
  "rekall",
  rekall(0xd, [
    ["GUEST_ES_SEL", 0x100],
    ["GUEST_RIP", 0x338],
  ]),
);
file("v4.tar", tar(sysfs(4, 0xd, E7500)));
file("last.core", dumpWith([v2Note]));
file("first.core", buildElf({ notes: Buffer.concat([v2Note, OTHERS]), segments: loads }));
file("two.core", dumpWith([note("VMCSINFO", 0, array(0xe, E7500)), v2Note]));
file("none.core", dumpWith([]));
for (const [name, text] of sysfs(5, 0xd, E7500)) file(join("tree", name), text);

describe("show", () => {
  test.each([
    ["note-only", "note", "v2"],
    ["notes-only", "note", "v2"],
    ["bare-v2", "file", "v2"],
    ["bare-v1", "file", "v1"],
    ["array", "file", "array"],
    ["table", "file", "table"],
    ["rekall", "file", "rekall"],
    ["v4.tar", "tar", "sysfs-v4"],
    ["tree", "directory", "sysfs-v5"],
    ["tree/devices/system/cpu", "directory", "sysfs-v5"],
    ["tree/devices/system/cpu/vmcs", "directory", "sysfs-v5"],
    ["last.core", "note", "v2"],
    ["first.core", "note", "v2"],
    ["two.core", "note", "v2"],
  ])("%s", async (name, container, form) => {
    const { status, out } = await run("vmcsinfo", "show", path(name), "--json");
    expect(status).toBe(0);
    const { result } = validated(out);
    expect(result).toMatchObject({ container, form, revisionId: 0xd, problems: [] });
    const rip = result.fields.find((field: { name: string }) => field.name === "GUEST_RIP");
    expect(rip).toMatchObject({ encoding: "0x681e", width: "natural", offset: 0x338 });
  });

  test("columns for people, the verdict first, the next command last", async () => {
    const { status, out, err } = await run("vmcsinfo", "show", path("last.core"));
    expect([status, err]).toEqual([0, ""]);
    const lines = out.trimEnd().split("\n");
    expect(lines[0]).toMatch(
      /note at 0x[0-9a-f]+: VMCSINFO as v2 note, revision 0xd, 14 fields: 14 certain$/,
    );
    expect(lines).toContain(
      "  0x681e    GUEST_RIP                  natural  0x338   certain    0x0d7c0d780d740d70",
    );
    expect(out).toContain("access rights rotated, by what the fields read as");
    expect(out).toContain("agrees with penryn in 14 of 14 fields");
    expect(lines.at(-1)).toBe(`next: guestcore vmcsinfo attach DUMP --from ${path("last.core")} -o OUT`);
  });

  test("several notes are told", async () => {
    const { err } = await run("vmcsinfo", "show", path("two.core"));
    expect(err).toContain("warning VMI006: 2 VMCSINFO notes");
  });

  test("an empty one does not beat one with fields", async () => {
    const empty = note("VMCSINFO", 0, Buffer.alloc(4));
    file("empty.core", dumpWith([v2Note, empty, note("VMCSINFO", 0, Buffer.alloc(0))]));
    const { status, out, err } = await run("vmcsinfo", "show", path("empty.core"), "--json");
    expect([status, JSON.parse(out).result.revisionId]).toEqual([0, 0xd]);
    expect(err).toContain("warning VMI006: 3 VMCSINFO notes: the last one that is not empty is used");
  });

  test.each([
    ["of no form", Buffer.from("This is no layout.\n"), 3, "not VMCSINFO in any form known"],
    ["empty", Buffer.alloc(4), 3, "not VMCSINFO in any form known"],
    ["too large", Buffer.alloc(2 ** 20 + 4, 1), 3, "too large for VMCSINFO"],
  ])(
    "a dump's own note that is %s: told, and no obstacle to looking for guests",
    async (name, desc, exit, why) => {
      const dump = file(`${name}.core`, dumpWith([note("VMCSINFO", 0, desc)]));
      const shown = await run("vmcsinfo", "show", dump);
      expect(shown.status).toBe(exit);
      expect(shown.err).toMatch(new RegExp(`the dump's VMCSINFO note at offset \\d+: ${why}`));
      const listed = await run("vmcs", "list", dump);
      expect(listed.status).toBe(0);
      expect(listed.err).toContain(`warning VMI008: the dump's own VMCSINFO note cannot be read (${why})`);
      const named = await run("vmcs", "list", dump, "--vmcsinfo", dump);
      expect([named.status, named.err]).toEqual([exit, expect.stringContaining(why)]);
      const layout = await run("vmcs", "list", dump, "--layout", "haswell");
      expect([layout.status, layout.err]).toEqual([0, ""]);
    },
  );

  test("compressed with the system's tools", async () => {
    if (spawnSync("gzip", ["-kf", path("v4.tar")]).error !== undefined) return;
    const { status, out } = await run("vmcsinfo", "show", path("v4.tar.gz"), "--json");
    expect(status).toBe(0);
    expect(JSON.parse(out).result.form).toBe("sysfs-v4");
  });

  test.each([
    [["none.core"], 5, "the dump has no VMCSINFO note"],
    [["absent"], 7, "no such file"],
    [["prose"], 3, "not VMCSINFO in any form known"],
    [["decimal"], 2, "hexadecimal or decimal"],
  ])("%j", async (names, status, message) => {
    file("prose", "This is no layout.\n");
    file("decimal/vmcs/681e", "824\n");
    file("decimal/vmcs/681c", "816\n");
    const result = await run("vmcsinfo", "show", ...names.map(path));
    expect(result.status).toBe(status);
    expect(result.err).toContain(message);
  });

  test("options fill in what the input does not say", async () => {
    file("decimal/vmcs/681e", "824\n");
    file("decimal/vmcs/4814", "276\n");
    const args = ["--numbers", "decimal", "--access-rights", "packed", "--json"];
    const { out } = await run("vmcsinfo", "show", path("decimal"), ...args);
    const { result } = validated(out);
    expect(result.accessRights).toEqual({ form: "packed", source: "--access-rights" });
    expect(result.fields.at(-1)).toMatchObject({ name: "GUEST_RIP", offset: 824 });
  });
});

describe("convert", () => {
  const apart = PACKED.filter(({ encoding }) => encoding !== 0x0804);
  file("apart.v2", v2Binary(0x12, apart));
  file("apart.table", table(0x12, apart).replaceAll(/ 0x[0-9a-f]+ (?=\S+$)/gm, " - "));

  test.each([
    [
      "apart.v2",
      "array",
      /^warning VMI009: 1 field of guessed places are written as array.*GUEST_SS_AR_BYTES/m,
    ],
    ["apart.table", "v2", /^warning VMI009: 1 field cannot be placed for sure by v2/m],
    ["apart.v2", "v2", undefined],
    ["apart.v2", "table", undefined],
    ["apart.table", "array", undefined],
  ])("%s to %s tells of guesses that it hides or makes", async (from, to, warning) => {
    const words = ["--to", to, "-o", path(`guess.${from}.${to}`)];
    const { status, err } = await run("vmcsinfo", "convert", path(from), ...words);
    expect(status).toBe(0);
    if (warning === undefined) expect(err).not.toMatch(/VMI009/);
    else expect(err).toMatch(warning);
  });

  test.each(["v1", "v2", "array", "table", "json"])("to %s and back", async (to) => {
    const output = path(`converted.${to}`);
    const { status, out } = await run("vmcsinfo", "convert", path("last.core"), "--to", to, "-o", output);
    expect(status).toBe(0);
    expect(out).toContain(`wrote ${output}: ${to}`);
    if (to === "json") validated(readFileSync(output, "utf8"));
    const { result } = validated((await run("vmcsinfo", "show", output, "--json")).out);
    expect(result).toMatchObject({ form: to, revisionId: 0xd, problems: [] });
    expect(result.fields).toHaveLength(14);
    expect(result.accessRights.form).toBe("rotated");
  });

  test("JSON keeps everything", async () => {
    const first = (await run("vmcsinfo", "show", path("last.core"), "--json")).out;
    const second = (await run("vmcsinfo", "show", file("again.json", first), "--json")).out;
    expect(JSON.parse(second).result.fields).toEqual(JSON.parse(first).result.fields);
  });

  test("--note puts the ELF note's header in front", async () => {
    const output = path("converted.note");
    await run("vmcsinfo", "convert", path("table"), "--to", "v2", "--note", "-o", output);
    expect(readFileSync(output).equals(v2Note)).toBe(true);
    const refused = await run(
      "vmcsinfo",
      "convert",
      path("table"),
      "--to",
      "table",
      "--note",
      "-o",
      path("x"),
    );
    expect([refused.status, existsSync(path("x"))]).toEqual([2, false]);
  });

  test("an output that exists, and one that is the input", async () => {
    const taken = file("taken", "");
    const again = await run("vmcsinfo", "convert", path("table"), "--to", "v2", "-o", taken);
    expect([again.status, again.err]).toEqual([2, expect.stringContaining("exists")]);
    const self = await run(
      "vmcsinfo",
      "convert",
      path("table"),
      "--to",
      "v2",
      "-o",
      path("table"),
      "--force",
    );
    expect([self.status, self.err]).toEqual([2, expect.stringContaining("is an input")]);
  });

  test("what the form cannot hold is told, in the JSON too", async () => {
    const input = file("smbase", "# revision 0x1\n0x4828 0x200\n0x681e 0x338\n");
    const { out, err } = await run(
      "vmcsinfo",
      "convert",
      input,
      "--to",
      "v1",
      "-o",
      path("smbase.v1"),
      "--json",
    );
    expect(err).toContain("warning VMI007");
    expect(validated(out).result.output.leftOut).toEqual([
      { encoding: "0x4828", name: "GUEST_SMBASE", reason: "KVM has no name for it" },
    ]);
  });
});

describe("attach", () => {
  test("a dump without the note is as good as one with it", async () => {
    const output = path("attached.core");
    const { status, out } = await run(
      "vmcsinfo",
      "attach",
      path("none.core"),
      "--from",
      path("tree"),
      "-o",
      output,
      "--json",
    );
    expect(status).toBe(0);
    expect(validated(out).result.output).toMatchObject({ to: "v2", leftOut: [] });
    const shown = validated((await run("vmcsinfo", "show", output, "--json")).out);
    expect(shown.result).toMatchObject({ form: "v2", container: "note", accessRights: { form: "rotated" } });
  });

  test("one that is there stays unless --replace", async () => {
    const args = ["--from", path("array"), "-o", path("replaced.core")];
    const refused = await run("vmcsinfo", "attach", path("two.core"), ...args);
    expect([refused.status, existsSync(path("replaced.core"))]).toEqual([2, false]);
    expect(refused.err).toContain("has a VMCSINFO note already");
    const { status } = await run(
      "vmcsinfo",
      "attach",
      path("two.core"),
      ...args,
      "--replace",
      "--to",
      "array",
    );
    expect(status).toBe(0);
    const { out, err } = await run("vmcsinfo", "show", path("replaced.core"), "--json");
    expect(err).not.toContain("VMI006");
    expect(JSON.parse(out).result.form).toBe("array");
  });

  test.each([
    [["table", "--from", "table"], 3, "notes can be added to ELF cores and vmcores only"],
    [["none.core", "--from", "none.core"], 5, "has no VMCSINFO note"],
    [["none.core", "--from", "table", "-o", "-"], 2, "not standard output"],
  ])("%j", async (words, status, message) => {
    const argv = words.map((word) => (word.startsWith("-") ? word : path(word)));
    const output = words.includes("-o") ? [] : ["-o", path("refused")];
    const result = await run("vmcsinfo", "attach", ...argv, ...output);
    expect([result.status, existsSync(path("refused"))]).toEqual([status, false]);
    expect(result.err).toContain(message);
    expect(existsSync(path("refused.incomplete"))).toBe(false);
  });
});

describe("the group", () => {
  test("without a command: its help on stderr, status 2", async () => {
    const { status, out, err } = await run("vmcsinfo");
    expect([status, out]).toEqual([2, ""]);
    expect(err).toContain("Usage: guestcore vmcsinfo");
    expect(err).not.toContain("guestcore: ");
  });

  test("a misspelt command", async () => {
    const { status, err } = await run("vmcsinfo", "sow");
    expect(status).toBe(2);
    expect(err).toBe("guestcore: unknown command 'sow'\n  hint: did you mean show?\n");
  });

  test.each(["show", "convert", "attach"])("%s has help with examples", async (name) => {
    const { status, out } = await run("vmcsinfo", name, "--help");
    expect(status).toBe(0);
    expect(out).toMatch(new RegExp(`^Examples:\\n {2}guestcore vmcsinfo ${name} `));
    for (const line of out.split("\n")) expect(line.length).toBeLessThanOrEqual(100);
  });
});
