import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { type Saved, type SaveRecipe, saveGuest } from "./migrated.ts";
import { guestcore, missing, run, runWell, testWith } from "./tools.ts";
import { compareMemory, VmcoreFile } from "./vmcore-file.ts";

/** Guests saved by QEMU's migration, judged by QEMU's own dump of the same guest in the same moment. */

const folder = mkdtempSync(join(tmpdir(), "guestcore-migrated-"));
afterAll(() => rmSync(folder, { recursive: true }));

const NODES = [
  ...["-object", "memory-backend-ram,id=n0,size=64M", "-numa", "node,memdev=n0,cpus=0"],
  ...["-object", "memory-backend-ram,id=n1,size=128M", "-numa", "node,memdev=n1,cpus=1"],
];

const recipes: readonly SaveRecipe[] = [
  { name: "pc-5g", qemu: ["-machine", "pc", "-m", "5G"] },
  { name: "q35-5g", qemu: ["-machine", "q35", "-m", "5G"] },
  { name: "q35-split", qemu: ["-machine", "q35,max-ram-below-4g=1G", "-m", "1536M"], until: 7 },
  { name: "pc-numa", qemu: ["-machine", "pc", "-m", "192M", ...NODES], since: 7 },
  { name: "pc-vga", qemu: ["-machine", "pc", "-m", "128M", "-vga", "std"], until: 5 },
  // The emulator of QEMU 7.2 does not send all that the guest writes meanwhile: no reader finds it in the stream.
  {
    name: "q35-xbzrle",
    qemu: ["-machine", "q35", "-m", "128M"],
    capabilities: ["xbzrle"],
    live: true,
    since: 9,
  },
  { name: "pc-compress", qemu: ["-machine", "pc", "-m", "128M"], capabilities: ["compress"], until: 8 },
  {
    name: "q35-mapped",
    qemu: ["-machine", "q35", "-m", "5G"],
    capabilities: ["mapped-ram"],
    offset: 0,
    since: 9,
  },
  {
    name: "pc-mapped-live",
    qemu: ["-machine", "pc", "-m", "128M"],
    capabilities: ["mapped-ram", "multifd"],
    offset: 0,
    live: true,
    since: 9,
  },
];

const guests = inject("lab").guests.filter(({ name }) => name.startsWith("q35-linux-"));
const absent = missing(["mkfifo", "dd"]);
const cases = guests.flatMap((guest) => {
  const release = Number.parseInt(guest.qemu, 10);
  const can = ({ since = 0, until = 99 }: SaveRecipe) => release >= since && release <= until;
  return absent.length > 0 ? [] : recipes.filter(can).map((recipe) => ({ guest, recipe }));
});

describe.each(cases.map((each) => ({ ...each, title: `${each.recipe.name} of QEMU ${each.guest.qemu}` })))(
  "$title",
  ({ guest, recipe }) => {
    let saved: Saved;
    const output = join(folder, "vmcore");
    let said = "";
    beforeAll(async () => {
      // Whether a guest boots under emulation on a busy machine is not what is tested here.
      saved = await saveGuest(guest, recipe).catch(() => saveGuest(guest, recipe));
      const { status, stdout, stderr } = guestcore("convert", saved.stream, output);
      if (status !== 0) throw new Error(`exit status ${status}\n${stdout}${stderr}`);
      said = stderr;
    }, 600_000);
    afterAll(() => {
      rmSync(output, { force: true });
      saved?.remove();
    });

    test("has every page of QEMU's own dump and no other, and nothing to warn of", () => {
      const [truth, ours] = [new VmcoreFile(saved.dump), new VmcoreFile(output)];
      const { pages, different, absent: lost, beyond } = compareMemory(truth, ours);
      truth.close();
      ours.close();
      expect(pages).toBeGreaterThan(30_000);
      // The memory of a graphics adapter is at an address that only the adapter knows.
      const graphics = lost.filter((address) => address >= 0xfd00_0000 && address < 0xfe00_0000);
      expect({ different, lost: lost.length - graphics.length, beyond }).toEqual({
        different: [],
        lost: 0,
        beyond: [],
      });
      expect([said, graphics.length > 0]).toEqual(["", recipe.qemu.includes("-vga")]);
    });

    test("has the registers of QEMU's own notes", () => {
      const [truth, ours] = [new VmcoreFile(saved.dump), new VmcoreFile(output)];
      expect(truth.named("CORE")).toHaveLength(2);
      expect(ours.named("CORE")).toEqual(truth.named("CORE"));
      const registers = (file: VmcoreFile) =>
        file.named("QEMU").map(({ desc }) => {
          // Selector and flags of GDT and IDT mean nothing, CR1 is none.
          const bytes = Buffer.from(desc);
          for (const at of [344, 368]) bytes.fill(0, at, at + 4).fill(0, at + 8, at + 16);
          return bytes.fill(0, 400, 408);
        });
      expect(registers(ours)).toEqual(registers(truth));
      truth.close();
      ours.close();
    });

    test("has the guest's log", () => {
      const { stdout } = guestcore("dmesg", saved.stream);
      expect(stdout).toMatch(/Linux version 6\.\d/);
      expect(stdout.split("\n").length).toBeGreaterThan(150);
    });

    testWith(["crash"], "is in crash what QEMU's own dump is", () => {
      const crash = (dump: string) => {
        const input = "set scroll off\nsys\nbt -a\nps\nlog\nquit\n";
        const { status, stdout, stderr } = run("crash", ["-s", guest.vmlinux!, dump], { input });
        return [status, (stdout + stderr).replaceAll(dump, "DUMP").replace(/^.*DUMPFILE:.*$/m, "")];
      };
      const ours = crash(output);
      expect(ours).toEqual(crash(saved.dump));
      expect(ours[1]).toMatch(/RELEASE: 6\.\d/);
      expect(ours[1]).toContain("gc-spin");
    });

    test.runIf(recipe.name === "pc-numa")(
      "in libvirt's save image, however it is compressed",
      () => {
        const xml = Buffer.from("<domain type='kvm'><name>db1</name></domain>\0");
        const header = Buffer.alloc(92 + xml.length + 65_536);
        header.write("LibvirtQemudSave", 0, "latin1");
        header.writeUInt32LE(2, 16);
        header.writeUInt32LE(header.length - 92, 20);
        xml.copy(header, 92);
        for (const [format, program] of [undefined, "gzip", "bzip2", "xz", undefined, "zstd"].entries()) {
          if (format === 4 || (program !== undefined && missing([program]).length > 0)) continue;
          header.writeUInt32LE(format, 28);
          const image = join(folder, `${format}.save`);
          const fd = openSync(image, "w");
          writeSync(fd, header);
          closeSync(fd);
          runWell("sh", [
            "-c",
            `${program ?? "cat"} ${program ? "-1 -c" : ""} < ${saved.stream} >> ${image}`,
          ]);
          const again = join(folder, "again");
          let { status, stderr } = guestcore("convert", image, again);
          if (status === 3) {
            // What is not unpacked on the way comes with the command that does.
            const hint = /hint: (.*?) {4}#/.exec(stderr)![1]!;
            runWell("sh", ["-c", hint]);
            ({ status, stderr } = guestcore("convert", `${image}.state`, again));
            rmSync(`${image}.state`);
          }
          expect([format, status, stderr]).toEqual([format, 0, ""]);
          expect(readFileSync(again).equals(readFileSync(output)), `${format}`).toBe(true);
          rmSync(image);
          rmSync(again);
        }
      },
      900_000,
    );

    test.runIf(recipe.name.endsWith("-5g"))("cut: has what came, as it is in QEMU's own dump", () => {
      const half = Math.floor(statSync(saved.stream).size / 2);
      truncateSync(saved.stream, half);
      const part = join(folder, "part");
      const { status, stderr } = guestcore("convert", saved.stream, part);
      expect(status).toBe(0);
      // The kernel's own tables may be among what is missing, which is told as well.
      const warned = [...stderr.matchAll(/^warning (\w+)/gm)].map(([, code]) => code);
      expect(warned).toEqual(expect.arrayContaining(["DMP030", "DMP031", "DMP034"]));
      const [truth, ours] = [new VmcoreFile(saved.dump), new VmcoreFile(part)];
      const { different, absent: lost, beyond } = compareMemory(truth, ours);
      truth.close();
      ours.close();
      rmSync(part);
      expect({ different, beyond, isCut: lost.length > 0 }).toEqual({
        different: [],
        beyond: [],
        isCut: true,
      });
    });
  },
);

if (cases.length === 0) {
  test.skip(`no guest was saved: ${absent.length > 0 ? `not installed: ${absent.join(", ")}` : "no Linux guests"}`, () => {});
}
