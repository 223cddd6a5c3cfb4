import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { judged } from "./support/triage-run.ts";

let top: string;
beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), "guestcore-forms-"));
});
afterEach(() => rmSync(top, { recursive: true }));

function put(name: string, contents: string | Buffer): string {
  const path = join(top, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, contents);
  return path;
}

const PANIC = "Kernel panic - not syncing: sysrq triggered crash";
const part = (number: number, from: number, ...lines: string[]): string =>
  [`Panic#1 Part${number}`, ...lines.map((line, at) => `<0>[    ${from}.00000${at}] ${line}`), ""].join("\n");
const NEWEST = part(1, 5, "Kernel Offset: disabled");
const OLDER = part(2, 4, "sysrq: Trigger a crash", PANIC, "CPU: 0 PID: 1 Comm: init");

describe("records of one crash in several directories", () => {
  test("are one crash", async () => {
    put("web/pstore/179523104/dmesg-efi-179523104901001", NEWEST);
    const older = put("web/pstore/179523105/dmesg-efi-179523105002001", OLDER);
    put("web/pstore/179523105/dmesg.txt", `dmesg-efi-179523105002001:\n${OLDER}`);
    const { results, warnings } = await judged([top]);
    const [{ vm, sources, verdict, input }] = results as [(typeof results)[number]];
    expect(sources).toMatchObject([{ kind: "pstore", path: join(top, "web/pstore") }]);
    expect(input.length).toBe(2);
    expect([vm, verdict.verdict, verdict.findings.length]).toEqual(["web", "guest-panic", 1]);
    expect(verdict.principal).toMatchObject({ title: PANIC, details: { missing: [], parts: 2 } });
    expect(verdict.why).toContain(`It rests on ${older} line 3.`);
    expect(verdict.next[0]).toContain(`triage pstore ${join(top, "web/pstore")} --dmesg -`);
    expect(warnings).toEqual([]);
  });

  test("and so are copies", async () => {
    for (const place of ["sys-fs-pstore", "systemd-pstore/179523105"]) {
      put(`web/${place}/dmesg-efi-179523105001001`, NEWEST);
      put(`web/${place}/dmesg-efi-179523105002001`, OLDER);
    }
    const { results } = await judged([top]);
    expect(results.map(({ verdict }) => verdict.findings.length)).toEqual([1]);
  });

  test("of another VM are another's", async () => {
    put("web/dmesg-efi-179523104901001", OLDER.replace("Part2", "Part1"));
    put("db/dmesg-efi-179523105002001", OLDER.replace("Part2", "Part1"));
    const { results } = await judged([top]);
    expect(results.map(({ vm, verdict }) => [vm, verdict.findings.length])).toEqual([
      ["db", 1],
      ["web", 1],
    ]);
  });
});

describe("what triage tells of a store", () => {
  test("an archive of systemd-pstore alone is taken apart, whatever the order of its members", async () => {
    const archive = `dmesg-efi-179523104901001:\n${NEWEST}dmesg-efi-179523105002001:\n${OLDER}`;
    put("web/179523105/dmesg.txt", archive);
    const { results } = await judged([top]);
    expect(results[0]!.sources).toMatchObject([{ kind: "pstore", label: "systemd-pstore archive" }]);
    expect(results[0]!.verdict.principal).toMatchObject({ title: PANIC, details: { missing: [] } });
  });

  test("parts that are missing, and what cannot be unpacked", async () => {
    put("web/pstore/dmesg-efi-179523105002001", OLDER);
    put("web/pstore/dmesg-efi-179523105003002.enc.z", Buffer.from([1, 2, 3, 4]));
    const { results, warnings } = await judged([top]);
    expect(warnings.map(({ code }) => code).toSorted()).toEqual(["TRI301", "TRI302", "TRI304"]);
    expect(results[0]!.warnings).toEqual(warnings);
  });

  test("on the time line each thing when it was, in its file, without its level", async () => {
    put("web/pstore/dmesg-efi-179523105001001", NEWEST);
    const older = put("web/pstore/dmesg-efi-179523105002001", OLDER);
    const { results } = await judged([top]);
    const { entries } = results[0]!.verdict.timeline;
    expect(entries.map(({ text }) => text)).toEqual([
      PANIC,
      "Panic#1 saved in 2 parts",
      "[    5.000000] Kernel Offset: disabled",
    ]);
    expect(entries.map(({ clock }) => clock)).toEqual(["guest", "guest", "guest"]);
    for (const { source } of entries) expect(dirname(source)).toBe(join(top, "web"));
    expect(older).toContain("pstore");
  });

  test("how an image is unpacked that may have UEFI's variables; of other files nothing", async () => {
    put("web/console.log", "[    0.000000] Linux version 6.1.0 (a@b) (gcc 12) #1 SMP\n");
    const header = Buffer.alloc(512);
    header.write("QFI\xfb\0\0\0\x03", "latin1");
    const image = put("web/vars.qcow2", header);
    put("web/notes.bin", Buffer.from([1, 2, 3]));
    const { warnings } = await judged([top]);
    expect(warnings.map(({ code, hint }) => [code, hint])).toEqual([
      ["TRI004", undefined],
      ["TRI004", `if it has the guest's UEFI variables: qemu-img convert -O raw ${image} vars.fd`],
    ]);
  });
});
