import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { missing, repository } from "./tools.ts";

/** Where kernels, guests and cores are kept. */
export const labFolder = process.env.GUESTCORE_LAB ?? join(repository, ".lab");

export interface Kernel {
  readonly release: string;
  readonly vmlinuz: string;
  readonly vmlinux: string;
  readonly fwCfgModule: string;
  /** A folder of modules that the guests of the triage tests load. */
  readonly modules: string;
}

const linuxBuilders = ["busybox", "cpio"];

/** The newest kernel that fetch-kernel.sh unpacked. */
export function findKernel(note: (line: string) => void): Kernel | undefined {
  const absent = missing(linuxBuilders);
  const kernels = join(labFolder, "kernel");
  const releases = existsSync(kernels) ? readdirSync(kernels).filter((name) => /^\d/.test(name)) : [];
  const release = releases.sort((left, right) => left.localeCompare(right, "en", { numeric: true })).at(-1);
  if (absent.length > 0) {
    note(`no Linux guests: not installed: ${absent.join(", ")}`);
    return undefined;
  }
  if (release === undefined) {
    note(`no Linux guests: no kernel; run test/e2e/fetch-kernel.sh ${kernels}`);
    return undefined;
  }
  const file = (name: string) => join(kernels, release, name);
  return {
    release,
    vmlinuz: file("vmlinuz"),
    vmlinux: file("vmlinux"),
    fwCfgModule: file("qemu_fw_cfg.ko"),
    modules: file("modules"),
  };
}
