import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { envelope } from "../src/report/json.ts";
import { vmcbDiffJson, vmcbDiffText } from "../src/report/vmcb-diff.ts";
import { type VmcbShow, type VmcbShowFlags, vmcbShowJson, vmcbShowText } from "../src/report/vmcb-show.ts";
import { identifyVmcb } from "../src/svm/kind.ts";
import { scoreVmcb } from "../src/svm/score.ts";
import { decodeVmcb } from "../src/svm/vmcb.ts";
import { haltedVcpu, hostSaveArea, nestedVcpu, resetVcpu, vmcbPage } from "./synth/vmcb.ts";

const shown = (page: Buffer): VmcbShow => {
  const vmcb = decodeVmcb(page);
  return { address: 0x1234_5000, bytes: page, vmcb, score: scoreVmcb(vmcb), ...identifyVmcb(vmcb) };
};

const schemas = join(import.meta.dirname, "../schema");
const ajv = new Ajv2020({ strict: false, allErrors: true });
for (const name of ["common.json", "vmcb-show.json", "vmcb-diff.json"]) {
  ajv.addSchema(JSON.parse(readFileSync(join(schemas, name), "utf8")));
}
const validate = ajv.getSchema("vmcb-show.json")!;

const SPECS = {
  guest: haltedVcpu(),
  "I/O": haltedVcpu({ exitCode: 0x7b, exitInfo1: 0x505_0010, bytes: { 2000: 1 } }),
  event: haltedVcpu({
    exitCode: 0x400,
    exitInfo1: 0x1_0000_0004,
    exitInfo2: 0x1000,
    exitIntInfo: 0x2_8000_0b0en,
  }),
  "not-run": resetVcpu(),
  nested: nestedVcpu(),
  "sev-es": haltedVcpu({ npEnable: 7, vmsa: 0x99_9000 }),
  "host save area": hostSaveArea(0x2_3000),
  refused: haltedVcpu({ exitCode: -1, asid: 0 }),
};

describe("text", () => {
  const text = (name: keyof typeof SPECS, flags: Partial<VmcbShowFlags> = {}) =>
    vmcbShowText(shown(vmcbPage(SPECS[name])), { bytes: false, all: false, ...flags });

  test("the verdict comes first, the next command last", () => {
    const lines = text("guest", { next: "guestcore vmcs list host.core" }).trimEnd().split("\n");
    expect(lines[0]).toBe("VMCB at 0x000012345000: consistent, 21 rules of VMRUN hold");
    expect(lines[1]).toBe("  vCPU, 26 of 26 checks passed, nested root 0x56789a000, ASID 5");
    expect(lines).toContain("  last exit: VMEXIT_HLT");
    expect(lines.at(-1)).toBe("next: guestcore vmcs list host.core");
  });

  test("fields have offset, name, value and meaning in columns; zeros only on demand", () => {
    expect(text("guest")).toMatch(/^ {2}0x070 {2}exit_code +0x0{14}78 +VMEXIT_HLT$/m);
    expect(text("guest")).toMatch(
      /^ {2}0x412 {2}cs\.attrib +0x0a9b +code accessed readable L G DPL 0 present$/m,
    );
    expect(text("guest")).toMatch(
      /^ {2}0x00c {2}intercept_word3 +0xbd4c8027 +14 bits\n {10}INTR\n {10}NMI$/m,
    );
    expect(text("guest")).not.toMatch(/exit_info_2/);
    expect(text("guest")).toMatch(/^\d+ fields of 0 \(--all shows them\)$/m);
    expect(text("guest", { all: true })).toMatch(/^ {2}0x080 {2}exit_info_2 +0x0{16}$/m);
    expect(text("guest", { all: true })).not.toMatch(/--all/);
  });

  test("stored bytes on demand, and those that no field covers", () => {
    expect(text("guest", { bytes: true })).toMatch(/^ {2}0x058 {2}asid +0x0{7}5 +05000000$/m);
    expect(text("guest", { bytes: true })).toMatch(/^no bytes but those of known fields are other than 0$/m);
    expect(text("I/O", { bytes: true })).toMatch(
      /^bytes that no known field covers: 8 bytes in 1 run\n {2}\+0x7d0 {2}01000000 00000000$/m,
    );
  });

  test("what is special is said", () => {
    expect(text("I/O")).toMatch(/last exit: VMEXIT_IOIO; OUT port 0x505, 8 bits/);
    expect(text("I/O")).toMatch(
      /25 of 26 checks passed.*\n(?: {2}\+.*\n)+ {2}- save-reserved: not zero at 0x7d0$/m,
    );
    expect(text("event")).toMatch(
      /last exit: VMEXIT_NPF; guest-physical 0x1000: .*; delivering #PF, error code 0x2$/m,
    );
    expect(text("refused")).toMatch(/: VMRUN would fail: 1 error, 20 rules of VMRUN hold$/m);
    expect(text("refused")).toMatch(/^ {2}error {4}not so: ASID is not zero \(APM Vol\. 2 §15\.5\.1\)$/m);
    expect(text("sev-es")).toMatch(/^registers are encrypted in the VMSA$/m);
    expect(text("host save area")).toMatch(/^host save area at 0x000012345000: state of the host$/m);
    expect(text("host save area")).toMatch(/^registers of the host$/m);
    expect(text("nested")).toMatch(/no VMSAVE went to this VMCB/);
  });
});

describe("JSON", () => {
  const output = (page: Buffer) =>
    envelope("vmcb-show", [{ path: "host", size: 1 }], [], vmcbShowJson(shown(page)));
  const check = (page: Buffer) => {
    expect(validate(JSON.parse(output(page))), JSON.stringify(validate.errors?.slice(0, 3))).toBe(true);
  };

  test.each(Object.entries(SPECS))("%s is what the schema says", (_, spec) => check(vmcbPage(spec)));

  test("random pages too", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 4096, maxLength: 4096 }), (bytes) => check(Buffer.from(bytes))),
      { numRuns: 20 },
    );
  });

  test("the schema can fail", () => {
    const json = JSON.parse(output(vmcbPage(SPECS.guest)));
    json.result.fields[0].value = 5;
    expect(validate(json)).toBe(false);
  });

  test("64-bit values are strings, addresses numbers, unknown registers left out", () => {
    const { result } = JSON.parse(output(vmcbPage(SPECS.guest)));
    expect(result).toMatchObject({
      address: 0x1234_5000,
      nestedRoot: 0x5_6789_a000,
      exit: { code: "0x0000000000000078", name: "VMEXIT_HLT" },
      state: { registers: { rip: "0xffffffff81234567" } },
    });
    expect(result.state.registers).not.toHaveProperty("rbx");
  });
});

describe("vmcs diff of VMCBs", () => {
  const side = (name: keyof typeof SPECS) => ({ name, show: shown(vmcbPage(SPECS[name])) });

  test("fields that differ, by area, bits and intercepts by name", () => {
    const page = vmcbPage(SPECS.guest);
    page[0x0c]! ^= 3;
    page.writeBigUInt64LE(0x1000n, 0x578);
    const text = vmcbDiffText(side("guest"), { name: "other", show: shown(page) });
    expect(text).toMatch(/^2 of \d+ fields differ between guest \(<\) and other \(>\)$/m);
    expect(text).toMatch(/^ {2}< guest: consistent, 21 rules of VMRUN hold$/m);
    expect(text).toMatch(
      /^control area\n {2}0x00c {2}intercept_word3\n {10}< 0xbd4c8027\n {10}> 0xbd4c8024\n {12}-INTR, -NMI$/m,
    );
    expect(text).toMatch(
      /^state save area\n {2}0x578 {2}rip\n {10}< 0xffffffff81234567\n {10}> 0x0000000000001000$/m,
    );
    expect(vmcbDiffText(side("guest"), side("guest"))).toMatch(/^0 of /);
  });

  test("JSON is what the schema says, of pages with other fields too", () => {
    const valid = ajv.getSchema("vmcb-diff.json")!;
    for (const other of ["I/O", "host save area", "sev-es"] as const) {
      const result = vmcbDiffJson(side("guest"), side(other));
      const output = JSON.parse(envelope("vmcb-diff", [{ path: "host", size: 1 }], [], result));
      expect(valid(output), JSON.stringify(valid.errors?.slice(0, 3))).toBe(true);
      expect(result.differences.length).toBeGreaterThan(0);
    }
    const { differences } = vmcbDiffJson(side("guest"), side("sev-es"));
    expect(differences.filter(({ area }) => area === "sev-es").map(({ first }) => first)).toContain(null);
  });
});
