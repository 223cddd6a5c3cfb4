import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { openVmcsInfo } from "../src/jobs/vmcsinfo.ts";
import { attachVmcsInfo } from "../src/jobs/vmcsinfo-attach.ts";
import { convertVmcsInfo } from "../src/jobs/vmcsinfo-write.ts";
import { layoutOf } from "../src/vmx/vmcsinfo.ts";
import { quiet } from "./support/memory-io.ts";
import { readVmcore } from "./support/read-vmcore.ts";

/** A real KVM host's vmcore, and where its processor keeps the fields, measured on it by other software. */
const SHARED = join(process.env.GUESTCORE_DATA ?? join(import.meta.dirname, "../../shared/data"));
const DATA = join(SHARED, "vmx/pattern-guest");
const TABLE = join(DATA, "truth/vmcsinfo.txt");
const ADD_NOTE = join(SHARED, "../lab/add_vmcsinfo_note.py");
const NAMES = join(SHARED, "../facts/vmcs-fields.json");

const has = (tool: string, flag = "--version"): boolean => spawnSync(tool, [flag]).error === undefined;
const reason = [DATA, ADD_NOTE, NAMES].find((path) => !existsSync(path));
const skipped =
  reason !== undefined ? `no ${reason}` : has("zstd") && has("python3") ? undefined : "no zstd or python3";

describe.skipIf(skipped !== undefined)(
  `pattern-guest${skipped === undefined ? "" : ` (skipped: ${skipped})`}`,
  () => {
    const directory = mkdtempSync(join(tmpdir(), "guestcore-vmcsinfo-"));
    afterAll(() => rmSync(directory, { recursive: true }));
    const at = (name: string): string => join(directory, name);

    /** Encoding → offset and access-rights form, by a reader of its own. */
    const truth = new Map(
      (skipped === undefined ? readFileSync(TABLE, "latin1") : "")
        .split("\n")
        .filter((line) => line.startsWith("0x"))
        .map((line) => line.split(" "))
        .map(([encoding, offset, , , form]) => [Number(encoding), { offset: Number(offset), form }]),
    );

    function unpack(name: string): string {
      const path = at(name.replace(".zst", ""));
      if (existsSync(path)) return path;
      const { status } = spawnSync("zstd", ["-qd", "--long=27", join(DATA, name), "-o", path]);
      expect(status).toBe(0);
      return path;
    }

    /** The note as the 2012 patches would have left it, by a writer of its own. */
    function withNote(form: string, table = TABLE): string {
      const path = at(`${form}.elf`);
      const { status, stderr } = spawnSync("python3", [
        ADD_NOTE,
        unpack("vmcore.reduced.elf.zst"),
        table,
        path,
        form,
        NAMES,
      ]);
      expect(stderr.toString()).toBe("");
      expect(status).toBe(0);
      return path;
    }

    const places = async (path: string) => {
      const { info } = await openVmcsInfo(path, {}, quiet);
      expect(info.problems).toEqual([]);
      expect(info.revisionId).toBe(0x2b);
      return { info, layout: layoutOf(info) };
    };

    test("the table itself, its raw values confirming every offset", async () => {
      const { info, layout } = await places(TABLE);
      expect(info.form).toBe("table");
      expect(info.pattern).toBe("offsets");
      expect(info.records.every(({ certainty }) => certainty === "certain")).toBe(true);
      expect(layout.accessRights).toBe("rotated");
      expect(layout.fields.size).toBe(truth.size);
    });

    test.each(["v1", "v2", "array"])("the %s note, wherever it stands among the notes", async (form) => {
      const { info, layout } = await places(withNote(form));
      expect(info.form).toBe(form);
      expect(layout.accessRights).toBe("rotated");
      // The text note has only the fields KVM had names for.
      expect(layout.fields.size).toBeGreaterThanOrEqual(form === "v1" ? 128 : truth.size);
      for (const [encoding, offset] of layout.fields) expect(offset).toBe(truth.get(encoding)?.offset);
    });

    test("the v2 note another dump carries", async () => {
      const { info, layout } = await places(join(DATA, "vmcore.reduced.v2note.elf.zst"));
      expect(info.form).toBe("v2");
      expect(layout.fields.size).toBe(truth.size);
      for (const [encoding, { offset }] of truth) expect(layout.fields.get(encoding)).toBe(offset);
    });

    test("access rights packed beside their selectors", async () => {
      const table = at("packed.txt");
      const lines = ["# revision 0x12"];
      for (const [encoding, { offset }] of truth) {
        const isAccess = encoding >= 0x4814 && encoding <= 0x4822;
        const selector = truth.get(encoding - 0x4014)?.offset;
        const place = isAccess ? selector! + 2 : offset;
        lines.push(`0x${encoding.toString(16)} 0x${place.toString(16)} 4 0 ${isAccess ? "pack16" : "plain"}`);
      }
      const sized = lines.map((line) => {
        const encoding = Number(line.split(" ")[0]);
        const width = (encoding >> 13) & 3;
        const size = width === 0 ? 2 : width === 2 || (width === 1 && encoding % 2 === 1) ? 4 : 8;
        return line.startsWith("#") ? line : line.replace(" 4 0 ", ` ${size} 0 `);
      });
      writeFileSync(table, `${sized.join("\n")}\n`);
      const { info } = await openVmcsInfo(withNote("v2", table), {}, quiet);
      const layout = layoutOf(info);
      expect(layout.accessRights).toBe("packed");
      expect(layout.unsure.size).toBe(0);
      for (let i = 0; i < 8; i++) {
        expect(layout.fields.get(0x4814 + 2 * i)).toBe(truth.get(0x0800 + 2 * i)!.offset + 2);
      }
    });

    test("our notes are those of the other writer, byte for byte", async () => {
      for (const to of ["v1", "v2", "array"] as const) {
        const output = at(`ours.${to}`);
        const options = { input: TABLE, output, to, note: false, force: true };
        await convertVmcsInfo(options, quiet, () => "");
        const theirs = readVmcore(readFileSync(withNote(to))).notes.at(-1);
        expect(theirs?.name).toBe("VMCSINFO");
        const ours = readFileSync(output);
        if (to !== "v1") expect(ours.equals(theirs!.desc)).toBe(true);
        // It does not write the high halves, which KVM has names for.
        else {
          const lines = ours.toString().split("\n");
          expect(lines.filter((line) => !line.includes("_HIGH)=")).join("\n")).toBe(theirs!.desc.toString());
        }
      }
    });

    test("attached to the dump: its memory and notes stay, the readers still open it", async () => {
      const dump = unpack("vmcore.reduced.elf.zst");
      const output = at("attached.elf");
      const options = { dump, from: TABLE, output, to: "v2", replace: false, force: true } as const;
      const { added } = await attachVmcsInfo(options, quiet);
      const before = readVmcore(readFileSync(dump));
      const after = readVmcore(readFileSync(output));
      expect(added.shift % 4096).toBe(0);
      expect(after.loads.length).toBe(before.loads.length);
      for (const [i, load] of before.loads.entries()) {
        expect(after.loads[i]).toMatchObject({ paddr: load.paddr, vaddr: load.vaddr, align: load.align });
        expect(after.loads[i]!.bytes.equals(load.bytes)).toBe(true);
      }
      expect(after.notes.slice(0, -1)).toEqual(before.notes);
      const { layout } = await places(output);
      expect(layout.fields.size).toBe(truth.size);
      await expect(
        attachVmcsInfo({ ...options, dump: output, output: at("twice.elf") }, quiet),
      ).rejects.toThrow(/has a VMCSINFO note already/);
      const replaced = { ...options, dump: output, output: at("replaced.elf"), replace: true };
      await attachVmcsInfo(replaced, quiet);
      expect(readFileSync(at("replaced.elf")).equals(readFileSync(output))).toBe(true);
      for (const crash of ["crash"].filter((tool) => has(tool, "-v"))) {
        const { stdout } = spawnSync(crash, ["--osrelease", output]);
        expect(stdout.toString().trim()).toBe("6.1.0-56-cloud-amd64");
      }
      if (has("readelf")) {
        const { stdout, stderr } = spawnSync("readelf", ["-lnW", output]);
        expect(stderr.toString()).toBe("");
        expect(stdout.toString()).toContain("VMCSINFO");
      }
    });
  },
);
