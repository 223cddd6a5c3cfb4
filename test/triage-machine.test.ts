import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isCommandLine, machineFacts, wordsOf } from "../src/triage/verdict/machine.ts";
import { cpuTime } from "./support/cpu-time.ts";

describe("words of a command line", () => {
  test.each([
    ["a b  c", ["a", "b", "c"]],
    ['a \'b c\' "d \\" e" f\\ g', ["a", "b c", 'd " e', "f g"]],
    ["a\\\n  b", ["a", "b"]],
    ["'unclosed x", ["unclosed x"]],
    ["a\0b c\0", ["a", "b c"]],
    ["''", [""]],
    ["", []],
  ])("%j", (text, words) => expect(wordsOf(text)).toEqual(words));

  test("any text is read in time linear in it", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        wordsOf(text);
        isCommandLine(text);
        machineFacts(text);
      }),
      { seed: 20261126, numRuns: 1000 },
    );
    const bombs = ["'", '"', "\\", '"\\', "-a ", "a=", "\n", "A=b "].map((piece) => piece.repeat(500_000));
    for (const bomb of bombs) {
      const start = cpuTime();
      wordsOf(bomb);
      isCommandLine(bomb);
      machineFacts(bomb);
      expect(cpuTime() - start).toBeLessThan(1000);
    }
  });
});

describe("what a command line says of the machine", () => {
  const facts = (options: string, program = "qemu-system-x86_64") =>
    machineFacts(`${program} -m 512 ${options}`);
  test.each([
    ["-device pvpanic", true],
    ["-device pvpanic-pci,addr=3", true],
    [`-device '{"driver":"pvpanic","ioport":1285}'`, true],
    ["-device virtio-net", false],
    ["-machine pc-1.5", true],
    ["-machine pc-i440fx-1.5,accel=kvm", true],
    ["-machine pc-i440fx-1.6", false],
    ["-cpu host,hv-crash", true],
    ["-cpu host,hv-crash=off", false],
    ["-name pvpanic", false],
  ])("%s reports panics: %s", (options, pvpanic) => expect(facts(options)?.pvpanic).toBe(pvpanic));
  test("pseries and s390 need no device", () => {
    expect(facts("", "/usr/bin/qemu-system-ppc64")?.pvpanic).toBe(true);
    expect(facts("", "qemu-system-s390x")?.pvpanic).toBe(true);
  });
  test("the rest", () => {
    const line =
      "LC_ALL=C \\\n/usr/bin/qemu-system-x86_64 \\\n-name guest=web-3,debug-threads=on \\\n-no-reboot \\\n";
    expect(machineFacts(`${line}-action panic=pause -append 'console=ttyS0 panic=-1 quiet'`)).toEqual({
      name: "web-3",
      pvpanic: false,
      noReboot: true,
      panicAction: "pause",
      panicTimeout: -1,
    });
    expect(machineFacts("nothing of the kind -m 4")).toBeUndefined();
  });
});

describe("whether a text is a command line", () => {
  test.each([
    ["qemu-system-x86_64 -m 512 -kernel k", true],
    ["./qemu-t -accel tcg -m 512", true],
    ["sudo -u x qemu-kvm -m 512", true],
    ["grep: qemu-kvm -m 512", false],
    ["LC_ALL=C PATH=/bin /usr/libexec/qemu-kvm -name guest=a", true],
    ["/usr/bin/qemu-system-x86_64\0-name\0a\0", true],
    ["qemu is a program. It has -m.", false],
    ["[    0.000000] Command line: qemu -m 5", false],
    ["", false],
  ])("%j: %s", (text, is) => expect(isCommandLine(text)).toBe(is));
});
