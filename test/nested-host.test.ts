import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { extract } from "../src/jobs/extract.ts";
import { listGuests } from "../src/jobs/guests.ts";
import { GENERAL_REGISTERS } from "../src/x86/state.ts";
import { quiet } from "./support/memory-io.ts";
import { physicalAt, readVmcore } from "./support/read-vmcore.ts";

/**
 * The shipped dump of a KVM host that is itself a KVM guest (samples/README.md): the VMCSs in it are those that the outer
 * KVM keeps for the inner. Judged by what the inner VMM asked KVM of its guests.
 */
const sample = (name: string): string => join(import.meta.dirname, "../samples", name);
const host = sample("nested-host.vmcore.zst");
const truth = readFileSync(sample("nested-host.truth.txt"), "latin1");
const folder = mkdtempSync(join(tmpdir(), "guestcore-nested-"));
afterAll(() => rmSync(folder, { recursive: true }));
const context = { ...quiet, temporaryDirectories: [folder] };

const told = (vm: string, vcpu: number, name: string): string =>
  new RegExp(`^${vm}\\.vcpu${vcpu}\\.${name} (.*)$`, "m").exec(truth)![1]!;
const number = (vm: string, vcpu: number, name: string): bigint => BigInt(told(vm, vcpu, name));

describe("a host that is itself a guest", () => {
  test("has three guests, by the VMCSs of its own hypervisor", async () => {
    const { guests, host: found, warnings } = await listGuests(host, {}, context);
    expect(guests.map(({ guest }) => guest.vcpus.length)).toEqual([4, 3, 3]);
    expect(new Set(found.vmx.candidates.map(({ layout }) => layout.name))).toEqual(new Set(["kvm-vmcs12"]));
    expect(warnings).toEqual([]);
  });

  test.each([
    [1, "long1", 4],
    [2, "prot1", 3],
    [3, "real1", 3],
  ])("guest %d has the registers of %s, those that never ran too", async (id, vm, count) => {
    const { guests } = await listGuests(host, {}, context);
    const { vcpus } = guests.find(({ guest }) => guest.id === id)!;
    expect(vcpus).toHaveLength(count);
    for (const { index, state } of vcpus) {
      for (const name of [
        ...GENERAL_REGISTERS,
        "rip",
        "rflags",
        "cr0",
        "cr2",
        "cr3",
        "cr4",
        "efer",
      ] as const) {
        expect([vm, index, name, state[name]]).toEqual([vm, index, name, number(vm, index, name)]);
      }
      for (const name of ["cs", "ss", "ds", "es", "fs", "gs", "tr"] as const) {
        const [, selector, base, limit] = /sel=(\S+) base=(\S+) limit=(\S+)/.exec(told(vm, index, name))!;
        expect([vm, index, name, state.segments[name]]).toMatchObject([
          vm,
          index,
          name,
          { selector: Number(selector), base: BigInt(base!), limit: Number(limit) },
        ]);
      }
    }
  });

  test("and the memory of one in real mode, page by page", async () => {
    const output = join(folder, "real1.vmcore");
    const options = {
      format: "elf",
      vaddr: "direct-map",
      dryRun: false,
      force: false,
      keepPartial: false,
    } as const;
    const { coverage } = await extract(
      { input: host, output, guest: 3, ram: new Map(), layout: undefined, ...options },
      context,
    );
    expect(coverage).toMatchObject({ excluded: 0, missing: 0 });
    const vmcore = readVmcore(readFileSync(output));
    let pages = 0;
    for (const [, gpa, wanted] of truth.matchAll(/^real1 page (\S+) (\S+) pfn/gm)) {
      const page = physicalAt(vmcore, Number(gpa), 4096);
      // The rest the VMM wrote and the guest never touched.
      if (page === undefined) continue;
      expect([gpa, hashOf(page)]).toEqual([gpa, BigInt(wanted!)]);
      pages++;
    }
    expect(pages).toBe(32);
  });
});

/** As the VMM reckons it: FNV over the words of the page, with a shift. */
function hashOf(page: Buffer): bigint {
  let hash = 0xcbf2_9ce4_8422_2325n;
  for (let at = 0; at < page.length; at += 8) {
    hash = BigInt.asUintN(64, (hash ^ page.readBigUInt64LE(at)) * 0x100_0000_01b3n);
    hash ^= hash >> 29n;
  }
  return hash;
}
