import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { PhysicalMemory } from "../../src/core/memory.ts";
import { ElfVmcore } from "../../src/dump/elf-vmcore.ts";
import { readElf } from "../../src/elf/header.ts";
import { readNotes } from "../../src/elf/notes.ts";
import { FileSource } from "../../src/io/file.ts";
import { spaceOfVmcoreinfo } from "../../src/kernel/kernel-tables.ts";
import { describeLinux } from "../../src/kernel/linux.ts";
import { type LinuxKernel, openKernel } from "../../src/kernel/open-kernel.ts";
import { KernelReader } from "../../src/kernel/reader.ts";
import { Vmcoreinfo } from "../../src/kernel/vmcoreinfo.ts";

const root = process.env.GUESTCORE_DATA ?? join(import.meta.dirname, "../../../shared/data");

const missing = ["zstd", "xz"].find((command) => spawnSync(command, ["--version"]).status !== 0);

/** Why the dump in a folder of the shared data cannot be read here. */
export const whyNoHostDump = (folder: string): string | undefined =>
  existsSync(join(root, folder)) ? missing && `no ${missing} command` : `no ${join(root, folder)}`;

/** A dump of a real host, unpacked while it is open. */
export interface HostDump {
  /** Of the unpacked file. */
  readonly path: string;
  readonly memory: PhysicalMemory;
  readonly vmcoreinfo: Vmcoreinfo;
  readonly reader: KernelReader;
  /** The kernel read from other memory, such as a damaged copy of this. */
  readerOf(memory: PhysicalMemory): KernelReader;
  /** A file of its ground truth, as Latin-1; `.xz` is unpacked. */
  truth(name: string): string;
  truthBytes(name: string): Buffer;
  close(): void;
}

export function openHostDump(folder: string, packed: string): HostDump {
  const temporary = mkdtempSync(join(tmpdir(), "guestcore-host-"));
  const file = join(temporary, "vmcore");
  const run = spawnSync("zstd", ["-dq", "--long=27", join(root, folder, packed), "-o", file], {
    encoding: "utf8",
  });
  if (run.status !== 0) throw new Error(run.stderr);
  const source = FileSource.open(file);
  const elf = readElf(source);
  const memory = new ElfVmcore(source, elf);
  const vmcoreinfo = new Vmcoreinfo(
    readNotes(source, elf).notes.find(({ name }) => name === "VMCOREINFO")!.desc,
  );
  const readerOf = (of: PhysicalMemory) => new KernelReader(of, spaceOfVmcoreinfo(of, vmcoreinfo)!);
  const at = (name: string) => join(root, folder, "truth", name);
  return {
    path: file,
    memory,
    vmcoreinfo,
    reader: readerOf(memory),
    readerOf,
    truth(name) {
      if (!name.endsWith(".xz")) return readFileSync(at(name), "latin1");
      return spawnSync("xz", ["-dc", at(name)], { encoding: "latin1", maxBuffer: 2 ** 28 }).stdout;
    },
    truthBytes: (name) => readFileSync(at(name)),
    close() {
      source.close();
      rmSync(temporary, { recursive: true });
    },
  };
}

/** The host's kernel, by nothing but the dump. */
export async function kernelOf({ memory, vmcoreinfo }: HostDump): Promise<LinuxKernel> {
  const image = await describeLinux(memory, { vmcoreinfo, states: [] });
  const { kernel, reason } = openKernel(memory, { image: image!, vmcoreinfo });
  if (kernel === undefined) throw new Error(reason);
  return kernel;
}
