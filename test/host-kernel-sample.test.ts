import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { readVmcore } from "./support/read-vmcore.ts";
import { schemas } from "./support/schemas.ts";

/** The shipped dump of a host with its kernel's symbols, types and KVM's structures: all by the command line. */
const root = join(import.meta.dirname, "..");
const HOST = join(root, "samples/kvm-host-kernel.vmcore.zst");
const truth = readFileSync(join(root, "samples/kvm-host.truth.txt"), "latin1");
const folder = mkdtempSync(join(tmpdir(), "guestcore-test-"));
afterAll(() => rmSync(folder, { recursive: true }));

const guestcore = (...args: string[]): string =>
  execFileSync(process.execPath, [join(root, "bin/guestcore.js"), ...args, "-q"], {
    encoding: "utf8",
    cwd: folder,
    stdio: ["ignore", "pipe", "ignore"],
  });

function json(...args: string[]) {
  const document = JSON.parse(guestcore(...args, "--json"));
  const validate = schemas().getSchema(`${String(document.schema).split("/")[1]}.json`)!;
  expect(validate(document), JSON.stringify(validate.errors?.slice(0, 3))).toBe(true);
  return document.result;
}

const told = (vcpu: number, name: string): bigint =>
  BigInt(new RegExp(`^vcpu${vcpu}\\.${name.replace(/[[\]]/g, "\\$&")} (\\S+)$`, "m").exec(truth)![1]!);

const SLOTS = [
  ...truth.matchAll(/^slot(\d+) gpa=(\S+) size=(\S+) hva=(\S+) flags=(\d+) \S+ sha256=(\S+)/gm),
].map(([, id, start, size, hva, flags, hash]) => ({
  ...{ id: Number(id), start: Number(start), size: Number(size), hva: BigInt(hva!) },
  ...{ flags: Number(flags), hash: hash! },
}));

describe("samples/kvm-host-kernel", () => {
  const [guest] = json("guests", HOST, "--check").guests;

  test("KVM's list names the VM, its process and its memslots", () => {
    expect(guest).toMatchObject({ id: 1, pid: 154, process: "vmm", problems: [] });
    const slots = guest.memslots.map(({ id, start, end, hva, flags }: Record<string, number>) => ({
      ...{ id, start, size: end! - start!, hva: BigInt(hva!), flags },
    }));
    const byStart = SLOTS.map(({ hash, ...slot }) => slot).sort((a, b) => a.start - b.start);
    expect(slots).toEqual(byStart);
    expect(guest.agreement).toMatchObject({
      equal: 3222 * 4096,
      different: 0,
      slotsOnly: 39 * 4096,
      tablesOnly: 0,
    });
  });

  test.each([0, 1, 2, 3])("vCPU %d has every register that KVM told, and its thread", (vcpu) => {
    const { registers, system } = guest.registers[vcpu];
    for (const name of ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r15", "rip"]) {
      expect(BigInt(registers[name]), name).toBe(told(vcpu, name));
    }
    for (const name of ["cr0", "cr2", "cr4", "efer"])
      expect(BigInt(registers[name]), name).toBe(told(vcpu, name));
    expect(BigInt(registers.kernelGsBase)).toBe(told(vcpu, "msr[0xc0000102]"));
    expect(BigInt(system.star)).toBe(told(vcpu, "msr[0xc0000081]"));
    expect(BigInt(system.lstar)).toBe(told(vcpu, "msr[0xc0000082]"));
    expect(BigInt(system.cr8)).toBe(told(vcpu, "cr8"));
    expect(guest.vcpus[vcpu].thread ?? 0).toBe(Number(told(vcpu, "tid")));
  });

  test("the guest's memory is what the VMM saw, every byte of every slot", () => {
    guestcore("extract", HOST, "-o", "guest.vmcore");
    const { loads } = readVmcore(readFileSync(join(folder, "guest.vmcore")));
    for (const { start, size, hash } of SLOTS) {
      const whole = Buffer.alloc(size);
      for (const { paddr, bytes } of loads) {
        const at = Number(paddr) - start;
        if (at < size && at + bytes.length > 0) bytes.copy(whole, Math.max(0, at), Math.max(0, -at));
      }
      expect(createHash("sha256").update(whole).digest("hex")).toBe(hash);
    }
  });

  test("an inferred layout places no field wrongly that it is certain of, and yields the same guest", () => {
    const { fields } = json("vmcs", "layout", "infer", HOST, "-o", "inferred.txt");
    const measured = readFileSync(join(root, "samples/kvm-host.vmcsinfo.txt"), "latin1");
    const places = new Map(
      [...measured.matchAll(/^(0x\w+) (0x\w+) /gm)].map(([, encoding, offset]) => [
        Number(encoding),
        Number(offset),
      ]),
    );
    const certain = fields.filter(({ certainty }: { certainty: string }) => certainty === "certain");
    expect(certain.length).toBeGreaterThan(20);
    for (const { encoding, offset } of certain)
      expect(offset, `${encoding}`).toBe(places.get(Number(encoding)));
    guestcore("extract", HOST, "--vmcsinfo", "inferred.txt", "-o", "inferred.vmcore");
    const [one, other] = ["guest.vmcore", "inferred.vmcore"].map((name) =>
      readVmcore(readFileSync(join(folder, name))),
    );
    const memory = (vmcore = one!) => Buffer.concat(vmcore.loads.map(({ bytes }) => bytes));
    expect(memory(other).equals(memory(one))).toBe(true);
  });

  test("the kernel tells its release, symbols, types and tasks", () => {
    const kernel = json("kernel", HOST, "--symbol", "vm_list", "--type", "kvm_vcpu.arch.regs");
    expect(kernel).toMatchObject({ linux: { release: { value: "6.1.0-56-cloud-amd64" } } });
    expect(guestcore("kernel", HOST, "--tasks")).toContain("vmm");
  });

  test("a core of the VMM is written", () => {
    guestcore("gcore", HOST, "--pid", "154", "-o", "vmm.core");
    expect(existsSync(join(folder, "vmm.core"))).toBe(true);
    expect(guestcore("info", "vmm.core")).toMatch(/vmm/);
  });
});
