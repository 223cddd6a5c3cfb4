import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ElfVmcore } from "../../src/dump/elf-vmcore.ts";
import { readElf } from "../../src/elf/header.ts";
import { FileSource } from "../../src/io/file.ts";

/** One VMCS of a real host dump, and what the running processor said of it. */
export interface RealVmcs {
  readonly address: number;
  readonly bytes: Buffer;
  /** Encoding → VMREAD, high halves of 64-bit fields left out. */
  readonly truth: ReadonlyMap<number, bigint>;
  /** KVM_GET_SREGS and KVM_GET_REGS of the vCPU, by name: `cr0`, `cs`, `gdt` … */
  readonly registers: ReadonlyMap<string, string>;
}

const root = process.env.GUESTCORE_DATA ?? join(import.meta.dirname, "../../../shared/data");
const zstd = spawnSync("zstd", ["--version"]).status === 0;

/** Why the dumps cannot be read here. */
export const whyNoVmxData: string | undefined = !existsSync(join(root, "vmx"))
  ? `no ${join(root, "vmx")}`
  : zstd
    ? undefined
    : "no zstd command";

/** The VMCSs of one dump, in the order of its list; vCPUs are told by their thread. */
export function realVmcss(name: "pattern-guest" | "linux-guest"): RealVmcs[] {
  const folder = join(root, "vmx", name);
  const temporary = mkdtempSync(join(tmpdir(), "guestcore-vmx-"));
  const file = join(temporary, "vmcore");
  try {
    const packed = join(folder, "vmcore.reduced.elf.zst");
    const run = spawnSync("zstd", ["-dq", "--long=27", packed, "-o", file], { encoding: "utf8" });
    if (run.status !== 0) throw new Error(run.stderr);
    const source = FileSource.open(file);
    const memory = new ElfVmcore(source, readElf(source));
    const registers = registersOf(readFileSync(join(folder, "truth/gt"), "latin1"));
    const dumps = readFileSync(join(folder, "truth/vmcsdump.txt"), "latin1")
      .split(/^vmcs /m)
      .slice(1);
    const found = dumps.map((dump) => {
      const address = Number(/pa=(0x[0-9a-f]+)/.exec(dump)![1]);
      const bytes = Buffer.alloc(4096);
      const state = memory.readPage(address, bytes);
      if (state !== "present") throw new Error(`VMCS at ${address} is ${state}`);
      const truth = new Map(
        [...dump.matchAll(/^(0x[0-9a-f]{4}) (0x[0-9a-f]+)$/gm)]
          .map(([, encoding, value]): [number, bigint] => [Number(encoding), BigInt(value!)])
          .filter(([encoding]) => encoding % 2 === 0),
      );
      const thread = / pid=(\d+)/.exec(dump)![1]!;
      return { address, bytes, truth, registers: matching(registers, thread, truth) };
    });
    source.close();
    return found;
  } finally {
    rmSync(temporary, { recursive: true });
  }
}

function registersOf(text: string): ReadonlyMap<string, string>[] {
  const vcpus: Map<string, string>[] = [];
  for (const [, index, name, value] of text.matchAll(/^vcpu(\d+)\.(\S+) (.*)$/gm)) {
    vcpus[Number(index)] ??= new Map();
    vcpus[Number(index)]!.set(name!, value!);
  }
  return vcpus;
}

/** The thread that ran a VMCS last tells the vCPU, unless it was the main thread: then RSP does. */
function matching(
  vcpus: readonly ReadonlyMap<string, string>[],
  thread: string,
  truth: ReadonlyMap<number, bigint>,
): ReadonlyMap<string, string> {
  const found =
    vcpus.find((vcpu) => vcpu.get("tid") === thread) ??
    vcpus.find((vcpu) => BigInt(vcpu.get("rsp")!) === truth.get(0x681c));
  if (found === undefined) throw new Error("no vCPU matches a VMCS");
  return found;
}
