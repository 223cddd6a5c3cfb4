import { describe, expect, test } from "vitest";
import { UnavailableError, UsageError } from "../src/core/errors.ts";
import { type HostDump, pickGuest } from "../src/jobs/host.ts";
import type { LinuxImage } from "../src/kernel/linux.ts";
import { openKernel } from "../src/kernel/open-kernel.ts";
import { memoryFrom, type TableEntry, tablePieces } from "./synth/memory.ts";

const ROOT = 0x1000;
const found = <T>(value: T) => ({ value, source: "test" });
const imageOf = (image: object) => image as unknown as LinuxImage;

describe("a kernel that does not explain itself", () => {
  const tables = (...entries: TableEntry[]) => memoryFrom(tablePieces([[ROOT, 0, 0n], ...entries]));

  test.each([
    ["of another architecture", imageOf({ architecture: "aarch64", root: found(ROOT) })],
    ["without page tables", imageOf({ architecture: "x86_64" })],
  ])("%s", (_, image) => {
    expect(openKernel(tables(), { image })).toMatchObject({ reason: "its page tables are not known" });
  });

  test("whose tables map nothing, or themselves, or are not there", () => {
    const self = Array.from({ length: 512 }, (_, i): TableEntry => [ROOT, i, BigInt(ROOT) | 3n]);
    const text = { virtual: 0xffff_ffff_8100_0000n, physical: 0x100_0000, size: 0x100_0000 };
    for (const memory of [tables(), tables(...self), memoryFrom([])]) {
      for (const known of [{}, { text: found(text) }]) {
        const image = imageOf({ architecture: "x86_64", root: found(ROOT), ...known });
        const { kernel, reason } = openKernel(memory, { image });
        expect(kernel).toBeUndefined();
        expect(reason).toMatch(/^[A-Za-z].*[^.]$/);
      }
    }
  });
});

describe("the guest that is meant", () => {
  const host = (...names: (string | undefined)[]) =>
    ({
      guests: names.map((name, i) => ({
        id: i + 1,
        vcpus: [],
        vm: name === undefined ? undefined : { owner: { task: {}, argv: ["qemu", "-name", name] } },
      })),
    }) as unknown as HostDump;
  const hintOf = (...args: Parameters<typeof pickGuest>): string => {
    try {
      return `guest ${pickGuest(...args).id}`;
    } catch (error) {
      if (!(error instanceof UnavailableError || error instanceof UsageError)) throw error;
      return `${error.message}; ${error.hint}`;
    }
  };

  test("by number, by name, or the only one", () => {
    const three = host("guest=web1,debug-threads=on", "db1", undefined);
    expect(hintOf(three, "db1")).toBe("guest 2");
    expect(hintOf(three, "1")).toBe("guest 1");
    expect(hintOf(three, 3)).toBe("guest 3");
    expect(hintOf(host("web1"), undefined)).toBe("guest 1");
  });

  test("a number is one, whatever guests are called", () => {
    expect(hintOf(host("2", "1"), "1")).toBe("guest 1");
    expect(hintOf(host("3", "7"), "7")).toBe("guest 2");
  });

  test("none, where none is named and there are several; no name stands for that", () => {
    expect(() => pickGuest(host("undefined", "db1"), undefined)).toThrow(UsageError);
    expect(hintOf(host("undefined", "db1"), undefined)).toMatch(/^this host has 2 guests; .*1 \(undefined\)/);
  });

  test("one of several of a name has to be told by its number", () => {
    expect(hintOf(host("a", "a", "b"), "a")).toMatch(
      /^this host has 2 guests called a; choose one with --guest: 1 \(a\), 2 \(a\), 3 \(b\)/,
    );
  });

  test("names of guests are printed without what a terminal would obey", () => {
    expect(hintOf(host("\x1b[2J", "db1"), "nobody")).not.toContain("\x1b");
  });
});
