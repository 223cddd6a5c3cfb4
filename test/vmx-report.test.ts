import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { Command } from "commander";
import { afterAll, describe, expect, test } from "vitest";
import { vmcsDmesgCommand } from "../src/cli/commands/vmcs-dmesg.ts";
import { vmcsDmesg } from "../src/jobs/vmcs-dmesg.ts";
import { envelope } from "../src/report/json.ts";
import { vmcsDiffJson, vmcsDiffText } from "../src/report/vmcs-diff.ts";
import { vmcsDmesgJson, vmcsDmesgText } from "../src/report/vmcs-dmesg.ts";
import { type VmcsShow, vmcsShowJson, vmcsShowText } from "../src/report/vmcs-show.ts";
import { decodeVmcs } from "../src/vmx/decoded.ts";
import { fieldOf } from "../src/vmx/fields.ts";
import type { VmcsLayout } from "../src/vmx/layout.ts";
import { decodeRegion } from "../src/vmx/region.ts";
import { quiet } from "./support/memory-io.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { KVM_VMCB_LOG, kvmLog } from "./synth/vmx-log.ts";
import { CONSISTENT, type Fields, regionOf } from "./synth/vmx-values.ts";

const root = join(import.meta.dirname, "..");
const ajv = new Ajv2020({ strict: false, allErrors: true });
for (const name of readdirSync(join(root, "schema"))) {
  ajv.addSchema(JSON.parse(readFileSync(join(root, "schema", name), "utf8")));
}

function expectSchema(kind: string, result: unknown): void {
  const output = JSON.parse(envelope(kind, [], [], result));
  const validate = ajv.getSchema(`${kind}.json`)!;
  expect(validate(output), JSON.stringify(validate.errors?.slice(0, 3))).toBe(true);
}

const STRAY = 0xf00;

/** A page in which each field there is has eight bytes, in the order of the encodings, and one word is stray. */
function shown(fields: Fields): VmcsShow {
  const bytes = Buffer.alloc(4096);
  bytes.writeUInt32LE(0x8000_1234, 0);
  bytes.writeUInt32LE(4, 4);
  const places = new Map<number, number>();
  for (const [encoding, value] of regionOf(CONSISTENT, fields).values) {
    if (fieldOf(encoding) === undefined) continue;
    const offset = 16 + 8 * places.size;
    bytes.writeBigUInt64LE(value, offset);
    places.set(encoding, offset);
  }
  bytes.writeUInt32LE(0xdead_beef, STRAY);
  const layout: VmcsLayout = {
    name: "synthetic",
    kind: "emulator",
    revisionId: 0x1234,
    fields: places,
    accessRights: "plain",
    unsure: new Set([0x681e]),
    source: "this test",
    confidence: "certain",
  };
  const region = decodeRegion(bytes, layout);
  return { address: 0x254_9000, region, bytes, decoded: decodeVmcs(region) };
}

describe("vmcs show", () => {
  test("verdict, header, registers and sections", () => {
    const text = vmcsShowText(shown({}), { bytes: false, all: false, next: "guestcore vmcs list host" });
    const lines = text.split("\n");
    expect(lines[0]).toMatch(/^VMCS at 0x000002549000: consistent, \d+ rules of VM entry hold/);
    expect(lines[1]).toBe(
      "  layout synthetic (certain), revision 0x00001234, shadow VMCS, VMX abort 4: loading host MSRs failed",
    );
    expect(lines[2]).toBe("  last exit: EXTERNAL_INTERRUPT (1); external interrupt 0xec");
    expect(text).toMatch(/^ {2}0x681e {2}GUEST_RIP +0xffffffff801010a6 {2}next instruction$/m);
    expect(text).toMatch(/^ {2}0x4816 {2}GUEST_CS_AR_BYTES +0x0000a09b +code execute\/read accessed/m);
    expect(text).toMatch(/^ {10} 7 {2}unrestricted guest$/m);
    const order = ["registers of the guest", "guest state", "host state", "controls", "exit information"];
    const at = order.map((title) => lines.findIndex((line) => line.startsWith(title)));
    expect(at).toEqual(at.toSorted((a, b) => a - b));
    expect(at[0]).toBeGreaterThan(0);
    expect(lines.at(-2)).toBe("next: guestcore vmcs list host");
    expect(text).not.toMatch(/undefined|NaN/);
  });

  test("violations come right behind the verdict", () => {
    const text = vmcsShowText(shown({ GUEST_CR4: 0x6a0n }), { bytes: false, all: false });
    const [first, second, third] = text.split("\n");
    expect(first).toMatch(/VM entry would fail: 1 error, /);
    expect(second).toBe("  error    GUEST_CR4 lacks VMXE (SDM 27.3.1.1, guest.CR4)");
    expect(third).toBe("           GUEST_CR4 0x00000000000006a0");
  });

  test("a refused entry whose cause does not show", () => {
    const text = vmcsShowText(shown({ VM_EXIT_REASON: 0x8000_0021n }), { bytes: false, all: false });
    expect(text).toMatch(/^VMCS at \S+ VM entry failed, its fields do not show why: /);
  });

  test("--bytes shows what is stored and what no field covers", () => {
    const show = shown({});
    const text = vmcsShowText(show, { bytes: true, all: false });
    const place = show.region.places.get(0x681e)!.start.toString(16).padStart(3, "0");
    expect(text).toMatch(
      new RegExp(`GUEST_RIP +0xffffffff801010a6 {2}\\+0x${place} {2}a6101080ffffffff {2}next`),
    );
    expect(text).toMatch(/^bytes that no known field covers: 4 bytes in 1 run\n {2}\+0xf00 {2}efbeadde$/m);
  });

  test("unused fields that are 0 are hidden", () => {
    const show = shown({});
    const some = vmcsShowText(show, { bytes: false, all: false });
    const all = vmcsShowText(show, { bytes: false, all: true });
    expect(some).toMatch(/^\d+ fields unused and 0 \(--all shows them\)$/m);
    expect(some).not.toMatch(/VMREAD_BITMAP/);
    expect(all).toMatch(/VMREAD_BITMAP +0x0+ +\(not used: "VMCS shadowing" is 0\)/);
  });

  test("MSR areas", () => {
    const msrs = [{ index: 0xc000_0080, name: "IA32_EFER", value: 0xd01n }];
    const areas = [{ kind: "VM-entry MSR-load" as const, address: 0x7000, count: 2, msrs }];
    const text = vmcsShowText({ ...shown({}), areas }, { bytes: false, all: false });
    expect(text).toMatch(/^VM-entry MSR-load area at 0x000000007000, 2 MSRs, 1 of them readable$/m);
    expect(text).toMatch(/^ {2}0xc0000080 {2}0x0000000000000d01 {2}IA32_EFER$/m);
    expectSchema("vmcs-show", vmcsShowJson({ ...shown({}), areas }));
  });

  test("bits without a name are shown, too", () => {
    const text = vmcsShowText(shown({ SECONDARY_VM_EXEC_CONTROL: 0x2000_00ean }), {
      bytes: false,
      all: false,
    });
    expect(text).toMatch(/^ {10}29 {2}bit 29$/m);
  });

  test("JSON is what the schema says", () => {
    expectSchema("vmcs-show", vmcsShowJson(shown({ GUEST_CR4: 0x6a0n })));
    const json = vmcsShowJson(shown({}));
    expect(json.uncovered).toEqual([{ start: STRAY, end: STRAY + 4, bytes: "efbeadde" }]);
    expect(json.fields.find(({ name }) => name === "GUEST_RIP")).toMatchObject({
      encoding: "0x681e",
      value: CONSISTENT.GUEST_RIP,
      bytes: "a6101080ffffffff",
      unsure: true,
    });
  });
});

describe("vmcs diff", () => {
  const side = (name: string, fields: Fields) => ({
    name,
    decoded: decodeVmcs(regionOf(CONSISTENT, fields)),
  });
  const a = side("web1:0", {});
  const b = side("web1:1", { GUEST_RIP: 0x1000n, SECONDARY_VM_EXEC_CONTROL: 0xa2n, VMREAD_BITMAP: 0x5000n });

  test("fields that differ, by section, bits by name", () => {
    const text = vmcsDiffText(a, b, false);
    expect(text).toMatch(/^3 of \d+ fields differ between web1:0 \(<\) and web1:1 \(>\)$/m);
    expect(text).toMatch(/^ {2}0x681e {2}GUEST_RIP\n +< 0xffffffff801010a6 .*\n +> 0x0000000000001000 /m);
    expect(text).toMatch(/-enable RDTSCP, -WBINVD exiting$/m);
    expect(text).toMatch(/^1 differing field not in use \(--all shows them\)$/m);
    expect(vmcsDiffText(a, b, true)).toMatch(/VMREAD_BITMAP/);
    expect(vmcsDiffText(a, a, false)).toMatch(/^0 of /);
  });

  test("a field that only one has", () => {
    const less = {
      name: "less",
      decoded: decodeVmcs({ values: new Map([[0x6820, 2n]]) }),
    };
    expect(vmcsDiffText(a, less, false)).toMatch(/GUEST_RIP\n.*\n +> not there$/m);
    expectSchema("vmcs-diff", vmcsDiffJson(a, less));
  });

  test("JSON is what the schema says", () => {
    expectSchema("vmcs-diff", vmcsDiffJson(a, b));
    expect(vmcsDiffJson(a, b).differences.map(({ name }) => name)).toEqual([
      "VMREAD_BITMAP",
      "SECONDARY_VM_EXEC_CONTROL",
      "GUEST_RIP",
    ]);
  });
});

describe("vmcs parse-dmesg", () => {
  const folder = mkdtempSync(join(tmpdir(), "guestcore-dmesg-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const broken: Fields = { ...CONSISTENT, GUEST_CR3: 1n << 63n, VM_EXIT_REASON: 0x8000_0021n };
  const log = join(folder, "dmesg.txt");
  writeFileSync(
    log,
    [...kvmLog((name) => broken[name] ?? 0n, "6.16", [[0xc000_0080, 0xd01n]]), ...KVM_VMCB_LOG].join("\n"),
  );

  test("text and JSON", async () => {
    const result = await vmcsDmesg(log, quiet);
    const text = vmcsDmesgText(result, false);
    expect(text).toMatch(/dmesg\.txt: 2 dumps, 1 that VM entry refuses\n/);
    expect(text).toMatch(
      /^VMCS 00000000f971be22 of KVM in lines 2 to \d+, last entered on CPU 3: VM entry would fail: 1 error/m,
    );
    expect(text).toMatch(/^ {2}error {4}GUEST_CR3 0x8000000000000000 has reserved bits set/m);
    expect(text).toMatch(/^ {2}0xc0000080 {2}0x0000000000000d01 {2}guest autoload$/m);
    expect(text).toMatch(/^VMCB 00000000759a48a5 of KVM in lines/m);
    expect(text).toMatch(/^ {2}nested_cr3 +0x22fc06000$/m);
    expectSchema("vmcs-dmesg", vmcsDmesgJson(result));
  });

  test("the command", async () => {
    const terminal = new FakeTerminal();
    const program = new Command("guestcore");
    vmcsDmesgCommand(program.command("vmcs"), terminal);
    await program.parseAsync(["vmcs", "parse-dmesg", log, "--json"], { from: "user" });
    const output = JSON.parse(terminal.out);
    expect(output.schema).toBe("guestcore/vmcs-dmesg/1");
    expect(output.result.dumps[0].vmcs.checks.violations[0]).toMatchObject({ id: "guest.CR3" });
  });
});
