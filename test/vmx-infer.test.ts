import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Expected, KnownRegion, Trust } from "../src/vmx/infer/claims.ts";
import { type InferredField, inferLayout } from "../src/vmx/infer/infer.ts";
import { infoOfInferred } from "../src/vmx/infer/info.ts";
import { writeVmcsInfo } from "../src/vmx/vmcsinfo.ts";
import { type FieldPlace, type Places, store, widthOf } from "./support/relayout.ts";

/** Encodings of the SDM and KVM's names for them. */
const NAMES: ReadonlyMap<number, string> = new Map([
  [0x0000, "VIRTUAL_PROCESSOR_ID"],
  ...["ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"].flatMap((name, i): [number, string][] => [
    [0x0800 + 2 * i, `GUEST_${name}_SELECTOR`],
    [0x4800 + 2 * i, `GUEST_${name}_LIMIT`],
    [0x4814 + 2 * i, `GUEST_${name}_AR_BYTES`],
    [0x6806 + 2 * i, `GUEST_${name}_BASE`],
  ]),
  [0x0c02, "HOST_CS_SELECTOR"],
  [0x0c04, "HOST_SS_SELECTOR"],
  [0x2004, "MSR_BITMAP"],
  [0x2008, "VM_EXIT_MSR_LOAD_ADDR"],
  [0x200a, "VM_ENTRY_MSR_LOAD_ADDR"],
  [0x201a, "EPT_POINTER"],
  [0x2800, "VMCS_LINK_POINTER"],
  [0x4002, "CPU_BASED_VM_EXEC_CONTROL"],
  [0x4402, "VM_EXIT_REASON"],
  [0x6800, "GUEST_CR0"],
  [0x6802, "GUEST_CR3"],
  [0x6804, "GUEST_CR4"],
  [0x681c, "GUEST_RSP"],
  [0x681e, "GUEST_RIP"],
  [0x6c00, "HOST_CR0"],
  [0x6c02, "HOST_CR3"],
  [0x6c04, "HOST_CR4"],
  [0x6c06, "HOST_FS_BASE"],
  [0x6c16, "HOST_RIP"],
]);
const named = (name: string): number => [...NAMES].find(([, other]) => other === name)![0];

const REVISION = 0x15;

function page(places: Places, values: ReadonlyMap<number, bigint>): Buffer {
  const bytes = Buffer.alloc(4096);
  bytes.writeUInt32LE(REVISION, 0);
  for (const [encoding, value] of values) {
    const place = places.get(encoding);
    if (place !== undefined) store(bytes, encoding, place, value);
  }
  return bytes;
}

const written = (value: bigint, trust: Trust = "written"): Expected => ({ value, trust, source: "KVM" });

const region = (
  places: Places,
  values: ReadonlyMap<number, bigint>,
  known: Readonly<Record<string, Expected>>,
): KnownRegion => ({ address: 0x1000, bytes: page(places, values), known: new Map(Object.entries(known)) });

const at = (entries: readonly (readonly [name: string, offset: number])[]): Places =>
  new Map(entries.map(([name, offset]): [number, FieldPlace] => [named(name), { offset, form: "plain" }]));

const field = (fields: readonly InferredField[], name: string) =>
  fields.find(({ encoding }) => encoding === named(name));

/** An address that makes a region one that KVM wrote. */
const BITMAP = 0x1_2345_6000n;

describe("certainty", () => {
  const places = at([
    ["MSR_BITMAP", 0x100],
    ["HOST_RIP", 0x108],
    ["GUEST_CR3", 0x110],
    ["HOST_CR3", 0x118],
    ["VM_EXIT_REASON", 0x120],
    ["HOST_CR0", 0x128],
  ]);
  const values = (cr3: bigint) =>
    new Map([
      [named("MSR_BITMAP"), BITMAP],
      [named("HOST_RIP"), 0xffff_ffff_c057_53aen],
      [named("GUEST_CR3"), cr3],
      [named("HOST_CR3"), 0x1_0234_5000n],
      [named("VM_EXIT_REASON"), 12n],
      [named("HOST_CR0"), 0x8005_0033n],
    ]);
  const known = {
    MSR_BITMAP: written(BITMAP),
    HOST_RIP: written(0xffff_ffff_c057_53aen),
    HOST_CR3: written(0x1_0234_5000n),
    VM_EXIT_REASON: written(12n),
    HOST_CR0: written(0x8005_0033n, "derived"),
  };
  const infer = (regions: readonly KnownRegion[], flushed = true) => inferLayout(regions, flushed)!.fields;

  test("an address that is in one place", () => {
    const fields = infer([region(places, values(0x1234n), known)]);
    expect(field(fields, "MSR_BITMAP")).toMatchObject({ verdict: "certain", offset: 0x100 });
    expect(field(fields, "HOST_RIP")).toMatchObject({ verdict: "certain", offset: 0x108 });
    expect(field(fields, "HOST_CR3")).toMatchObject({ verdict: "certain", offset: 0x118 });
  });

  test("a small number, or what is derived and the same everywhere, is likely at most", () => {
    const fields = infer([region(places, values(0x1234n), known)]);
    expect(field(fields, "VM_EXIT_REASON")).toMatchObject({ verdict: "likely", offset: 0x120 });
    expect(field(fields, "HOST_CR0")).toMatchObject({ verdict: "likely", offset: 0x128 });
  });

  test("a value in two places is in either, until another VMCS tells", () => {
    const same = region(places, values(0x1_0234_5000n), known);
    expect(field(infer([same]), "HOST_CR3")).toMatchObject({ verdict: "ambiguous", places: [0x110, 0x118] });
    const both = infer([same, region(places, values(0x5000n), known)]);
    expect(field(both, "HOST_CR3")).toMatchObject({ verdict: "certain", offset: 0x118 });
  });

  test("nothing where processors may hold VMCSs themselves", () => {
    const fields = infer([region(places, values(0x1234n), known)], false);
    expect(fields.filter(({ verdict }) => verdict === "certain")).toEqual([]);
    expect(field(fields, "MSR_BITMAP")).toMatchObject({ verdict: "likely", offset: 0x100 });
  });

  test("what KVM had before the last exit counts only where nothing newer is known", () => {
    const old = { ...known, GUEST_CR3: written(0x7777_7777_7000n, "stale") };
    const stale = infer([region(places, values(0x1234n), old)]);
    expect(field(stale, "GUEST_CR3")).toMatchObject({ verdict: "unknown", places: [] });
    const newer = { ...known, GUEST_CR3: written(0x7654_3210_f000n) };
    const fields = infer([
      region(places, values(0x1234n), old),
      region(places, values(0x7654_3210_f000n), newer),
    ]);
    expect(field(fields, "GUEST_CR3")).toMatchObject({ verdict: "certain", offset: 0x110 });
  });

  test("an instruction that was skipped", () => {
    const rip = at([
      ["MSR_BITMAP", 0x100],
      ["GUEST_RIP", 0x200],
    ]);
    const halted = (value: bigint) =>
      region(
        rip,
        new Map([
          [named("MSR_BITMAP"), BITMAP],
          [named("GUEST_RIP"), value - 1n],
        ]),
        { MSR_BITMAP: known.MSR_BITMAP, GUEST_RIP: { ...written(value, "derived"), below: 15n } },
      );
    const fields = infer([halted(0xffff_ffff_8123_4567n), halted(0xffff_ffff_8222_2222n)]);
    expect(field(fields, "GUEST_RIP")).toMatchObject({ verdict: "certain", offset: 0x200 });
  });

  test("regions that lack what was written to them are left out; without others there is no layout", () => {
    const whole = region(places, values(0x1234n), known);
    const empty = region(places, new Map(), known);
    expect(inferLayout([whole, whole, empty], true)).toMatchObject({ used: 2, leftOut: 1 });
    expect(inferLayout([empty], true)).toBeUndefined();
    expect(inferLayout([], true)).toBeUndefined();
  });
});

describe("neighbours", () => {
  const HOST = ["HOST_CR0", "HOST_CR3", "HOST_CR4", "HOST_FS_BASE"];
  const addresses = [0x1111_1000n, 0x2222_2000n, 0x3333_3000n, 0x4444_4000n];
  const row = at([["MSR_BITMAP", 0x80], ...HOST.map((name, i): [string, number] => [name, 0x400 + 8 * i])]);
  const values = new Map([
    [named("MSR_BITMAP"), BITMAP],
    ...HOST.map((name, i): [number, bigint] => [named(name), addresses[i]!]),
  ]);

  test("a field of unknown value between others of its kind", () => {
    const known = Object.fromEntries(
      HOST.filter((name) => name !== "HOST_CR4").map((name) => [
        name,
        written(addresses[HOST.indexOf(name)]! << 8n),
      ]),
    );
    const shifted = new Map(
      [...values].map(([encoding, value]) => [encoding, encoding === 0x2004 ? value : value << 8n]),
    );
    const { fields } = inferLayout([region(row, shifted, { MSR_BITMAP: written(BITMAP), ...known })], true)!;
    // One pair of neighbours is no rule.
    expect(field(fields, "HOST_CR4")).toBeUndefined();
    const six = new Map([...row, [0x6c08, { offset: 0x420 }], [0x6c0a, { offset: 0x428 }]] as [
      number,
      FieldPlace,
    ][]);
    const more = new Map([...shifted, [0x6c08, 0x55_5555_5000n], [0x6c0a, 0x66_6666_6000n]]);
    const names = { HOST_GS_BASE: written(0x55_5555_5000n), HOST_TR_BASE: written(0x66_6666_6000n) };
    const result = inferLayout(
      [region(six, more, { MSR_BITMAP: written(BITMAP), ...known, ...names })],
      true,
    )!;
    expect(field(result.fields, "HOST_CR4")).toMatchObject({ verdict: "likely", offset: 0x410 });
  });

  test("parts of a segment as in the others, backwards too", () => {
    const segments = ["ES", "CS", "SS", "DS"];
    const places = at([
      ["MSR_BITMAP", 0x80],
      ...segments.flatMap((name, i): [string, number][] => [
        [`GUEST_${name}_SELECTOR`, 0x300 - 32 * i],
        [`GUEST_${name}_BASE`, 0x308 - 32 * i],
      ]),
    ]);
    const base = (i: number) => 0x1_0000_0000n * BigInt(i + 1) + 0x123_4000n;
    const held = new Map([
      [named("MSR_BITMAP"), BITMAP],
      ...segments.flatMap((name, i): [number, bigint][] => [
        // The selectors of two are the same.
        [named(`GUEST_${name}_SELECTOR`), BigInt(0x1230 + (i === 3 ? 0 : i))],
        [named(`GUEST_${name}_BASE`), base(i)],
      ]),
    ]);
    const known = Object.fromEntries(
      segments.flatMap((name, i): [string, Expected][] => [
        [`GUEST_${name}_SELECTOR`, written(held.get(named(`GUEST_${name}_SELECTOR`))!)],
        [`GUEST_${name}_BASE`, written(base(i))],
      ]),
    );
    const { fields } = inferLayout([region(places, held, { MSR_BITMAP: written(BITMAP), ...known })], true)!;
    for (const [i, name] of segments.entries()) {
      expect(field(fields, `GUEST_${name}_SELECTOR`)).toMatchObject({
        verdict: "likely",
        offset: 0x300 - 32 * i,
      });
    }
  });
});

describe("access rights", () => {
  test.each(["plain", "rotated", "packed"] as const)("stored %s", (form) => {
    const rights = new Map([
      [named("GUEST_CS_AR_BYTES"), 0xa09bn],
      [named("GUEST_SS_AR_BYTES"), 0xc093n],
      [named("GUEST_TR_AR_BYTES"), 0x8bn],
      [named("GUEST_LDTR_AR_BYTES"), 0x1_0000n],
    ]);
    const places = new Map<number, FieldPlace>([
      [named("MSR_BITMAP"), { offset: 0x80 }],
      ...[...rights.keys()].map((encoding, i): [number, FieldPlace] => [
        encoding,
        { offset: 0x202 + 8 * i - (form === "packed" ? 0 : 2), form },
      ]),
    ]);
    const known = Object.fromEntries(
      [...rights].map(([encoding, value]) => [NAMES.get(encoding)!, written(value)]),
    );
    const values = new Map([...rights, [named("MSR_BITMAP"), BITMAP]]);
    const inferred = inferLayout([region(places, values, { MSR_BITMAP: written(BITMAP), ...known })], true)!;
    expect(inferred.accessRights).toBe(form);
    for (const encoding of rights.keys()) {
      const found = inferred.fields.find((other) => other.encoding === encoding)!;
      const offset = places.get(encoding)!.offset;
      expect(found.offset === undefined ? found.places : [found.offset]).toContain(offset);
    }
    const info = infoOfInferred(inferred, false);
    expect(info.accessRights?.form).toBe(form);
    expect(writeVmcsInfo(info, "table").bytes.toString()).toContain("# revision 0x15");
    expect(infoOfInferred(inferred, true).records.every(({ certainty }) => certainty === "certain")).toBe(
      true,
    );
  });
});

/** Fields without overlap at places that are multiples of their size, in an order of its own. */
const anyPlaces = fc
  .array(fc.nat(), { minLength: NAMES.size, maxLength: NAMES.size })
  .map((order): Places => {
    const shuffled = [...NAMES.keys()].map((encoding, i) => [order[i]!, encoding] as const);
    let offset = 8;
    return new Map(
      [...shuffled]
        .sort(([a], [b]) => a - b)
        .map(([gap, encoding]): [number, FieldPlace] => {
          const width = widthOf(encoding);
          offset = Math.ceil((offset + (gap % 3) * 4) / width) * width;
          const place = { offset, form: "rotated" as const };
          offset += width;
          return [encoding, place];
        }),
    );
  });

/** Few values, so that many fields have the same. */
const anyValue = fc.oneof(
  fc.constantFrom(0n, 1n, 0x10n, 0x18n, 0xffff_ffffn, (1n << 64n) - 1n, 0x8005_0033n, 0xa09bn, 0x1_0000n),
  fc.bigInt({ min: 0n, max: 7n }).map((i) => 0xffff_8880_0123_4000n + (i << 12n)),
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
);

const masked = (encoding: number, value: bigint): bigint =>
  BigInt.asUintN(8 * widthOf(encoding), encoding >= 0x4814 && encoding <= 0x4822 ? value & 0x1_f0ffn : value);

describe("any layout", () => {
  const anyRegion = fc.array(fc.tuple(anyValue, fc.constantFrom("written", "none", "stale"), anyValue), {
    minLength: NAMES.size,
    maxLength: NAMES.size,
  });

  test("what is certain is right, whatever values fields share and however old others are", () => {
    let certain = 0;
    fc.assert(
      fc.property(anyPlaces, fc.array(anyRegion, { minLength: 1, maxLength: 4 }), (places, rows) => {
        const regions = rows.map((row) => {
          const cells = [...NAMES].map(([encoding, name], i) => ({ encoding, name, cell: row[i]! }));
          const values = new Map(
            cells.map(({ encoding, cell: [value] }) => [encoding, masked(encoding, value)]),
          );
          const known = cells.flatMap(({ encoding, name, cell: [, trust, old] }): [string, Expected][] => {
            if (trust === "none") return [];
            const value = trust === "stale" ? masked(encoding, old) : values.get(encoding)!;
            return [[name, written(value, trust as Trust)]];
          });
          return region(places, values, Object.fromEntries(known));
        });
        for (const found of inferLayout(regions, true)?.fields ?? []) {
          if (found.verdict !== "certain") continue;
          certain++;
          expect([found.encoding, found.offset]).toEqual([
            found.encoding,
            places.get(found.encoding)?.offset,
          ]);
        }
      }),
      { seed: 0x5eed, numRuns: 60 },
    );
    expect(certain).toBeGreaterThan(200);
  }, 60_000);

  test("bytes that are no VMCS give no places outside of it, and no exception", () => {
    const anyKnown = fc.array(fc.tuple(fc.constantFrom(...NAMES.values()), anyValue, anyValue), {
      maxLength: 20,
    });
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 4096, maxLength: 4096 }),
        anyKnown,
        fc.boolean(),
        (bytes, known, exact) => {
          const fields = new Map(
            known.map(([name, value, mask]): [string, Expected] => [
              name,
              { ...written(value), ...(exact ? {} : { mask }) },
            ]),
          );
          // Something of it is in the page.
          fields.set("MSR_BITMAP", written(Buffer.from(bytes).readBigUInt64LE(0x700)));
          for (const { offset, places } of inferLayout([{ address: 0, bytes, known: fields }], true)
            ?.fields ?? []) {
            for (const place of [...places, ...(offset === undefined ? [] : [offset])]) {
              expect(place).toBeGreaterThanOrEqual(8);
              expect(place).toBeLessThanOrEqual(4094);
            }
          }
        },
      ),
      { seed: 7, numRuns: 40 },
    );
  }, 60_000);
});
