import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CorruptError, GuestcoreError, UnsupportedError } from "../src/core/errors.ts";
import { fieldNamed } from "../src/vmx/fields.ts";
import { VMCS_LAYOUTS } from "../src/vmx/layouts.ts";
import { decodeRegionNote, encodeRegionNote, MAX_VCPU, type RegionNote } from "../src/vmx/region-note.ts";
import { infoOf, layoutOf, readVmcsInfo, writeVmcsInfo } from "../src/vmx/vmcsinfo.ts";
import { ENCODED_REGISTERS } from "../src/x86/state.ts";
import { patternBytes, random } from "./synth/pattern.ts";
import { regionNote } from "./synth/vmcs.ts";

const bytes = patternBytes(4096, 7, { zero: () => false });
const NOTE: RegionNote = { owner: "VMCS", vcpu: 3, complete: true, address: 0x254_9000, bytes };

describe("the note of a control block", () => {
  test("is written as docs/formats.md says", () => {
    const { name, type, desc } = encodeRegionNote(NOTE);
    expect([name, type]).toEqual(["VMCS", 0]);
    expect(desc.equals(regionNote({ vcpu: 3, bytes }))).toBe(true);
    const unknown = encodeRegionNote({ ...NOTE, owner: "VMCB", address: undefined, complete: false });
    expect(unknown.name).toBe("VMCB");
    expect(unknown.desc.equals(regionNote({ vcpu: 3, bytes, flags: 0, address: (1n << 64n) - 1n }))).toBe(
      true,
    );
  });

  test("says the same when it is read again", () => {
    fc.assert(
      fc.property(
        fc.constantFrom("VMCS" as const, "VMCB" as const),
        fc.nat(MAX_VCPU - 1),
        fc.boolean(),
        fc.option(fc.nat(2 ** 31), { nil: undefined }),
        fc.uint8Array({ minLength: 4096, maxLength: 4096 }),
        (owner, vcpu, complete, frame, page) => {
          const address = frame === undefined ? undefined : 4096 * frame;
          const note = { owner, vcpu, complete, address, bytes: Buffer.from(page) };
          expect(decodeRegionNote(owner, encodeRegionNote(note).desc)).toEqual(note);
        },
      ),
      { numRuns: 60 },
    );
  });

  test("carries the registers that KVM kept, and which of them are newer", () => {
    const value = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
    const maybe = fc.option(value, { nil: undefined });
    const general = fc.array(value, { minLength: 16, maxLength: 16 });
    const newer = fc.record({ rsp: fc.boolean(), rip: fc.boolean(), cr3: fc.boolean() });
    fc.assert(
      fc.property(
        value,
        general,
        value,
        newer,
        maybe,
        maybe,
        maybe,
        (address, words, rip, fresh, ...others) => {
          const [cr2, cr3, efer] = others;
          const named = Object.fromEntries(ENCODED_REGISTERS.map((name, i) => [name, words[i]!]));
          const registers = { general: named as never, rip, newer: fresh, cr2, cr3, efer };
          const note: RegionNote = { ...NOTE, kept: { address, registers } };
          const { desc } = encodeRegionNote(note);
          expect([desc.readUInt32LE(4), desc.length]).toEqual([200, 200 + 4096]);
          expect(decodeRegionNote("VMCS", desc)).toEqual(note);
        },
      ),
      { numRuns: 60, seed: 8 },
    );
  });

  test.each(["with AVX", "without"])("carries x87 and SSE registers, %s", (avx) => {
    const legacy = Buffer.alloc(512);
    for (let at = 0; at < 416; at++) legacy[at] = at % 251;
    const extended = Buffer.alloc(832);
    legacy.copy(extended);
    for (let at = 464; at < 832; at++) extended[at] = at % 241;
    const general = Object.fromEntries(ENCODED_REGISTERS.map((name) => [name, 1n])) as never;
    const newer = { rsp: false, rip: false, cr3: false };
    const registers = { general, rip: 2n, newer, cr2: undefined, cr3: undefined, efer: undefined };
    const fpu = { legacy, extended: avx === "with AVX" ? extended : undefined };
    const note: RegionNote = { ...NOTE, kept: { address: 1n, registers, fpu } };
    const { desc } = encodeRegionNote(note);
    expect([desc.readUInt32LE(4), desc.length]).toEqual([1032, 1032 + 4096]);
    expect(decodeRegionNote("VMCS", desc)).toEqual(note);
  });

  test("may have a longer header, more flags and more bytes behind", () => {
    const later = regionNote({ vcpu: 3, bytes, flags: 0xffff_ffff, more: Buffer.alloc(24, 0xaa) });
    expect(decodeRegionNote("VMCS", Buffer.concat([later, Buffer.alloc(9, 1)]))).toEqual(NOTE);
  });

  test.each([
    ["another version", regionNote({ vcpu: 0, bytes, version: 2 }), UnsupportedError],
    ["a cut header", regionNote({ vcpu: 0, bytes }).subarray(0, 31), CorruptError],
    ["a cut region", regionNote({ vcpu: 0, bytes }).subarray(0, 4127), CorruptError],
    ["another size", regionNote({ vcpu: 0, bytes, size: 8192 }), CorruptError],
    ["more vCPUs than there can be", regionNote({ vcpu: MAX_VCPU, bytes }), CorruptError],
    ["a header longer than the note", regionNote({ vcpu: 0, bytes }).fill(0xff, 4, 8), CorruptError],
    ["a header shorter than its fields", regionNote({ vcpu: 0, bytes }).fill(0, 4, 8), CorruptError],
    ["nothing at all", Buffer.alloc(0), CorruptError],
  ])("is refused with %s", (_, desc, expected) => {
    expect(() => decodeRegionNote("VMCS", desc)).toThrow(expected);
  });

  const COUNT = Number(process.env.GUESTCORE_MUTANTS ?? 2000);
  const SEED = Number(process.env.GUESTCORE_SEED ?? 20261125);

  test(`${COUNT} mutants of seed ${SEED}`, () => {
    const whole = encodeRegionNote(NOTE).desc;
    const outcomes = { answer: 0, error: 0 };
    for (let i = 0; i < COUNT; i++) {
      const chance = random(Math.imul(SEED, i + 1));
      const desc = Buffer.from(whole.subarray(0, chance.below(3) === 0 ? chance.below(4200) : undefined));
      for (let n = chance.below(3); n > 0 && desc.length > 0; n--) {
        desc[chance.below(Math.min(40, desc.length))] = chance.below(256);
      }
      try {
        const note = decodeRegionNote("VMCS", desc);
        expect(note.bytes).toHaveLength(4096);
        expect(note.vcpu).toBeLessThan(MAX_VCPU);
        outcomes.answer++;
      } catch (error) {
        if (!(error instanceof GuestcoreError)) throw new Error(`#${i}`, { cause: error });
        outcomes.error++;
      }
    }
    expect(outcomes.answer).toBeGreaterThan(0);
    expect(outcomes.error).toBeGreaterThan(0);
  });
});

describe("VMCSINFO of a layout", () => {
  test.each(VMCS_LAYOUTS.map((layout) => [layout.name, layout] as const))(
    "%s says the same when it is read again",
    (_, layout) => {
      const { bytes: desc, leftOut } = writeVmcsInfo(infoOf(layout, layout.revisionId ?? 0x77), "v2");
      const left = new Set(leftOut.map(({ encoding }) => encoding));
      const kept = new Map([...layout.fields].filter(([encoding]) => !left.has(encoding)));
      const again = layoutOf(readVmcsInfo(desc, { accessRights: layout.accessRights }));
      expect(again.revisionId).toBe(layout.revisionId ?? 0x77);
      expect(again.fields).toEqual(kept);
      if (layout.accessRights !== undefined) expect(again.accessRights).toBe(layout.accessRights);
      expect(again.fields.has(fieldNamed("GUEST_RIP")!.encoding)).toBe(
        layout.fields.has(fieldNamed("GUEST_RIP")!.encoding),
      );
    },
  );
});
