import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { isLinux } from "./extracted.ts";
import { memoryOf } from "./machine.ts";
import { guestcore, run, runWell, testWith } from "./tools.ts";
import { compareMemory, VmcoreFile } from "./vmcore-file.ts";

/**
 * QEMU's own dumps of real guests in every format that convert writes: crash, drgn and makedumpfile judge whether they
 * are what they should be, and the way back to ELF gives every page again.
 */
const folder = mkdtempSync(join(tmpdir(), "guestcore-formats-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Two kinds of machine with symbols. */
const guests = inject("lab")
  .guests.filter((guest) => isLinux(guest) && guest.vmlinux !== undefined)
  .filter(({ recipe }, i, all) => all.findIndex((other) => other.recipe.name === recipe.name) === i)
  .slice(0, 2);

if (guests.length === 0) test.skip("the laboratory has no Linux guest with symbols", () => {});

const CODECS = ["lzo", "zlib", "snappy", "zstd", "none"] as const;
/** Those that makedumpfile of every distribution reads. */
const FILTERED = ["zlib", "lzo", "none"];

describe.each(guests.map((guest, i) => ({ ...guest, first: i === 0 })))("$name's dump", (guest) => {
  const truth = new VmcoreFile(guest.dump);
  afterAll(() => truth.close());
  const vmlinux = guest.vmlinux!;
  const ram = truth.loads[0]!.filesz;
  const at = (name: string) => join(folder, `${guest.name}.${name}`);
  const convert = (input: string, output: string, ...options: string[]) => {
    const { status, stdout, stderr } = guestcore("convert", input, output, ...options);
    if (status !== 0) throw new Error(`convert ${input}: exit status ${status}\n${stdout}${stderr}`);
    return output;
  };
  const firmware = truth.loads.find(({ paddr }) => paddr > 0xff00_0000);

  // How pages are compressed has nothing to do with the machine.
  const codecs = guest.first ? CODECS : CODECS.slice(0, 1);
  describe.each(codecs)("kdump-compressed with %s", (codec) => {
    const kdump = at(codec);
    beforeAll(() => {
      convert(guest.dump, kdump, "--format", "kdump", "--compress", codec);
    });

    test("has every page when it is ELF again, but for the firmware", () => {
      const back = new VmcoreFile(convert(kdump, at(`${codec}.elf`)));
      const { different, absent, pages } = compareMemory(truth, back);
      const notes = back.notes.map(({ name, type, desc }) => [name, type, desc.length]);
      back.close();
      rmSync(at(`${codec}.elf`));
      expect(different).toEqual([]);
      expect(absent[0]).toBe(firmware?.paddr);
      expect(absent.every((page) => page >= (firmware?.paddr ?? 0))).toBe(true);
      expect(pages).toBeGreaterThan(20_000);
      const first = truth.notes.map(({ name, type, desc }) => [name, type, desc.length]);
      expect(notes.filter(([name]) => name !== "VMCOREINFO")).toEqual(
        first.filter(([name]) => name !== "VMCOREINFO"),
      );
      expect(notes.at(-1)![0]).toBe("VMCOREINFO");
    });

    testWith(["crash"], "crash opens it", () => {
      const input = "p linux_banner\nlog\nquit\n";
      const { stdout } = run("crash", ["-s", vmlinux, kdump], { input });
      expect(stdout).toContain("Linux version 6.");
      const line = /^\[ *\d+\.\d+\] .*Command line: .*/m.exec(readFileSync(guest.console, "latin1"))?.[0];
      expect(stdout).toContain(line!.slice(line!.indexOf("]") + 2).trim());
    });

    testWith(["drgn"], "drgn reads the same bytes of all RAM", () => {
      const script = join(import.meta.dirname, "memory-hash.py");
      const env = { GUESTCORE_START: "0", GUESTCORE_END: String(ram) };
      const { stdout } = runWell("drgn", ["-q", "-c", kdump, "-s", vmlinux, script], { env });
      const expected = createHash("sha256")
        .update(memoryOf(truth, 0, ram))
        .digest("hex");
      expect(stdout.trim().split("\n").at(-1)).toBe(expected);
    });

    if (FILTERED.includes(codec)) {
      testWith(["makedumpfile"], "makedumpfile filters it, and crash opens what comes out", () => {
        runWell("makedumpfile", ["-c", "-d", "31", kdump, at("filtered")]);
        const { stdout } = run("crash", ["-s", vmlinux, at("filtered")], { input: "p linux_banner\nquit\n" });
        rmSync(at("filtered"));
        expect(stdout).toContain("Linux version 6.");
      });
    }
  });

  testWith(
    ["makedumpfile", "sh"],
    "the stream on standard output is the same dump to makedumpfile -R",
    () => {
      const kdump = convert(guest.dump, at("plain"), "--format", "kdump", "--compress", "lzo");
      const program = join(import.meta.dirname, "../../bin/guestcore.js");
      const command = `"$1" "$2" convert "$3" - --format flat --compress lzo -q | makedumpfile -R "$4"`;
      runWell("sh", ["-c", command, "sh", process.execPath, program, guest.dump, at("put-together")]);
      expect(readFileSync(at("put-together")).equals(readFileSync(kdump))).toBe(true);
    },
  );

  test("LiME has every page, and reads back", () => {
    const back = new VmcoreFile(convert(convert(guest.dump, at("lime"), "--format", "lime"), at("lime.elf")));
    const { different, absent } = compareMemory(truth, back);
    back.close();
    expect({ different, absent }).toEqual({ different: [], absent: [] });
  });
});
