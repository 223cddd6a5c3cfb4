import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { guestcore, repository, run, runWell, testWith } from "./tools.ts";
import { VmcoreFile } from "./vmcore-file.ts";

/**
 * Guests out of the dumps of real hosts. The dumps are too large to ship: the folder is `GUESTCORE_DATA`, `shared/data`
 * beside the repository by default.
 */
const data = process.env.GUESTCORE_DATA ?? join(repository, "../shared/data");
const kernels = join(process.env.GUESTCORE_LAB ?? join(repository, ".lab"), "kernel");
const folder = mkdtempSync(join(tmpdir(), "guestcore-host-"));
afterAll(() => rmSync(folder, { recursive: true }));

interface Truth {
  readonly ranges: readonly { readonly gpa: string; readonly fileSize: number }[];
}

/** Hosts whose guest's own pages are known. */
const hosts = [
  {
    name: "a Linux guest of KVM on Intel",
    dump: "vmx/linux-guest/vmcore.reduced.elf.zst",
    truth: "vmx/linux-guest/truth/guest",
    guest: 1,
    // Stripped of what makedumpfile wants to see of the host's kernel.
    filterable: false,
  },
  {
    name: "a stopped Linux guest of KVM on AMD",
    dump: "svm/two-guests/vmcore.d23.elf.zst",
    truth: "svm/two-guests/truth/db1",
    guest: 2,
    filterable: true,
  },
] as const;

const splits = [
  { count: 3, options: "-c -d 0" },
  { count: 7, options: "-l -d 1" },
  { count: 7, options: "-c -d 31" },
  { count: 3, options: "-l -d 31" },
] as const;

/** Has makedumpfile split a dump by the MiB, not by the GiB; the names end in the number of the part, from 1. */
function splitInto(path: string, count: number, options: string): string[] {
  const set = Array.from({ length: count }, (_, i) => `${path}.split.${i + 1}`);
  for (const part of set) rmSync(part, { force: true });
  const words = ["--split", "--splitblock-size", "1024", ...options.split(" "), path, ...set];
  runWell("makedumpfile", words);
  return set;
}

/** Codes of the warnings among what is told of progress. */
const warningsIn = (text: string): string[] =>
  [...text.matchAll(/^warning (\w+): /gm)].map(([, code]) => code!);

/** Every page of the second is that of the first. */
function expectSameAs(original: string, other: string): void {
  const [left, right] = [new VmcoreFile(original), new VmcoreFile(other)];
  let equal = 0;
  for (const { paddr, filesz } of right.loads) {
    for (let at = paddr; at < paddr + filesz; at += 4096) {
      if (!right.page(at)!.equals(left.page(at)!)) throw new Error(`page at 0x${at.toString(16)} differs`);
      equal++;
    }
  }
  left.close();
  right.close();
  expect(equal).toBeGreaterThan(10_000);
}

describe.each(hosts.filter(({ dump }) => existsSync(join(data, dump))))(
  "$name",
  ({ dump, truth, guest, filterable }) => {
    const host = join(folder, `${guest}.host`);
    const out = join(folder, `${guest}.vmcore`);
    beforeAll(() => {
      runWell("zstd", ["-dqf", "--long=27", join(data, dump), "-o", host]);
      const { status, stdout, stderr } = guestcore("extract", host, "--guest", String(guest), "-o", out);
      if (status !== 0) throw new Error(`exit status ${status}\n${stdout}${stderr}`);
    });

    test("has every page of the guest's own dump; what is not there is zero there", async () => {
      const { createHash } = await import("node:crypto");
      const hash = (bytes: Buffer) => createHash("sha256").update(bytes).digest().subarray(0, 8);
      const { ranges } = JSON.parse(readFileSync(join(data, `${truth}.json`), "utf8")) as Truth;
      const pages = readFileSync(join(data, `${truth}.pages`));
      const zero = hash(Buffer.alloc(4096));
      const file = new VmcoreFile(out);
      const counts = { equal: 0, different: 0, missing: 0, missingZero: 0 };
      let at = 0;
      for (const { gpa, fileSize } of ranges) {
        for (let offset = 0; offset < fileSize; offset += 4096, at += 8) {
          const address = Number(gpa) + offset;
          // Firmware is device memory that the guest may never have touched.
          if (address >= 0xf000_0000 && address < 2 ** 32) continue;
          const wanted = pages.subarray(at, at + 8);
          const page = file.page(address);
          if (page !== undefined) counts[hash(page).equals(wanted) ? "equal" : "different"]++;
          else counts[wanted.equals(zero) ? "missingZero" : "missing"]++;
        }
      }
      file.close();
      expect(counts).toMatchObject({ different: 0, missing: 0 });
      expect(counts.equal).toBeGreaterThan(10_000);
    });

    testWith(
      ["makedumpfile", "sh"],
      "is the same out of the dump as makedumpfile compresses or flattens it",
      () => {
        const variants = filterable ? ["-c -d 0", "-l -d 1", "-l -d 1 -F", "-E -d 0 -F"] : [];
        const converted = `${host}.elf`;
        const ofHost = (path: string) => runWell("vmcore-dmesg", [path]).stdout;
        for (const [i, options] of variants.entries()) {
          const compressed = `${host}.${i}`;
          const target = options.endsWith("-F") ? `${host} > ${compressed}` : `${host} ${compressed}`;
          runWell("sh", ["-c", `makedumpfile ${options} ${target}`]);
          const again = `${out}.${i}`;
          const { status, stderr } = guestcore("extract", compressed, "--guest", String(guest), "-o", again);
          expect([options, status], stderr).toEqual([options, 0]);
          // Headers have room to spare where pages have to be unpacked: the files differ, what is in them must not.
          expectSameAs(out, again);
          expectSameAs(again, out);
          // As ELF again, other tools open the host's dump too.
          expect(guestcore("convert", compressed, converted, "--force").status).toBe(0);
          expect(ofHost(converted)).toBe(ofHost(host));
          runWell("makedumpfile", ["-l", "-d", "31", converted, `${converted}.filtered`]);
          rmSync(`${converted}.filtered`);
          rmSync(compressed);
          rmSync(again);
        }
      },
    );

    test.runIf(filterable)("was crashed by its own shell, which its log tells", () => {
      const { status, stdout, stderr } = guestcore("dmesg", host, "--follow-crash");
      expect([status, stderr]).toEqual([0, ""]);
      const lines = stdout.trimEnd().split("\n");
      expect(lines[0]).toMatch(/^\[ +[\d.]+\] sysrq: Trigger a crash$/);
      expect(lines[1]).toMatch(/Kernel panic - not syncing: sysrq triggered crash$/);
      expect(guestcore("dmesg", host).stdout.endsWith(stdout)).toBe(true);
      // The guest ran on; what came nearest to a crash of its own is a warning.
      const { stdout: ofGuest } = guestcore("dmesg", host, "--guest", String(guest), "--follow-crash");
      expect(ofGuest).toMatch(
        /^\[ +[\d.]+\] -+\[ cut here \]-+\n.*\n.*WARNING: CPU: 0 PID: 0 at arch\/x86\//,
      );
    });
    for (const { count, options } of filterable ? splits : []) {
      testWith(["makedumpfile"], `is read from ${count} parts of makedumpfile --split ${options}`, () => {
        const set = splitInto(host, count, options);
        const [reassembled, truth] = [`${host}.reassembled`, `${host}.reassembled.elf`];
        runWell("makedumpfile", ["--reassemble", ...set, reassembled]);
        expect(guestcore("convert", reassembled, truth, "--force").status).toBe(0);
        const whole = readFileSync(truth);
        expectSameAs(host, truth);
        const out = `${host}.parts.elf`;
        for (const first of [set[0]!, set[count - 1]!]) {
          const { status, stdout, stderr } = guestcore("convert", first, out, "--force");
          expect([status, warningsIn(stderr)], stdout + stderr).toEqual([0, []]);
          expect(readFileSync(out).equals(whole), first).toBe(true);
        }
        // Under names without numbers they have to be named.
        const named = set.map((_, i) => `${host}.part-${"abcdefg"[i]}`);
        for (const [i, path] of set.entries()) renameSync(path, named[i]!);
        const others = named.slice(0, -1).flatMap((path) => ["--part", path]);
        const run = guestcore("convert", named.at(-1)!, out, "--force", ...others);
        expect([run.status, warningsIn(run.stderr)], run.stderr).toEqual([0, []]);
        expect(readFileSync(out).equals(whole)).toBe(true);
        const alone = guestcore("convert", named[1]!, out, "--force", "--strict");
        expect([alone.status, warningsIn(alone.stderr)]).toEqual([6, expect.arrayContaining(["DMP004"])]);
        for (const path of [...named, reassembled, truth, out]) rmSync(path);
      });
    }

    testWith(["readelf"], "makes readelf -a say nothing on stderr", () => {
      expect(runWell("readelf", ["-a", "-W", out]).stderr).toBe("");
    });

    testWith(["gdb"], "shows each vCPU's RIP in gdb", () => {
      const { stdout } = runWell("gdb", ["-nx", "-batch", "-core", out, "-ex", "info threads"]);
      expect(stdout).toMatch(/\b1 +LWP 1 +0x[0-9a-f]{16} in/);
    });

    testWith(["vmcore-dmesg"], "has the guest's log", () => {
      const { stdout } = runWell("vmcore-dmesg", [out]);
      expect(stdout).toMatch(/Linux version 6\.1\./);
      // The same out of its vmcore, and out of its host's; vmcore-dmesg gives a record's further lines no time.
      const time = /^\[ *\d+\.\d+\] /gm;
      const words = (log: string) => [log.replaceAll(time, ""), [...new Set(log.match(time))]];
      expect(words(guestcore("dmesg", out).stdout)).toEqual(words(stdout));
      expect(words(guestcore("dmesg", host, "--guest", String(guest)).stdout)).toEqual(words(stdout));
    });

    testWith(["makedumpfile"], "is filtered and compressed by makedumpfile -c -d 31", () => {
      const { stdout } = runWell("makedumpfile", [
        "-c",
        "-d",
        "31",
        "-f",
        out,
        join(folder, `${guest}.kdump`),
      ]);
      expect(stdout).toContain("makedumpfile Completed");
    });
  },
);

/** The laboratory has the symbols of one kernel, by which one of the guests can be opened, while Debian has it. */
const vmlinux = join(kernels, "6.1.0-56-cloud-amd64/vmlinux");
const linux = join(folder, "1.vmcore");

describe.runIf(existsSync(vmlinux) && existsSync(join(data, hosts[0].dump)))(
  "with its kernel's symbols",
  () => {
    testWith(["crash"], "opens in crash", () => {
      const { stdout, stderr } = run("crash", ["-s", vmlinux, linux], { input: "sys\nps\nlog\nquit\n" });
      expect(stdout).toMatch(/RELEASE: 6\.1\.0-56-cloud-amd64/);
      expect(stdout).toContain("l2-spinner");
      expect(stdout + stderr).not.toMatch(/do not match|seek error|read error/);
    });

    testWith(["crash", "makedumpfile"], "opens in crash as a split set, and as what is made of that", () => {
      const set = splitInto(linux, 3, "-l -d 1");
      const converted = join(folder, "split.elf");
      expect(guestcore("convert", set[1]!, converted).status).toBe(0);
      const ask = (...files: string[]) =>
        run("crash", ["-s", vmlinux, ...files], { input: "ps\nlog\nquit\n" });
      const truth = ask(...set);
      expect(truth.stdout).toContain("l2-spinner");
      expect(ask(converted).stdout).toBe(truth.stdout);
    });

    testWith(["drgn"], "lists its tasks in drgn", () => {
      const script = join(import.meta.dirname, "tasks.py");
      const { stdout } = runWell("drgn", ["-c", linux, "-s", vmlinux, script]);
      const { tasks } = JSON.parse(stdout) as { tasks: [number, string][] };
      expect(tasks).toEqual(
        expect.arrayContaining([
          [1, "l2-init"],
          [2, "kthreadd"],
        ]),
      );
      expect(tasks.length).toBeGreaterThan(30);
    });
  },
);

if (!existsSync(join(data, hosts[0].dump))) {
  test.skip(`no dumps of hosts in ${data}, so no guest was taken out of one`, () => {});
}
