import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { triagePstore } from "../src/jobs/triage-pstore.ts";
import { readStore } from "../src/triage/pstore/read-file.ts";
import { type PstoreRecord, withoutEcc } from "../src/triage/pstore/record.ts";
import { pstoreReport } from "../src/triage/pstore/report.ts";
import { quiet } from "./support/memory-io.ts";
import { filesIn, triageData, whyNoTriageData } from "./support/triage-data.ts";

const why = whyNoTriageData();
const stores = why === undefined ? readdirSync(triageData("pstore")) : [];
const shown = (store: string) => filesIn(triageData("pstore", store, "sys-fs-pstore"));
const packed = (store: string) =>
  filesIn(triageData("pstore", store, "sys-fs-pstore-compressed")).filter(({ name }) =>
    name.endsWith(".enc.z"),
  );
const real = stores.filter((store) => shown(store).length > 0);

/** What ramoops says behind a record that it reads. */
const withNotice = ({ bytes, ecc }: PstoreRecord): Buffer => {
  if (ecc === undefined) return bytes;
  const { corrected, unrecoverable } = ecc;
  const sums = `${corrected} Corrected bytes, ${unrecoverable} unrecoverable blocks`;
  const notice = corrected + unrecoverable === 0 ? "No errors detected" : sums;
  return Buffer.concat([bytes, Buffer.from(`\nECC: ${notice}\n`)]);
};

/** The store that a guest's pstore was on, as it lay on the host. */
const RAW: Readonly<Record<string, string>> = {
  "blk-lab": "pstore-blk.img.after-oops",
  "efi-6.1": "OVMF_VARS.fd.after-crash",
  "erst-6.1": "acpi-erst.backing.after-crash",
};

describe.skipIf(why !== undefined)(`records of real guests${why === undefined ? "" : ` (${why})`}`, () => {
  test.each(real)("%s: what was packed is, byte for byte, what the guest read", (store) => {
    for (const { name, bytes } of packed(store)) {
      const [record] = readStore({ path: name, bytes })!.records;
      const truth = shown(store).find((file) => `${file.name}.enc.z` === name)!;
      expect(withNotice(record!).equals(truth.bytes), name).toBe(true);
    }
  });

  test.each(real)("%s: the store as it lay on the host has the same records", (store) => {
    const name = RAW[store] ?? "ramoops-raw-1M.bin";
    const [file] = filesIn(triageData("pstore", store)).filter((each) => each.name === name);
    const { records, problems } = readStore({ path: name, bytes: file!.bytes })!;
    expect(problems).toEqual([]);
    expect(records.length).toBe(shown(store).length);
    for (const { name: guest, bytes } of shown(store)) {
      const [type] = guest.split("-");
      const same = records.filter((record) => record.type === type);
      if (type === "ftrace") {
        // Names of functions are the kernel's alone, and by the time it read them it had the newest only.
        const [text] = same.map((record) => record.bytes.toString());
        const [first] = text!.split("\n");
        expect(bytes.toString()).toContain(first);
        continue;
      }
      expect(
        same.some((record) => withNotice(record).equals(bytes)),
        guest,
      ).toBe(true);
    }
  });

  test.each(real)("%s: numbers and times are those of the guest's files", (store) => {
    const name = RAW[store] ?? "ramoops-raw-1M.bin";
    const [file] = filesIn(triageData("pstore", store)).filter((each) => each.name === name);
    const { records } = readStore({ path: name, bytes: file!.bytes })!;
    const ids = (type: string) =>
      shown(store)
        .filter((each) => each.name.startsWith(type))
        .map((each) => each.name.replace(/.*-/, ""));
    expect(
      records
        .filter(({ type }) => type === "dmesg")
        .map(({ id }) => String(id))
        .sort(),
    ).toEqual(ids("dmesg").sort());
    for (const { type, time } of records) {
      if (type === "dmesg") expect(new Date(time!).toISOString()).toMatch(/^2026-11-21T03:/);
    }
  });

  const CRASHES: Readonly<Record<string, readonly [kind: string, title: string, dumps: number]>> = {
    "blk-lab": ["oops", "BUG: KASAN: null-ptr-deref in lkdtm_EXCEPTION+0xc/0x20", 1],
    "efi-6.1": ["panic", "Kernel panic - not syncing: sysrq triggered crash", 1],
    "erst-6.1": ["panic", "Kernel panic - not syncing: sysrq triggered crash", 1],
    "ramoops-6.1-ecc1": ["oops", "BUG: kernel NULL pointer dereference, address: 0000000000000000", 1],
    "ramoops-lab-842": ["panic", "Kernel panic - not syncing: sysrq triggered crash", 1],
    "ramoops-lab-deflate-console-pmsg-ftrace": ["panic", "Kernel panic - not syncing: dumptest", 1],
    "ramoops-lab-deflate-ecc1-oops-then-panic": [
      "panic",
      "BUG: KASAN: null-ptr-deref in lkdtm_EXCEPTION+0xc/0x20",
      2,
    ],
    "ramoops-lab-lz4": ["panic", "Kernel panic - not syncing: sysrq triggered crash", 1],
    "ramoops-lab-lzo": ["panic", "Kernel panic - not syncing: sysrq triggered crash", 1],
    "ramoops-lab-zstd": ["panic", "Kernel panic - not syncing: sysrq triggered crash", 1],
  };

  test.each(real)("%s: one crash, with its reason", (store) => {
    const folder = triageData("pstore", store, "sys-fs-pstore");
    const { crashes, findings } = pstoreReport(
      filesIn(folder).map(({ name, bytes }) => ({ path: join(folder, name), bytes })),
    );
    const [crash] = crashes;
    expect(crashes.length).toBe(1);
    expect([crash!.kind, findings[0]!.title, crash!.dumps.length]).toEqual(CRASHES[store]);
    expect(findings[0]!.evidence[0]!.text).toContain(findings[0]!.title);
  });

  test("a log in parts is what the console had, in its order and without a gap", () => {
    const folder = triageData("pstore", "efi-6.1", "sys-fs-pstore");
    const { crashes } = pstoreReport(filesIn(folder).map(({ name, bytes }) => ({ path: name, bytes })));
    const lines = crashes[0]!.text.toString().trimEnd().split("\n");
    const times = lines.map((line) => Number(/\[ *(\d+\.\d+)\]/.exec(line)![1]));
    expect(times.every((time, i) => i === 0 || time >= times[i - 1]! - 0.1)).toBe(true);
    expect(lines.at(-1)).toMatch(/Kernel Offset|Kernel panic/);
    expect(lines.length).toBe(
      filesIn(folder).reduce((sum, { bytes }) => sum + bytes.toString().split("\n").length - 2, 0),
    );
  });
});

describe.skipIf(why !== undefined)("archives that systemd-pstore made", () => {
  const archives =
    why === undefined
      ? readdirSync(triageData("systemd-pstore")).filter((name) => !name.endsWith(".log"))
      : [];

  test.each(archives)("%s: the crash of the store it was made of", async (archive) => {
    const source = archive.replace("-compressed", "");
    const truth = await triagePstore([triageData("pstore", source, "sys-fs-pstore")], {}, quiet);
    const found = await triagePstore([triageData("systemd-pstore", archive)], {}, quiet);
    expect(found.report.crashes.map(({ text }) => text.toString())).toEqual(
      truth.report.crashes.map(({ text }) => text.toString()),
    );
    expect(found.findings.map(({ title }) => title)).toEqual(truth.findings.map(({ title }) => title));
  });

  test("a dmesg.txt alone tells the same", async () => {
    for (const name of ["erst-6.1/7710458201837", "ramoops-6.1-ecc1"]) {
      const whole = await triagePstore([triageData("systemd-pstore", name)], {}, quiet);
      const alone = await triagePstore([triageData("systemd-pstore", name, "dmesg.txt")], {}, quiet);
      expect(alone.report.crashes.map(({ text }) => text)).toEqual(
        whole.report.crashes.map(({ text }) => text),
      );
    }
  });
});

describe.skipIf(why !== undefined)("host directories of virtio-pstore", () => {
  const folders =
    why === undefined
      ? readdirSync(triageData("pstore", "virtio-pstore-synth")).filter((name) => !name.endsWith(".txt"))
      : [];

  test.each(folders)("%s is read whole", async (folder) => {
    const { report, warnings } = await triagePstore(
      [triageData("pstore", "virtio-pstore-synth", folder)],
      {},
      quiet,
    );
    expect(report.crashes.length).toBe(1);
    expect(report.crashes[0]!.kind).toBe("panic");
    const codes = folder.startsWith("v3") ? ["TRI301", "TRI306"] : [];
    expect(warnings.map(({ code }) => code)).toEqual(codes);
  });
});

test.skipIf(why !== undefined)("what ramoops adds on its ECC is no part of the log", () => {
  const [file] = shown("ramoops-6.1-ecc1");
  const { bytes, ecc } = withoutEcc(file!.bytes);
  expect([file!.bytes.length - bytes.length, ecc]).toEqual([25, { corrected: 0, unrecoverable: 0 }]);
});
