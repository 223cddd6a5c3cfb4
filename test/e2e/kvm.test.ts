import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { resultPath } from "./extracted.ts";
import { guestcore, repository, runWell, testWith } from "./tools.ts";

/** What the shipped host's kernel says of itself, judged by drgn with the debug information of that kernel. */
const host = join(repository, "samples/kvm-host-kernel.vmcore.zst");
const release = "6.1.0-56-cloud-amd64";
const vmlinux = join(process.env.GUESTCORE_LAB ?? join(repository, ".lab"), "kernel", release, "vmlinux");

const result = (...args: string[]) => {
  const { status, stdout } = guestcore(...args, "--json");
  expect(status).toBe(0);
  return JSON.parse(stdout).result;
};

interface Vm {
  readonly mm: string;
  readonly memslots: readonly object[];
  readonly vcpus: readonly {
    address: string;
    id: number;
    regs: Record<string, string>;
    cr0: string;
    efer: string;
  }[];
}

// Debian keeps the newest of its debug packages only.
describe.skipIf(!existsSync(vmlinux))(`a host of ${release}`, () => {
  testWith(
    ["drgn", "zstd"],
    "has the VMs, memslots, vCPUs and registers that DWARF shows, and the tasks",
    () => {
      const dump = resultPath("kvm-host-kernel.vmcore");
      runWell("zstd", ["-q", "-d", "-f", "-o", dump, host]);
      const { guests } = result("guests", dump);
      const script = join(repository, "test/e2e/kvm.py");
      const addresses = guests.map(({ kvm }: { kvm: string }) => kvm);
      const { stdout } = runWell("drgn", ["-q", "-c", dump, "-s", vmlinux, script, ...addresses]);
      const { tasks, vms } = JSON.parse(stdout) as { tasks: [number, string][]; vms: Vm[] };

      const own = result("kernel", dump, "--tasks").tasks.list as {
        pid: number;
        tgid: number;
        comm: string;
      }[];
      const leaders = own.filter(({ pid, tgid }) => pid === tgid).map(({ pid, comm }) => [pid, comm]);
      expect(leaders).toEqual(tasks);
      for (const [i, vm] of vms.entries()) {
        const { memslots, vcpus, registers } = guests[i];
        const slots = memslots.map(({ flags, hva, ...slot }: { flags: number; hva: string }) => ({
          ...slot,
          hva: `0x${BigInt(hva).toString(16)}`,
        }));
        expect(slots).toEqual(vm.memslots);
        expect(vcpus.map(({ kvmVcpu }: { kvmVcpu: string }) => kvmVcpu)).toEqual(
          vm.vcpus.map(({ address }) => address),
        );
        for (const [j, { regs, cr0, efer }] of vm.vcpus.entries()) {
          const found = registers[j].registers as Record<string, string>;
          for (const [name, value] of Object.entries({ ...regs, cr0, efer })) {
            expect(BigInt(found[name]!), `vCPU ${j} ${name}`).toBe(BigInt(value));
          }
        }
      }
    },
  );
});

test("the shipped host's guest is written by the VMM's page tables", () => {
  const { status, stdout } = guestcore("extract", host, "-o", resultPath("kvm-host-guest.vmcore"));
  expect(status).toBe(0);
  expect(stdout).toContain("24.3 MiB of guest memory");
});
