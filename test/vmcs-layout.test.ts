import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { Command } from "commander";
import { afterAll, describe, expect, test } from "vitest";
import { vmcsLayoutCommand } from "../src/cli/commands/vmcs-layout.ts";
import { ToldError } from "../src/cli/errors.ts";
import { withDescendants } from "../src/cli/subcommands.ts";
import type { VmcsLayout } from "../src/vmx/layout.ts";
import { VMCS_LAYOUTS } from "../src/vmx/layouts.ts";
import { checkLayout } from "../src/vmx/vmcsinfo/check-layout.ts";
import { agreements, isSameLayout } from "../src/vmx/vmcsinfo/known.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { E7500, table } from "./synth/vmcsinfo.ts";

const directory = mkdtempSync(join(tmpdir(), "guestcore-layout-"));
afterAll(() => rmSync(directory, { recursive: true }));

async function run(...argv: string[]) {
  const terminal = new FakeTerminal();
  const vmcs = new Command("vmcs");
  vmcsLayoutCommand(vmcs, terminal);
  for (const command of withDescendants(vmcs)) {
    command.exitOverride().configureOutput({ writeErr: () => {}, outputError: () => {} });
  }
  let status = 0;
  try {
    await vmcs.parseAsync(["layout", ...argv], { from: "user" });
  } catch (error) {
    if (!(error instanceof ToldError)) throw error;
    status = error.exitCode;
  }
  return { status, out: terminal.out, err: terminal.err };
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

describe.each(VMCS_LAYOUTS.map((layout) => [layout.name, layout] as const))("%s", (_, layout) => {
  test("contradicts itself nowhere", () => {
    const findings = checkLayout(layout).filter(
      ({ kind }) => kind !== "missing" && kind !== "access-rights-unknown",
    );
    expect(findings).toEqual([]);
  });

  test("is recognised by its fields", () => {
    const [best] = agreements(layout.fields);
    expect(best).toMatchObject({ equal: layout.fields.size, shared: layout.fields.size });
    if (layout.fields.size > 8) expect(isSameLayout(best!)).toBe(true);
  });
});

describe("checks", () => {
  const broken = (fields: readonly (readonly [number, number])[]): VmcsLayout => ({
    name: "broken",
    kind: "processor",
    revisionId: undefined,
    fields: new Map(fields),
    accessRights: undefined,
    unsure: new Set(),
    source: "",
    confidence: "",
  });

  test("every kind of finding", () => {
    const found = checkLayout(
      broken([
        [0x1800, 0x100],
        [0x681e, 0xffc],
        [0x0800, 0x200],
        [0x0802, 0x200],
        [0x4814, 0x210],
      ]),
    );
    const kinds = new Set(found.map(({ kind }) => kind));
    expect(kinds).toEqual(
      new Set(["unknown-encoding", "out-of-range", "overlap", "missing", "access-rights-unknown"]),
    );
    expect(found.find(({ encoding }) => encoding === 0x6820)?.message).toBe(
      "GUEST_RFLAGS (0x6820) is missing: a vCPU's registers are not complete",
    );
  });
});

describe("list", () => {
  test("every layout in aligned columns", async () => {
    const { out } = await run("list");
    for (const { name, fields } of VMCS_LAYOUTS) {
      expect(out).toMatch(new RegExp(`^${name} .* ${fields.size} `, "m"));
    }
    expect(out).toMatch(/^name +kind +revision +fields +access rights +confidence$/m);
  });

  test("as JSON", async () => {
    const { result } = validated((await run("list", "--json")).out);
    expect(result.layouts).toHaveLength(VMCS_LAYOUTS.length);
    expect(result.layouts[0]).toMatchObject({ name: "penryn", revisionId: 0xd, accessRights: "rotated" });
  });
});

describe("show", () => {
  test("fields by offset, the inferred ones marked", async () => {
    const { out } = await run("show", "penryn");
    expect(out).toMatch(/^penryn: processor, revision 0xd, \d+ fields$/m);
    expect(out).toContain("  0x148   0x0806    16       GUEST_DS_SELECTOR  (inferred)");
  });

  test("JSON is a file that can be named again", async () => {
    const { out } = await run("show", "haswell", "--json");
    const { result } = validated(out);
    const path = join(directory, "haswell.json");
    writeFileSync(path, out);
    const again = validated((await run("show", path, "--json")).out);
    expect(again.result.accessRights).toBe("packed");
    const places = (fields: { encoding: string; offset: number }[]) =>
      fields.map(({ encoding, offset }) => [encoding, offset]);
    expect(places(again.result.fields)).toEqual(places(result.fields));
  });

  test("a name that is none", async () => {
    await expect(run("show", "pentium")).rejects.toThrow("there is no layout and no file called pentium");
  });
});

describe("check", () => {
  test("nothing found: 0", async () => {
    const { status, out } = await run("check", "sandybridge");
    expect([status, out]).toEqual([0, expect.stringMatching(/: nothing found$/m)]);
  });

  test("findings: 1, in text and JSON", async () => {
    const path = join(directory, "e7500.txt");
    writeFileSync(path, `${table(0xd, E7500)}0x681e 0x332\n`);
    const { status, out, err } = await run("check", path);
    expect(status).toBe(1);
    expect(out).toContain("duplicate: GUEST_RIP (0x681e) is there 2 times");
    expect(out).toContain("overlap: GUEST_RSP (0x681c) and GUEST_RIP (0x681e) are both at 0x332-0x338");
    expect(out).toContain("missing: GUEST_CR0 (0x6800) is missing");
    expect(err).toContain("VMI002");
    const json = await run("check", path, "--json");
    expect(json.status).toBe(1);
    expect(validated(json.out).result.findings.length).toBeGreaterThan(10);
  });
});
