import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { UnsupportedError, UsageError } from "../src/core/errors.ts";
import { ACCESS_RIGHTS_FORMS } from "../src/vmx/access-rights.ts";
import { VMCS_FIELDS } from "../src/vmx/fields.ts";
import { encodeOffset } from "../src/vmx/offset-pattern.ts";
import { layoutOf, readVmcsInfo, type VmcsInfo, writeVmcsInfo } from "../src/vmx/vmcsinfo.ts";
import {
  array,
  bytesOf,
  code,
  E7500,
  type Field,
  PACKED,
  rekall,
  sysfs,
  table,
  v1Text,
  v2Binary,
  vmread,
} from "./synth/vmcsinfo.ts";

const text = (lines: string): Buffer => Buffer.from(lines, "latin1");
const placesOf = (info: VmcsInfo) => info.records.map(({ encoding, offset }) => [encoding, offset]);
const expected = (fields: readonly Field[]) => fields.map(({ encoding, offset }) => [encoding, offset]);
const kinds = (info: VmcsInfo) => info.problems.map(({ kind }) => kind);
const sorted = (fields: readonly Field[]) => [...fields].sort((a, b) => a.encoding - b.encoding);

describe("published values", () => {
  test("the v1 note of the E7500, byte for byte", () => {
    const info = readVmcsInfo(
      text(
        "REVISION_ID=d\nFIELD(PIN_BASED_VM_EXEC_CONTROL)=01840180\nFIELD(CPU_BASED_VM_EXEC_CONTROL)=01940190\n" +
          "FIELD(SECONDARY_VM_EXEC_CONTROL)=0fe40fe0\nFIELD(VM_EXIT_CONTROLS)=01e401e0\n" +
          "FIELD(VM_ENTRY_CONTROLS)=03140310\nFIELD(GUEST_ES_SELECTOR)=0500\n",
      ),
    );
    expect(info).toMatchObject({ form: "v1", revisionId: 0xd, pattern: "codes", problems: [] });
    expect(placesOf(info)).toEqual([
      [0x4000, 0x40],
      [0x4002, 0x48],
      [0x401e, 0x3f0],
      [0x400c, 0x70],
      [0x4012, 0x88],
      [0x0800, 0x100],
    ]);
    expect(info.records.every(({ certainty }) => certainty === "certain")).toBe(true);
  });

  test("the v2 note of the E7500 behind its ELF note header", () => {
    const bytes = Buffer.from(
      "090000003400000000000000564d4353494e464f000000000d0000000040000080018401000000000240000090019401000000001e400000e00fe40f000000000c400000e001e40100000000",
      "hex",
    );
    const info = readVmcsInfo(bytes.subarray(24));
    expect(info).toMatchObject({ form: "v2", revisionId: 0xd, problems: [] });
    expect(placesOf(info)).toEqual([
      [0x4000, 0x40],
      [0x4002, 0x48],
      [0x401e, 0x3f0],
      [0x400c, 0x70],
    ]);
    expect(writeVmcsInfo(info, "v2").bytes.equals(bytes.subarray(24))).toBe(true);
  });

  test("the E7540", () => {
    const info = readVmcsInfo(
      text(
        "REVISION_ID=e\nFIELD(PIN_BASED_VM_EXEC_CONTROL)=05540550\nFIELD(CPU_BASED_VM_EXEC_CONTROL)=05440540\n" +
          "FIELD(SECONDARY_VM_EXEC_CONTROL)=054c0548\nFIELD(VM_EXIT_CONTROLS)=057c0578\n",
      ),
    );
    expect(info.records.map(({ offset }) => offset)).toEqual([0x128, 0x120, 0x124, 0x13c]);
  });

  test.each([
    [0x0800, 0x100, 0x0500n],
    [0x681e, 0x338, 0x0d7c_0d78_0d74_0d70n],
    [0x681c, 0x330, 0x0d6c_0d68_0d64_0d60n],
    [0x6802, 0x308, 0x0d1c_0d18_0d14_0d10n],
    [0x2800, 0x20, 0x014c_0148_0144_0140n],
    [0x2801, 0x24, 0x014c_0148n],
    [0x6800, 0x7c, 0x0304_0300_01fc_01f8n],
  ])("%i at %i reads %i", (encoding, offset, raw) => {
    expect(vmread({ encoding, offset })).toBe(raw);
    expect(encodeOffset(encoding, offset)).toBe(raw);
  });
});

describe("every form of the same fields", () => {
  const members = E7500.filter(({ form }) => form === undefined);
  const inputs: [string, string, Parameters<typeof readVmcsInfo>[0], readonly Field[]][] = [
    ["v1", "v1", text(v1Text(0xd, E7500)), E7500],
    ["v1 with NULs and CRs", "v1", text(`${v1Text(0xd, E7500).replaceAll("\n", "\r\n")}\0\0\0`), E7500],
    ["v2", "v2", v2Binary(0xd, E7500), E7500],
    ["v2, padded", "v2", Buffer.concat([v2Binary(0xd, E7500), Buffer.alloc(3000)]), E7500],
    ["v2 with zero records", "v2", withZeroRecord(v2Binary(0xd, E7500)), E7500],
    ["v2 of plain offsets", "v2", v2Binary(0xd, E7500, (offset) => offset), E7500],
    ["array", "array", array(0xd, E7500), E7500],
    ["array without revision", "array", array(undefined, E7500), E7500],
    ["array of u16", "array", array(undefined, E7500, 2), E7500],
    ["array of u16 with revision", "array", array(0xd, E7500, 2), E7500],
    ["table", "table", text(table(0xd, E7500)), E7500],
    ["sysfs v3", "sysfs-v3", sysfs(3, 0xd, E7500), sorted(E7500)],
    ["sysfs v4", "sysfs-v4", sysfs(4, 0xd, E7500), sorted(E7500)],
    ["sysfs v5", "sysfs-v5", sysfs(5, 0xd, E7500), sorted(E7500)],
    ["bare hex", "sysfs-v5", sysfs(5, 0xd, E7500, (value) => value.toString(16)), sorted(E7500)],
    [
      "rekall",
      "rekall",
      text(
        rekall(
          0xd,
          members.map(({ name = "", offset }) => [rekallName(name), offset]),
        ),
      ),
      members,
    ],
  ];

  test.each(inputs)("%s", (_, form, input, fields) => {
    const info = readVmcsInfo(input);
    expect(info.form).toBe(form);
    expect(info.problems.filter(({ kind }) => kind !== "duplicate")).toEqual([]);
    // (0, 0) is padding, not VPID at 0.
    expect(placesOf(info)).toEqual(expected(fields));
    const revisioned = !["sysfs-v3"].includes(form) && !_.includes("without") && _ !== "array of u16";
    expect(info.revisionId).toBe(revisioned ? 0xd : undefined);
    const layout = layoutOf(info);
    for (const { encoding, offset } of fields) expect(layout.fields.get(encoding)).toBe(offset);
  });

  test("access rights: shown by the values, else taken from the layout it equals, else asked for", () => {
    expect(readVmcsInfo(v2Binary(0xd, E7500)).accessRights?.form).toBe("rotated");
    expect(readVmcsInfo(v2Binary(0xd, E7500, (offset) => offset)).accessRights?.form).toBe("rotated");
    expect(readVmcsInfo(v2Binary(0x12, PACKED)).accessRights?.form).toBe("packed");
    expect(readVmcsInfo(text(table(0xd, E7500))).accessRights?.form).toBe("rotated");
    const bare = readVmcsInfo(array(0xd, E7500));
    expect(bare.accessRights).toMatchObject({ form: "rotated", source: expect.stringContaining("penryn") });
    const moved = E7500.map((field) => ({ ...field, offset: field.offset + 0x400 }));
    expect(readVmcsInfo(array(0xd, moved)).accessRights).toBeUndefined();
    expect(layoutOf(readVmcsInfo(array(0xd, moved))).accessRights).toBeUndefined();
    const told = readVmcsInfo(array(0xd, moved), { accessRights: "packed" });
    expect(told.accessRights).toEqual({ form: "packed", source: "--access-rights" });
  });

  test("packed access rights are found beside their selector, else marked as guessed", () => {
    for (const word of [code, (offset: number) => offset]) {
      const info = readVmcsInfo(v2Binary(0x12, PACKED, word));
      expect(placesOf(info)).toEqual(expected(PACKED));
      expect(info.records.filter(({ certainty }) => certainty === "likely")).toHaveLength(4);
      expect(layoutOf(info).unsure.size).toBe(0);
    }
    const alone = PACKED.filter(({ encoding }) => encoding !== 0x0804);
    const info = readVmcsInfo(v2Binary(0x12, alone));
    expect(info.records.find(({ encoding }) => encoding === 0x4818)?.certainty).toBe("ambiguous");
    expect([...layoutOf(info).unsure]).toEqual([0x4818]);
    expect([...layoutOf(info).guessed!]).toEqual([[0x4818, [0x842, 0x8c2, 0x942, 0x9c2]]]);
  });

  test.each([
    ["codes", code, [0x842, 0x8c2, 0x9c2]],
    ["plain offsets", (offset: number) => offset, [0x842, 0xa42, 0xb42, 0xc42, 0xd42, 0xe42, 0xf42]],
  ])("packed access rights are not where another field is for certain: %s", (_, word, others) => {
    const alone = PACKED.filter(({ encoding }) => encoding !== 0x0804);
    // Natural-width fields, the first two of which end on the place.
    const taking = others.map((offset, i) => ({
      encoding: 0x6c00 + 2 * i,
      offset: i < 2 ? offset - 6 : offset,
    }));
    const read = (fields: readonly Field[]) => {
      const info = readVmcsInfo(v2Binary(0x12, [...alone, ...fields], word));
      expect(readVmcsInfo(text(writeVmcsInfo(info, "table").bytes.toString())).problems).toEqual([]);
      expect(info.problems.filter(({ kind }) => kind === "overlap")).toEqual([]);
      return info.records.find(({ encoding }) => encoding === 0x4818);
    };
    expect(read(taking.slice(0, -1))).toMatchObject({ certainty: "ambiguous" });
    expect(read(taking)).toMatchObject({ offset: 0x942, certainty: "likely" });
    const full = [...alone, ...taking, { encoding: 0x6818, offset: 0x940 }];
    const { records, problems } = readVmcsInfo(v2Binary(0x12, full, word));
    expect(records.find(({ encoding }) => encoding === 0x4818)?.offset).toBeUndefined();
    expect(problems.map(({ message }) => message)).toEqual([
      expect.stringMatching(/^GUEST_SS_AR_BYTES.* is of no place that is not another field's$/),
    ]);
  });

  test("rekall's access rights are one too high when rotated, and cut when packed", () => {
    const info = readVmcsInfo(
      text(
        rekall(0x12, [
          ["GUEST_ES_SEL", 0x200],
          ["GUEST_ES_ATTR", 0x215],
          ["GUEST_CS_SEL", 0x330],
          ["GUEST_CS_ATTR", 0x32],
          ["GUEST_INTERRUPT_STATUS", 0x112],
          ["IO_BITMAP_A_FULL", 712],
          ["IO_BITMAP_A_HIGH", 716],
        ]),
      ),
    );
    expect(info.revisionId).toBe(0x12);
    expect(
      info.records.map(({ encoding, offset, accessRights }) => [encoding, offset, accessRights]),
    ).toEqual([
      [0x0800, 0x200, undefined],
      [0x4814, 0x214, "rotated"],
      [0x0802, 0x330, undefined],
      [0x4816, 0x332, "packed"],
      [0x2000, 712, undefined],
      [0x2001, 716, undefined],
    ]);
  });

  test.each([
    ["that the lost bits were none of", [0x20, 0x30], undefined, "ambiguous"],
    ["with a bit that packed ones lose", [0x520, 0x30], undefined, undefined],
    ["that the user calls packed", [0x20, 0x30], "packed", "ambiguous"],
    ["that the user calls plain", [0x20, 0x30], "plain", undefined],
  ] as const)("rekall's access rights %s", (_, [es, cs], accessRights, certainty) => {
    const profile = rekall(0x12, [
      ["GUEST_ES_ATTR", es],
      ["GUEST_CS_ATTR", cs],
      ["GUEST_RIP", 0x200],
    ]);
    const { records } = readVmcsInfo(text(profile), { accessRights });
    expect(records.map((record) => record.certainty)).toEqual([certainty, certainty, undefined]);
  });

  test("a field that sysfs has no offset of is not available, never at 0", () => {
    const files = sysfs(5, 0xd, [...E7500, { encoding: 0x4820, offset: 0 }]);
    const info = readVmcsInfo(files);
    expect(info.records.find(({ encoding }) => encoding === 0x4820)?.offset).toBeUndefined();
    expect(info.problems).toEqual([]);
    expect(layoutOf(info).fields.has(0x4820)).toBe(false);
  });

  test("bare numbers that read as either are refused until the base is told", () => {
    const decimal = [
      { encoding: 0x4000, offset: 64 },
      { encoding: 0x4002, offset: 72 },
      { encoding: 0x681e, offset: 824 },
    ];
    const files = sysfs(5, 13, decimal, (value) => `${value}`);
    expect(() => readVmcsInfo(files)).toThrow(UsageError);
    expect(() => readVmcsInfo(files)).toThrow(/hexadecimal or decimal/);
    const info = readVmcsInfo(files, { numbers: "decimal" });
    expect(info.revisionId).toBe(13);
    expect(placesOf(info)).toEqual(expected(decimal));
    expect(readVmcsInfo(files, { numbers: "hex" }).records[0]?.offset).toBe(0x64);
    const padded = sysfs(5, 13, decimal, (value) => value.toString(16).padStart(4, "0"));
    expect(placesOf(readVmcsInfo(padded))).toEqual(expected(decimal));
  });

  test("a table may name the fields and leave out what it does not know", () => {
    const info = readVmcsInfo(
      text(
        `# revision 0x12\n0x0800 0x20\nGUEST_RIP 0x1d8 8\n4814 0x22 2 - pack16\n0x4816,0x32,2,-,packed\nGUEST_RSP 1e0\n`,
      ),
    );
    expect(info.revisionId).toBe(0x12);
    expect(placesOf(info)).toEqual([
      [0x0800, 0x20],
      [0x681e, 0x1d8],
      [0x4814, 0x22],
      [0x4816, 0x32],
      [0x681c, 0x1e0],
    ]);
    expect(info.accessRights?.form).toBe("packed");
    expect(info.problems).toEqual([]);
  });
});

/** A record of zeros in front of the others. */
const withZeroRecord = (note: Buffer): Buffer =>
  Buffer.concat([note.subarray(0, 4), Buffer.alloc(12), note.subarray(4)]);

const REKALL_NAMES: Readonly<Record<string, string>> = {
  PIN_BASED_VM_EXEC_CONTROL: "PIN_VM_EXEC_CONTROLS",
  CPU_BASED_VM_EXEC_CONTROL: "PROC_VM_EXEC_CONTROLS",
  SECONDARY_VM_EXEC_CONTROL: "PROC_VM_EXEC_CONTROLS2",
  VM_EXIT_CONTROLS: "EXIT_CONTROLS",
  VM_ENTRY_CONTROLS: "ENTRY_CONTROLS",
  GUEST_ES_SELECTOR: "GUEST_ES_SEL",
  GUEST_CS_SELECTOR: "GUEST_CS_SEL",
  VMCS_LINK_POINTER: "VMCS_LINK_PTR_FULL",
  VMCS_LINK_POINTER_HIGH: "VMCS_LINK_PTR_HIGH",
};
const rekallName = (name: string): string => REKALL_NAMES[name] ?? name;

describe("problems", () => {
  test("the last of several records counts, and is told", () => {
    const info = readVmcsInfo(v2Binary(0xd, [...E7500, { encoding: 0x681e, offset: 0x3a0 }]));
    expect(kinds(info)).toEqual(["duplicate"]);
    expect(info.problems[0]?.message).toContain(
      "GUEST_RIP (0x681e) is there 2 times: the last is used, at 0x3a0",
    );
    expect(layoutOf(info).fields.get(0x681e)).toBe(0x3a0);
  });

  test("encodings with reserved bits are told and left out, unassigned ones are kept", () => {
    const odd = [...E7500, { encoding: 0x1800, offset: 0x200 }, { encoding: 0x0830, offset: 0x210 }];
    const info = readVmcsInfo(v2Binary(0xd, odd));
    expect(kinds(info)).toEqual(["unknown-encoding", "unknown-encoding"]);
    expect(layoutOf(info).fields.has(0x1800)).toBe(false);
    expect(layoutOf(info).fields.get(0x0830)).toBe(0x210);
  });

  test("a value of no place is told, kept through v2 and left out of the layout", () => {
    const bytes = v2Binary(0xd, E7500);
    bytes.writeBigUInt64LE(0x1234_5678n, 8);
    const info = readVmcsInfo(bytes);
    expect(info.problems[0]).toMatchObject({ kind: "undecodable", encoding: 0x4000 });
    expect(layoutOf(info).fields.has(0x4000)).toBe(false);
    expect(writeVmcsInfo(info, "v2").bytes.equals(bytes)).toBe(true);
  });

  test("two fields on the same bytes", () => {
    const info = readVmcsInfo(array(0xd, [...E7500, { encoding: 0x0810, offset: 0x118 }]));
    expect(info.problems[0]).toMatchObject({ kind: "overlap" });
    expect(info.problems[0]?.message).toContain("GUEST_CS_SELECTOR (0x0802) and GUEST_INTR_STATUS (0x0810)");
  });

  test("a high half right behind its low half is no overlap, elsewhere it is its own", () => {
    const halves = [
      { encoding: 0x2000, offset: 0x20 },
      { encoding: 0x2001, offset: 0x24 },
      { encoding: 0x2002, offset: 0x30 },
      { encoding: 0x2003, offset: 0x3c },
      { encoding: 0x4000, offset: 0x34 },
    ];
    expect(readVmcsInfo(array(0xd, halves)).problems).toEqual([]);
    const hit = halves.map((field) => (field.encoding === 0x2003 ? { ...field, offset: 0x34 } : field));
    expect(kinds(readVmcsInfo(array(0xd, hit)))).toEqual(["overlap"]);
  });

  test("places outside of a region", () => {
    const info = readVmcsInfo(text("0x681e 0x4\n0x681c 0xffc\n0x6820 0xff8\n"));
    expect(kinds(info)).toEqual(["out-of-range", "out-of-range"]);
    expect([...layoutOf(info).fields]).toEqual([[0x6820, 0xff8]]);
  });

  test("access rights stored in two ways: the majority counts", () => {
    const mixed = E7500.map((field) =>
      field.encoding === 0x4816 ? { ...field, form: "plain" as const } : field,
    );
    const info = readVmcsInfo(
      v2Binary(0xd, [...mixed, { encoding: 0x4818, offset: 0x144, form: "rotated" as const }]),
    );
    expect(info.accessRights?.form).toBe("rotated");
    expect(kinds(info)).toEqual(["mixed-access-rights"]);
    expect(layoutOf(info).fields.has(0x4816)).toBe(false);
    expect(layoutOf(info).fields.get(0x4818)).toBe(0x144);
  });

  test("columns that contradict each other: the offset counts", () => {
    const info = readVmcsInfo(
      text("0x681e 0x338 8 0xd6c0d680d640d60\n0x681c 0x330 4\n0x6802 0x308 8 0xd1c0d180d140d10\n"),
    );
    expect(kinds(info)).toEqual(["contradiction", "contradiction"]);
    expect(info.records.map(({ offset }) => offset)).toEqual([0x338, 0x330, 0x308]);
    expect(info.records.map(({ certainty }) => certainty)).toEqual([undefined, undefined, "certain"]);
  });

  test("names and lines that are none", () => {
    const info = readVmcsInfo(
      text("REVISION_ID=d\nFIELD(GUEST_RIP)=0d7c0d780d740d70\nFIELD(NO_SUCH)=0500\nFIELD(GUEST_RSP=1\n"),
    );
    expect(kinds(info)).toEqual(["unknown-name", "undecodable"]);
  });

  test.each([
    ["nothing", Buffer.alloc(0)],
    ["zeros", Buffer.alloc(4096)],
    ["prose", text("This is a letter about a processor.\nIt has two lines.\n")],
    ["other hex", text("dead beef\ncafe babe\n")],
    ["noise", Buffer.from(Array.from({ length: 999 }, (_, i) => (i * 167 + 13) % 256))],
    ["a tree of something else", new Map([["proc/cpuinfo", "processor: 0"]])],
  ])("%s is refused", (_, input) => {
    expect(() => readVmcsInfo(input)).toThrow(UnsupportedError);
  });
});

describe("writing", () => {
  const full = readVmcsInfo(v2Binary(0xd, E7500));

  test.each(["v1", "v2", "array", "table"] as const)("%s reads back as it was", (to) => {
    const { bytes, leftOut } = writeVmcsInfo(full, to);
    expect(leftOut).toEqual([]);
    const again = readVmcsInfo(bytes);
    expect(again.form).toBe(to);
    expect(again.revisionId).toBe(0xd);
    expect(placesOf(again)).toEqual(placesOf(full));
    expect(layoutOf(again).accessRights).toBe("rotated");
  });

  test("v1 and v2 are what the patches wrote", () => {
    expect(writeVmcsInfo(full, "v1").bytes.toString()).toBe(v1Text(0xd, E7500));
    expect(writeVmcsInfo(full, "v2").bytes.equals(v2Binary(0xd, E7500))).toBe(true);
    expect(writeVmcsInfo(full, "array").bytes.equals(array(0xd, E7500))).toBe(true);
  });

  test("what a form cannot hold is told", () => {
    const odd = readVmcsInfo(text("0x681e 0x339\n0x200c 0x200\n0x4814 0x114\n0x6820 0\n"));
    expect(writeVmcsInfo(odd, "v1").leftOut.map(({ reason }) => reason)).toEqual([
      expect.stringContaining("odd"),
      expect.stringContaining("no name"),
      expect.stringContaining("not known"),
      expect.stringContaining("place"),
    ]);
    expect(writeVmcsInfo(odd, "table").leftOut).toHaveLength(1);
  });
});

describe("properties", () => {
  const field = fc
    .record({
      encoding: fc.constantFrom(...VMCS_FIELDS.map(({ encoding }) => encoding)),
      high: fc.boolean(),
      form: fc.constantFrom(...ACCESS_RIGHTS_FORMS),
      place: fc.nat(),
    })
    .map(({ encoding, high, form, place }): Field => {
      const isWide = ((encoding >> 13) & 3) === 1;
      const spelt = isWide && high ? encoding + 1 : encoding;
      const size = encoding >= 0x4814 && encoding <= 0x4822 && form === "packed" ? 2 : bytesOf(spelt);
      const offset = 8 + 2 * (place % ((4096 - 8 - size) / 2 + 1));
      const isAccess = encoding >= 0x4814 && encoding <= 0x4822;
      return isAccess ? { encoding: spelt, offset, form } : { encoding: spelt, offset };
    });

  test("what was encoded decodes to the same place, for every field, width, form and even offset", () => {
    fc.assert(
      fc.property(field, ({ encoding, offset, form }) => {
        const extra: Field[] = form === "packed" ? [{ encoding: encoding - 0x4014, offset: offset - 2 }] : [];
        fc.pre(offset - 2 >= 8 || form !== "packed");
        const others = E7500.filter((f) => f.encoding !== encoding && f.encoding !== extra[0]?.encoding);
        const one: Field = form === undefined ? { encoding, offset } : { encoding, offset, form };
        expect(encodeOffset(encoding, offset, form)).toBe(vmread(one));
        const info = readVmcsInfo(v2Binary(1, [...extra, ...others, one]));
        const record = info.records.findLast((r) => r.encoding === encoding);
        expect(record).toMatchObject({ offset, accessRights: form });
      }),
      { numRuns: 2000 },
    );
  });

  test("any set of fields survives every writable form", () => {
    const set = fc.uniqueArray(
      field.filter(({ form }) => form !== "packed"),
      { minLength: 4, maxLength: 40, selector: ({ encoding }) => encoding },
    );
    fc.assert(
      fc.property(
        set,
        fc.nat({ max: 0x7fff_ffff }),
        fc.constantFrom("plain", "rotated"),
        (fields, revision, form) => {
          const same = fields.map((each) => (each.form === undefined ? each : { ...each, form }) as Field);
          const info = readVmcsInfo(v2Binary(revision, same));
          for (const to of ["v2", "array", "table"] as const) {
            const again = readVmcsInfo(writeVmcsInfo(info, to).bytes);
            expect(again.form).toBe(to);
            expect(again.revisionId).toBe(revision);
            expect(placesOf(again)).toEqual(expected(same));
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});
