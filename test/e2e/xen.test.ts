import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { buildXenCore, context } from "../synth/xen.ts";
import { isLinux } from "./extracted.ts";
import { memoryOf, qemuCpus } from "./machine.ts";
import { guestcore, run, testWith } from "./tools.ts";
import { compareMemory, VmcoreFile } from "./vmcore-file.ts";

/**
 * The memory and registers of a real guest as `xl dump-core` would write them: QEMU's own dump judges what comes out,
 * and crash, whose reader of Xen cores is its own, whether the core is right.
 */
const folder = mkdtempSync(join(tmpdir(), "guestcore-xen-"));
afterAll(() => rmSync(folder, { recursive: true }));

const guests = inject("lab")
  .guests.filter((guest) => isLinux(guest) && guest.recipe.vcpus > 1)
  .slice(0, 1);
if (guests.length === 0) test.skip("the laboratory has no Linux guest of two vCPUs", () => {});

const PAGE = 4096;

describe.each(guests)("$name as a Xen core", (guest) => {
  const truth = new VmcoreFile(guest.dump);
  afterAll(() => truth.close());
  const core = join(folder, "core");
  const out = join(folder, "vmcore");

  beforeAll(() => {
    const pages = truth.loads.flatMap(({ paddr, filesz }) => {
      const bytes = memoryOf(truth, paddr, paddr + filesz);
      return Array.from(
        { length: filesz / PAGE },
        (_, i) => [paddr / PAGE + i, bytes.subarray(i * PAGE, (i + 1) * PAGE)] as const,
      );
    });
    const contexts = qemuCpus(truth).map(({ general, segments, cr, ...cpu }) => {
      const isKernel = (segments.cs.selector & 3) === 0;
      const [gsBaseKernel, gsBaseUser] = isKernel
        ? [segments.gs.base, cpu.kernelGsBase]
        : [cpu.kernelGsBase, segments.gs.base];
      const { cs, ss, es, ds, fs, gs } = segments;
      const selectors = Object.fromEntries(
        Object.entries({ cs, ss, es, ds, fs, gs }).map(([name, { selector }]) => [name, selector]),
      ) as Record<"cs" | "ss" | "es" | "ds" | "fs" | "gs", number>;
      return context({
        ...{ general, rsp: general.rsp, rip: cpu.rip, rflags: cpu.rflags, selectors, cr },
        ...{ fsBase: fs.base, gsBaseKernel, gsBaseUser },
      });
    });
    writeFileSync(core, buildXenCore({ pages, contexts }));
    const { status, stdout, stderr } = guestcore("convert", core, out);
    if (status !== 0) throw new Error(`convert: exit status ${status}\n${stdout}${stderr}`);
  });

  test("gives every page that QEMU dumped, and every register that Xen keeps", () => {
    const file = new VmcoreFile(out);
    const { different, absent, beyond, pages } = compareMemory(truth, file);
    const found = qemuCpus(file);
    file.close();
    expect({ different, absent, beyond }).toEqual({ different: [], absent: [], beyond: [] });
    expect(pages).toBeGreaterThan(20_000);
    const kept = ({ segments, cr, ...cpu }: (typeof found)[number]) => ({
      ...cpu,
      cr: cr.filter((_, i) => i !== 1),
      selectors: (["cs", "ss", "es", "ds", "fs", "gs"] as const).map((name) => segments[name].selector),
      bases: [segments.fs.base, segments.gs.base],
    });
    expect(found.map(kept)).toEqual(qemuCpus(truth).map(kept));
    expect(found).toHaveLength(guest.recipe.vcpus);
  });

  testWith(
    ["crash"],
    "crash takes the core for the machine that was dumped, and reads all of what was converted",
    () => {
      const commands = "set scroll off\nsys\nps\nlog\nquit\n";
      const crash = (dump: string) => run("crash", ["-s", guest.vmlinux!, dump], { input: commands }).stdout;
      // crash 8.0.2 finds the kernel in the core, KASLR included, but fails to read some of the pages that are there.
      const facts = (text: string) => text.match(/^ +(CPUS|DATE|UPTIME|RELEASE|VERSION|MACHINE): .*$/gm);
      const ours = crash(out);
      expect(facts(crash(core))).toEqual(facts(ours));
      expect(facts(ours)).toHaveLength(6);
      expect(ours).toMatch(/Linux version 6\.\d/);
      expect(ours.match(/gc-spin/g)?.length).toBeGreaterThan(0);
    },
  );
});
